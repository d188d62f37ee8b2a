//! What stands in the tables: runs with their journals, holds, what joined them, due rows, decisions. Firebreak writes
//! them itself, and an older or newer version, or a person, may have.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use firebreak::door::wire::{Brief, ByHand};
use firebreak::drill::{Drill, Drills};
use firebreak::finding::Finding;
use firebreak::ids::{AccountId, RunId};
use firebreak::ledger::decisions::{Decision, Verb};
use firebreak::ledger::{Budget, Ledger, Which};
use firebreak::plan::Plan;
use firebreak::run::{Mode, Run, RunHead, RunState};
use firebreak::target::Target;
use firebreak_tests::emulator::workspace;
use firebreak_tests::in_process::finding_in;
use firebreak_tests::regressions;
use firebreak_tests::spoil::{Spoil, runner, spoils, spoilt};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::memory::{Bound, bounded};
use crate::{CASES, try_all};

const BOUND: Bound = Bound { bytes: 64, count: 8 };

/// A table that answers every call with the same, and keeps what it was asked.
#[derive(Debug, Clone, Default)]
struct Table {
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl HttpConnector for Table {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap_or_default();
        self.asked.lock().unwrap().push(serde_json::from_slice(body).unwrap_or_default());
        let answer = SdkBody::from(self.answer.lock().unwrap().clone());
        HttpConnectorFuture::ready(Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), answer)))
    }
}

impl HttpClient for Table {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Table {
    fn client(&self) -> Client {
        let config = crate::handler::sdk_config(SharedHttpClient::new(self.clone()));
        Client::new(&config)
    }

