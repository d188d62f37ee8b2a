//! What has to be so in every drill, whichever function is rehearsed and whoever the victim is.

use anyhow::{Result, anyhow};
use firebreak::evidence::{self, Stored};
use firebreak::ids::RunId;
use firebreak::ledger::decisions::Verb;
use firebreak::report::MOST_LINES;
use serde_json::{Value, json};

use super::facts::Topic;
use super::{Contained, Stage};
use crate::compare::differences;

impl Stage<'_> {
    /// Nothing has changed at all.
    pub fn check_unchanged(&mut self, topic: Topic, what: &str, before: &Value, after: &Value) {
        let shown: Vec<String> = differences(before, after).iter().map(|d| d.show(&self.names)).collect();
        self.same(topic, what, &json!([]), &json!(shown));
    }

    /// The records of a playbook's newest run: there, their chain whole, and none of them can be changed.
    pub async fn check_records(&mut self, playbook: &str) -> Result<Vec<Stored>> {
        let run = self.run_of(playbook)?;
        let records = self.lab.evidence(&run).await?;
        let verified = evidence::verify(&run.parse::<RunId>()?, &records);
        let found = verified.as_ref().map_or_else(Clone::clone, |_| format!("{} records", records.len()));
        let what = format!("the records of {playbook} are there and their chain is whole");
        self.holds(Topic::Evidence, &what, verified.is_ok(), found);
        let bucket = self.lab.stack.output("EvidenceBucket")?.to_owned();
        let mut locked = !records.is_empty();
        for record in &records {
            let key = format!("cases/{run}/{}", record.name);
            let head = self.lab.at_hub("s3", "head_object", json!({"Bucket": bucket, "Key": key})).await?;
            locked &= head["ObjectLockMode"] == "GOVERNANCE";
        }
        self.holds(Topic::Evidence, &format!("no record of {playbook} can be changed"), locked, "object lock");
        Ok(records)
    }

    /// The runs that there are: one of each of these playbooks, and no other.
    pub async fn check_runs(&mut self, topic: Topic, what: &str, playbooks: &[&str]) -> Result<()> {
        let rows = self.lab.runs().await?;
        let mut found: Vec<String> =
            rows.iter().map(|row| row.json("head")["playbook"].as_str().unwrap_or_default().to_owned()).collect();
        found.sort();
        self.same(topic, what, &json!(playbooks), &json!(found));
        Ok(())
    }

    /// The same finding twice at once, in two processes: it joins what these playbooks hold.
    pub async fn check_repeated(&mut self, incident: &Contained, playbooks: &[&str]) -> Result<()> {
        self.say("the same finding arrives twice more, at once");
        let event = self.lab.route(&incident.finding).await?.pop().ok_or_else(|| anyhow!("not delivered"))?;
        let mut second = self.lab.start().await?;
        let (one, two) = tokio::join!(self.function.invoke(event.clone()), second.invoke(event));
        let mut outcomes = one?.outcomes();
        outcomes.extend(two?.outcomes());
        let joined = vec!["no_change"; 2 * playbooks.len()];
        self.same(Topic::Repeated, "it joins what is held", &json!(joined), &json!(outcomes));
        let state = self.lab.state().await?;
        self.check_unchanged(Topic::Repeated, "a repeat changes nothing", &incident.after, &state);
        self.check_runs(Topic::Repeated, "a repeat is no second run", playbooks).await?;
        let messages = self.lab.messages().await?.len();
        self.same(Topic::Repeated, "a repeat wakes nobody", &json!(0), &json!(messages));
        Ok(())
    }

    /// A sample that GuardDuty has, an invented finding that it does not have, and one that it has about something else: all
    /// name the neighbour, and each of these playbooks refuses them.
    pub async fn check_forged(
        &mut self,
        incident: &Contained,
        playbooks: &[&str],
        sample: Value,
        invented: Value,
    ) -> Result<()> {
        let before = self.spent().await?;
        self.lab.put_in_guardduty(&sample).await?;
        let mut bent = invented.clone();
        bent["id"] = incident.finding["id"].clone();
        bent["arn"] = incident.finding["arn"].clone();
        for (what, finding) in [
            ("a sample finding", sample),
            ("a finding that GuardDuty does not have", invented),
            ("a genuine finding bent to something else", bent),
        ] {
            self.say(&format!("{what} arrives"));
            let event = self.lab.route(&finding).await?.pop().ok_or_else(|| anyhow!("not delivered"))?;
            let refused = self.function.invoke(event).await?.outcomes();
            let all = !refused.is_empty() && refused.iter().all(|outcome| outcome == "refused");
            self.holds(Topic::Repeated, &format!("{what} is refused"), all, refused.join(", "));
            let state = self.lab.state().await?;
            self.check_unchanged(Topic::Repeated, &format!("{what} changes nothing"), &incident.after, &state);
        }
        self.check_runs(Topic::Repeated, "none of them is a run", playbooks).await?;
        let now = self.spent().await?;
        self.same(Topic::Repeated, "none of them spends budget", &before, &now);
        let messages = self.lab.messages().await?;
        let what = "people are told of both forgeries, for each playbook";
        self.same(Topic::Repeated, what, &json!(2 * playbooks.len()), &json!(messages.len()));
        self.drill.messages.extend(messages.into_iter().map(|(_, text)| text));
        self.lab.outcome_events().await?;
        Ok(())
    }

    /// The ledger's budget rows.
    async fn spent(&self) -> Result<Value> {
        let rows = self.lab.rows().await?;
        let mut budgets: Vec<Value> =
            rows.into_iter().filter(|row| row.text("pk") == "BUDGET").map(|row| row.0).collect();
        budgets.sort_by_key(|row| row["sk"]["S"].as_str().unwrap_or_default().to_owned());
        Ok(Value::Array(budgets))
    }

    /// Every call of the timeline has a reason.
    pub fn check_reasons(&mut self) {
        let calls = self.drill.timeline.calls.iter();
        let reasonless: Vec<&str> =
            calls.filter(|call| call.reason.starts_with("NO REASON")).map(|call| call.call.as_str()).collect();
        let reasonless = json!(reasonless);
        self.same(Topic::Budget, "every call has a reason", &json!([]), &reasonless);
    }

    /// What people and machines were told about a run: an outcome event and a message.
    pub async fn check_told(&mut self, playbook: &str, outcome: &str, headline: &str) -> Result<()> {
        let events = self.lab.outcome_events().await?;
        let found: Vec<&Value> =
            events.iter().filter(|event| event["playbook"] == playbook).map(|event| &event["outcome"]).collect();
        self.same(Topic::Told, &format!("one outcome event about {playbook}"), &json!([outcome]), &json!(found));
        let messages = self.lab.messages().await?;
        let about: Vec<&(String, String)> = messages
            .iter()
            .filter(|(_, text)| text.lines().next().is_some_and(|line| line.contains(playbook)))
            .collect();
        let heads: Vec<&str> = about.iter().map(|(_, text)| text.split(':').next().unwrap_or_default()).collect();
        self.same(Topic::Told, &format!("one message about {playbook}"), &json!([headline]), &json!(heads));
        let longest = messages.iter().map(|(_, text)| text.lines().count()).max().unwrap_or(0);
        let fits = longest <= MOST_LINES && messages.iter().all(|(subject, _)| subject.len() <= 100);
        self.holds(Topic::Told, "a phone shows it: ten lines at most", fits, format!("{longest} lines"));
        self.drill.messages.extend(messages.into_iter().map(|(_, text)| text));
        Ok(())
    }

    /// Undoes the newest run of a playbook, and again, which is refused. Answers with the state after the undo.
    pub async fn check_undo(&mut self, playbook: &str) -> Result<Value> {
        let run = self.run_of(playbook)?;
        self.decide(playbook, Verb::Undo).await?;
        let undone = self.lab.state().await?;
        self.moment("undone", &undone)?;
        let state = self.state_of_run(playbook).await?;
        self.same(Topic::Undone, "the run is released", &json!("released"), &json!(state));
        self.check_told(playbook, "undone", "UNDONE").await?;
        let records = self.lab.evidence(&run).await?;
        let verified = evidence::verify(&run.parse::<RunId>()?, &records);
        let kept = verified.is_ok() && record_of(&records, "undone").is_some();
        let what = "the undo is in the evidence, its chain whole";
        self.holds(Topic::Undone, what, kept, format!("{} records", records.len()));
        let second = self.decide(playbook, Verb::Undo).await?.outcomes();
        self.same(Topic::Undone, "a second undo is refused", &json!(["refused"]), &json!(second));
        let state = self.lab.state().await?;
        self.check_unchanged(Topic::Undone, "a second undo changes nothing", &undone, &state);
        Ok(undone)
    }

    /// How the newest run of a playbook stands in the ledger.
    pub async fn state_of_run(&self, playbook: &str) -> Result<String> {
        let run = self.run_of(playbook)?;
        let rows = self.lab.runs().await?;
        let row = rows.iter().find(|row| row.run() == run).ok_or_else(|| anyhow!("the run {run} is gone"))?;
        Ok(row.text("state").to_owned())
    }
}

/// The text of the first record of this kind.
pub(super) fn record_of(records: &[Stored], kind: &str) -> Option<String> {
    let is_it = |text: &String| serde_json::from_str::<Value>(text).is_ok_and(|record| record["kind"] == kind);
    records.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).find(is_it)
}
