//! Scenarios of `harden`: a port that stands open, and a bucket that everybody may read.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::facts::Topic;
use super::{Contained, Stage};
use crate::compare::{entries, list};

const PORT: &str = "close-ingress";
const BUCKET: &str = "block-public-bucket";
/// The event files.
const OPEN_PORT: &str = "control-open-port";
const OPEN_BUCKET: &str = "control-bucket";

pub(super) async fn open_port(stage: &mut Stage<'_>) -> Result<()> {
    let incident = fixed(stage, OPEN_PORT).await?;
    let victim = stage.drill.victim.clone();
    let let_in = |state: &Value, everywhere: bool, port: i64| -> Vec<String> {
        let covers = |rule: &&Value| {
            let of = |name: &str| rule[name].as_i64().unwrap_or_default();
            rule["egress"] == false && rule["protocol"] == "tcp" && (of("from")..=of("to")).contains(&port)
        };
        let is_everywhere = |rule: &&Value| (rule["peer"] == "0.0.0.0/0" || rule["peer"] == "::/0") == everywhere;
        let rules = list(&state["security_groups"][&victim]["rules"]).filter(covers).filter(is_everywhere);
        let mut peers: Vec<String> = rules.filter_map(|rule| rule["peer"].as_str().map(str::to_owned)).collect();
        peers.sort();
        peers
    };
    let (before, after) = (&incident.before, &incident.after);
    let open = let_in(before, true, 22);
    stage.holds(Topic::Decided, "SSH stood open to everywhere", !open.is_empty(), open.join(", "));
    stage.same(Topic::Cut, "SSH is open to nobody that is only somewhere", &json!([]), &json!(let_in(after, true, 22)));
    stage.same(
        Topic::Untouched,
        "whom other rules let in to SSH comes in as before: the office, another group",
        &json!(let_in(before, false, 22)),
        &json!(let_in(after, false, 22)),
    );
    for port in [20, 21, 23, 25, 443] {
        let (was, is) = (let_in(before, true, port), let_in(after, true, port));
        stage.same(Topic::Untouched, &format!("port {port} is open as before"), &json!(was), &json!(is));
    }
    rest_of(stage, &incident, PORT, OPEN_PORT, "security_groups").await?;
    // EC2 makes a new rule where one is added again: all but the ids has to be as it was.
    rewound(stage, PORT, &incident.before, |state| {
        let mut state = state.clone();
        for (_, group) in state["security_groups"].as_object_mut().into_iter().flatten() {
            let mut rules: Vec<Value> = list(&group["rules"]).cloned().collect();
            rules.iter_mut().for_each(|rule| rule["id"] = Value::Null);
            rules.sort_by_key(Value::to_string);
            group["rules"] = json!(rules);
        }
        state
    })
    .await
}

pub(super) async fn public_bucket(stage: &mut Stage<'_>) -> Result<()> {
    let incident = fixed(stage, OPEN_BUCKET).await?;
    let victim = stage.drill.victim.clone();
    let on = |state: &Value| entries(&state["buckets"][&victim]["block"]).filter(|(_, on)| **on == json!(true)).count();
    stage.same(Topic::Decided, "nothing kept the public out", &json!(0), &json!(on(&incident.before)));
    stage.same(Topic::Cut, "all four settings keep the public out", &json!(4), &json!(on(&incident.after)));
    let policy = |state: &Value| state["buckets"][&victim]["policy"].clone();
    let what = "its policy is kept: it lets nobody in any more that is only somebody";
    stage.same(Topic::Untouched, what, &policy(&incident.before), &policy(&incident.after));
    rest_of(stage, &incident, BUCKET, OPEN_BUCKET, "buckets").await?;
    rewound(stage, BUCKET, &incident.before, Value::clone).await
}

/// A control fails, as Security Hub says it, and comes through the queue.
async fn fixed(stage: &mut Stage<'_>, file: &str) -> Result<Contained> {
    let finding = stage.lab.control(file, "victim")?;
    let incident = stage.contain_by(finding).await?;
    stage.moment("fixed", &incident.after)?;
    let again = incident.invoked.answer.as_ref().map_err(|error| anyhow!("{error}"))?["batchItemFailures"].clone();
    stage.same(Topic::Decided, "no message goes back into the queue", &json!([]), &again);
    Ok(incident)
}

/// What is alike for both.
async fn rest_of(stage: &mut Stage<'_>, incident: &Contained, playbook: &str, file: &str, kind: &str) -> Result<()> {
    let victim = stage.drill.victim.clone();
    let rest = |state: &Value| {
        let mut state = state.clone();
        state[kind][&victim] = Value::Null;
        state
    };
    stage.check_unchanged(
        Topic::Untouched,
        "nothing else has changed",
        &rest(&incident.before),
        &rest(&incident.after),
    );
    stage.check_runs(Topic::Decided, "one run", &[playbook]).await?;
    stage.check_told(playbook, "fixed", "FIXED").await?;
    stage.read_steps().await?;
    stage.check_reasons();
    stage.check_records(playbook).await?;

    stage.say("the same finding arrives again");
    let event = stage.lab.route(&incident.finding).await?.pop().ok_or_else(|| anyhow!("not delivered"))?;
    stage.function.invoke(event).await?;
    let state = stage.lab.state().await?;
    stage.check_unchanged(Topic::Repeated, "a repeat changes nothing", &incident.after, &state);
    stage.check_runs(Topic::Repeated, "a repeat is no second run", &[playbook]).await?;
    let messages = stage.lab.messages().await?.len();
    stage.same(Topic::Repeated, "a repeat wakes nobody", &json!(0), &json!(messages));
    stage.lab.outcome_events().await?;

    stage.say("a finding that Security Hub does not have arrives");
    let invented = stage.lab.control(file, "neighbour")?;
    let event = stage.lab.route(&invented).await?.pop().ok_or_else(|| anyhow!("not delivered"))?;
    stage.function.invoke(event).await?;
    let state = stage.lab.state().await?;
    stage.check_unchanged(Topic::Repeated, "an invented finding changes nothing", &incident.after, &state);
    stage.check_runs(Topic::Repeated, "it is no run", &[playbook]).await?;
    stage.check_told(playbook, "refused", "REFUSED").await
}

/// Undone, and as it was by `terms`.
async fn rewound(stage: &mut Stage<'_>, playbook: &str, before: &Value, terms: impl Fn(&Value) -> Value) -> Result<()> {
    if !stage.style.undo {
        return Ok(());
    }
    let undone = stage.check_undo(playbook).await?;
    stage.check_unchanged(Topic::Undone, "all is as it was", &terms(before), &terms(&undone));
    Ok(())
}