    fn answers(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> Value {
        Value::Array(std::mem::take(&mut *self.asked.lock().unwrap()))
    }
}

fn finding() -> Finding {
    let text = std::fs::read_to_string(workspace().join("events/guardduty/command-and-control.json")).unwrap();
    finding_in(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn target() -> Target {
    "aws/222222222222/eu-west-1/ec2-instance/i-00000001".parse().unwrap()
}

fn head() -> RunHead {
    let mut plan = Plan::new("isolate-instance", target());
    let step: firebreak::plan::Step = serde_json::from_value(json!({
        "id": "ec2.replace-interface-groups eni-00000001", "action": "ec2.replace-interface-groups",
        "args": {"interface": "eni-00000001"}, "before": ["sg-00000001"],
        "change": {"what": "groups", "from": "sg-00000001", "to": "sg-00000002"}, "caveat": null, "needs": [],
        "leave": null, "cuts": true, "grants": [],
    }))
    .unwrap();
    plan.stage("cut", [step]);
    RunHead {
        id: RunId::new(),
        function: "contain-compute".to_owned(),
        playbook: plan.playbook.clone(),
        hold: String::new(),
        target: target(),
        finding: finding(),
        plan_hash: plan.hash(),
        plan,
        mode: Mode::Enforce,
        reasons: vec!["a policy".to_owned()],
        arrived_at: Timestamp::now(),
        leaves: Default::default(),
        hold_seconds: Some(3600),
        owner: Some("team".to_owned()),
        page: true,
        stopped: true,
    }
}

fn budget() -> Budget {
    Budget { account_per_hour: 5, total_per_hour: 20 }
}

/// The rows that Firebreak writes, by what they are.
struct Rows {
    run: Value,
    hold: Value,
    joined: Value,
    due: Value,
    decision: Value,
    drill: Value,
    group: Value,
}

/// As it writes them: taken from its own calls.
async fn rows() -> Rows {
    let table = Table::default();
    table.answers(b"{}".to_vec());
    let ledger = Ledger::new(table.client(), "ledger", "decisions");
    let (head, now) = (head(), Timestamp::now());
    ledger.claim(&head, None, Some(&head.finding), budget(), now).await.unwrap();
    let asked = table.asked();
    let writes = asked[0]["TransactItems"].as_array().unwrap();
    let put = |sort: &str| -> Value {
        let item = |write: &Value| write["Put"]["Item"].clone();
        let its = |item: &Value| item["sk"]["S"].as_str().is_some_and(|sk| sk.contains(sort));
        writes.iter().map(item).find(its).unwrap_or_else(|| panic!("no row {sort}: {asked}"))
    };
    let (mut run, joined, due) = (put("RUN"), put("JOINED#"), put("#lease#"));
    let at = |seconds: i64| (now + jiff::SignedDuration::from_secs(seconds)).to_string();
    let entry = |result: Value| json!({"S": result.to_string()});
    let step = head.plan.steps().next().unwrap();
    let (id, step) = (step.id.0.clone(), json!({"name": "more", "steps": [step]}));
    run["added"] = json!({"L": [{"S": step.to_string()}]});
    run["steps"] =
        json!({"M": {&id: entry(json!({"state": "changed", "after": [], "at": at(1), "after_ms": 5, "took_ms": 3}))}});
    run["undone"] = json!({"M": {&id: entry(json!({"state": "restored"}))}});
    let end = json!({
        "outcome": "contained", "at": at(1), "not_done": [], "remains": ["x"], "contained_after_ms": 1, "decided": "undone by x",
        "retry": false, "seen": [],
    });
    run["end"] = json!({"S": end.to_string()});
    run["past"] = json!({"S": json!([{"outcome": "contained", "at": at(1), "contained_after_ms": 1, "decided": null}]).to_string()});
    run["hold"] = json!({"S": json!({"until": at(9), "at": at(1), "by": "x"}).to_string()});
    for (name, millis) in [("held_at", 5), ("approved_at", 6), ("released_at", 7)] {
        run[name] = json!({"N": (now.as_millisecond() + millis).to_string()});
    }
    for (name, n) in [("tries", 2), ("interruptions", 1), ("reapplied", 3)] {
        run[name] = json!({"N": n.to_string()});
    }
    run["state"] = json!({"S": "held"});
    let hold = json!({
        "pk": {"S": "HOLD#x"}, "sk": {"S": "HOLD"}, "run": {"S": head.id.as_str()}, "state": {"S": "held"},
        "finding": {"S": head.finding.id.as_str()}, "plan_hash": {"S": head.plan_hash}, "outcome": {"S": "contained"},
        "released_at": {"N": now.as_millisecond().to_string()}, "rejected": {"M": {"x": {"N": "5.5"}}},
    });
    let by_hand =
        ByHand { playbook: "isolate-instance".to_owned(), target: target(), name: None, reason: "why".to_owned() };
    ledger.decide(&Decision::by_hand(by_hand, "arn:aws:iam::111111111111:user/ann", now)).await.unwrap();
    let decision = table.asked()[0]["TransactItems"][0]["Put"]["Item"].clone();
    assert!(decision["verb"]["S"] == "request", "{decision}");
    Drills::new(table.client(), "drills").begin(&Drill::new(target(), now), now).await.unwrap();
    let drill = table.asked()[0]["TransactItems"][0]["Put"]["Item"].clone();
    let group = json!({
        "pk": {"S": "GROUPS#x"}, "sk": {"S": "vpc-00000001#firebreak-quarantine#sg-00000001"}, "run": {"S": head.id.as_str()},
        "at": {"N": "5"},
    });
    Rows { run, hold, joined, due, decision, drill, group }
}

/// What is read of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Run,
    Runs,
    Hold,
    Joined,
    Due,
    Decision,
    Waiting,
    Drill,
    Groups,
    Stopped,
    Spent,
    Units,
    Policy,
}

const READS: [Read; 13] = [
    Read::Run,
    Read::Runs,
    Read::Hold,
    Read::Joined,
    Read::Due,
    Read::Decision,
    Read::Waiting,
    Read::Drill,
    Read::Groups,
    Read::Stopped,
    Read::Spent,
    Read::Units,
    Read::Policy,
];

impl Read {
    fn row(self, rows: &Rows) -> &Value {
        match self {
            Self::Run | Self::Runs => &rows.run,
            Self::Hold | Self::Stopped | Self::Spent | Self::Units | Self::Policy => &rows.hold,
            Self::Joined => &rows.joined,
            Self::Due => &rows.due,
            Self::Decision | Self::Waiting => &rows.decision,
            Self::Drill => &rows.drill,
            Self::Groups => &rows.group,
        }
    }

    fn lists(self) -> bool {
        matches!(self, Self::Runs | Self::Joined | Self::Due | Self::Groups)
    }
}

/// Reads, and does with what was read what the loop and the door do with it. Whether something was read.
async fn read(what: Read, table: &Table) -> bool {
    let ledger = Ledger::new(table.client(), "ledger", "decisions");
    let now = Timestamp::now();
    let account: AccountId = "222222222222".parse().unwrap();
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    match what {
        Read::Run => ledger.run(&id.parse().unwrap()).await.ok().flatten().inspect(|run| look_at(run, now)).is_some(),
        Read::Runs => {
            let read = ledger.runs(20, None, Which::default()).await;
            read.ok().is_some_and(|(runs, next)| {
                runs.iter().for_each(|run| look_at(run, now));
                _ = next.map(|place| place.to_string());
                !runs.is_empty()
            })
        }
        Read::Hold => {
            let hold = ledger.hold("isolate-instance", &target()).await.ok().flatten();
            hold.inspect(|hold| _ = hold.was_rejected(&finding())).is_some()
        }
        Read::Joined => {
            let joined = ledger.joined("isolate-instance", &target()).await;
            _ = ledger.last_joined("isolate-instance", &target()).await;
            joined.is_ok_and(|joined| !joined.is_empty())
        }
        Read::Due => {
            let due = ledger.due("contain-compute", now).await;
            due.is_ok_and(|due| due.iter().map(firebreak::ledger::Due::at).count() > 0)
        }
        Read::Decision => ledger.decision("x").await.is_ok_and(|decision| decision.is_some()),
        Read::Waiting => ledger.waiting("x").await.is_ok(),
        Read::Drill => {
            let drill = Drills::new(table.client(), "drills").read("x").await.ok().flatten();
            drill.inspect(|drill| _ = drill.finding(&"eu-west-1".parse().unwrap())).is_some()
        }
        Read::Groups => {
            ledger.groups(&account, Some(&"eu-west-1".parse().unwrap())).await.is_ok_and(|groups| !groups.is_empty())
        }
        Read::Stopped => ledger.stopped().await.is_ok_and(|stop| stop.is_some_and(|stop| !stop.to_string().is_empty())),
        Read::Spent => ledger.spent("isolate-instance", &account, now).await.is_ok(),
        Read::Units => ledger.units(&account).await.is_ok(),
        Read::Policy => ledger.accepted_policy().await.is_ok(),
    }
}

/// What the loop, the schedule and the door ask of a run.
fn look_at(run: &Run, now: Timestamp) {
    let brief = Brief::of(run, now);
    serde_json::to_string(&(run, brief)).unwrap();
    _ = Verb::ALL.map(|verb| verb.why_not(run, now));
    let results = run.all_steps().filter_map(|step| run.result(&step.id)).count();
    _ = (
        run.stages().len(),
        results,
        run.is_put_back(),
        run.changed_anything(),
        run.counts_from(),
        run.is_expired(now),
    );
    _ = (run.is_given_back_by_drill(), run.newest_finding().what(), RunState::may_become(run.state, RunState::Undoing));
}

fn answer(what: Read, row: &Value, spoils: &[Spoil]) -> Vec<u8> {
    let whole = if what.lists() { json!({"Items": [row], "Count": 1}) } else { json!({"Item": row}) };
    spoilt(&whole, spoils)
}

/// The same, where what is spoilt is the JSON that stands in one of the row's attributes as text.
fn spoilt_inside(what: Read, row: &Value, which: Index, spoils: &[Spoil]) -> Option<Vec<u8>> {
    let inside = |text: &Value| {
        serde_json::from_str::<Value>(text["S"].as_str()?).ok().filter(|v| v.is_object() || v.is_array())
    };
    let fields: Vec<(&String, Value)> =
        row.as_object()?.iter().filter_map(|(name, value)| Some((name, inside(value)?))).collect();
    if fields.is_empty() {
        return None;
    }
    let (name, value) = &fields[which.index(fields.len())];
    let text = String::from_utf8(spoilt(value, spoils)).ok()?;
    let mut row = row.clone();
    row[name.as_str()] = json!({"S": text});
    Some(answer(what, &row, &[]))
}

#[test]
fn no_spoilt_row_makes_it_panic_or_costs_more_than_its_size_allows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(rows());
    let table = Table::default();
    for what in READS {
        table.answers(answer(what, what.row(&rows), &[]));
        let alike = !matches!(what, Read::Waiting | Read::Spent | Read::Units | Read::Policy);
        assert!(runtime.block_on(read(what, &table)) || !alike, "{what:?}: what Firebreak wrote cannot be read");
    }
    let strategy = (select(READS.to_vec()), prop::option::weighted(0.5, any::<Index>()), spoils());
    let runner = runner(CASES, 1000, regressions!("fuzz-rows"), 1024);
    try_all("spoilt rows", runner, &strategy, |(what, inside, spoils)| {
        let row = what.row(&rows);
        let inner = inside.and_then(|which| spoilt_inside(what, row, which, &spoils));
        let bytes = inner.unwrap_or_else(|| answer(what, row, &spoils));
        // An answer of DynamoDB's is 1 MB at most, and an item 400 KB.
        prop_assume!(bytes.len() <= 1_100_000);
        let size = bytes.len();
        table.answers(bytes);
        table.asked();
        bounded(size, BOUND, || runtime.block_on(read(what, &table))).map(|_| ())
    });
}

/// A time or a length at the end of what its type holds.
#[test]
fn a_run_whose_times_are_out_of_all_range_is_read_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(rows());
    let table = Table::default();
    for name in ["held_at", "lease_until", "approved_at", "released_at"] {
        for millis in ["253402207200000", "253402207199999", "-377705023201000", "0", "-1", "9223372036854775807", "x"]
        {
            for seconds in [json!(i64::MAX), json!(i64::MIN), json!(0), json!(null)] {
                let mut row = rows.run.clone();
                row[name] = json!({"N": millis});
                let mut head: Value = serde_json::from_str(row["head"]["S"].as_str().unwrap()).unwrap();
                head["hold_seconds"] = seconds;
                row["head"] = json!({"S": head.to_string()});
                // The policy's end counts only where no person has set another.
                row.as_object_mut().unwrap().remove("hold");
                table.answers(answer(Read::Run, &row, &[]));
                runtime.block_on(read(Read::Run, &table));
            }
        }
    }
}
