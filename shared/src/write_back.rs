//! Writing back into Security Hub what became of a finding: whoever works there sees what was done and what was not.
//!
//! A note on the finding, and its workflow status: `NOTIFIED` when something was contained, `RESOLVED` only for a fix that was
//! read back, `NEW` again when that was undone. Each update makes Security Hub send the finding once more. So only a run that
//! has changed something is written back, and each of its ends once: a repeat joins the run, and nothing comes of it.
//!
//! <https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchUpdateFindings.html>

use std::time::Duration;

use aws_sdk_securityhub::types as sh;

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::finding::{Finding, Product, Source};
use crate::ledger::{DueAt, DueKind};
use crate::playbook::{Playbook, Purpose};
use crate::report::Report;
use crate::run::{Outcome, Run, RunEnd, RunState};
use crate::text::plain;

/// Who a note says that it is by.
const WRITER: &str = "Firebreak";

/// The same of a finding that we have resolved. Until its control has passed such a one counts as live: what is opened again
/// before that would stay resolved in Security Hub, and be seen by nobody. Whoever has the member account can write this too;
/// it makes nothing laxer than the policies are.
pub(crate) const RESOLVER: &str = "Firebreak, which resolved it";

/// A note can have so many characters.
const LONGEST_NOTE: usize = 512;

/// Security Hub takes up a finding of GuardDuty's within five minutes. What is to be written on its copy waits for longer.
/// <https://docs.aws.amazon.com/guardduty/latest/ug/securityhub-integration.html>
const UNTIL_COPIED: Duration = Duration::from_secs(600);

/// A workflow status that we set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workflow {
    /// It is open again.
    New,
    /// Somebody knows.
    Notified,
    /// It is fixed.
    Resolved,
}

/// What is to be written on a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The finding's id in Security Hub.
    id: String,
    /// The ARN of its product there.
    product: String,
    /// Its new workflow status; none where it is to stay.
    workflow: Option<Workflow>,
    /// What is said; nothing where somebody else's note is to stay.
    text: Option<String>,
}

/// When the end of a run is to be written back, where it is news and its finding is one of Security Hub's. Where evidence was
/// kept it is not: whoever contains the target writes, and a finding has one note.
pub(crate) fn due(playbook: &dyn Playbook, run: &Run, end: &RunEnd) -> Option<DueAt> {
    let finding = &run.head.finding;
    identifier(finding)?;
    let before = run.end.as_ref().map(|end| end.outcome).or(run.past.last().map(|end| end.outcome));
    let changed = matches!(
        end.outcome,
        Outcome::Contained | Outcome::Partial | Outcome::Fixed | Outcome::Undone | Outcome::UndonePartly
    );
    let is_news = changed && before != Some(end.outcome) && playbook.meta().purpose != Purpose::Preserve;
    let wait = if finding.product.is_some() { Duration::ZERO } else { UNTIL_COPIED };
    is_news.then(|| DueAt { what: DueKind::WriteBack, at: end.at + wait })
}

/// The finding's id in Security Hub, and its product there.
fn identifier(finding: &Finding) -> Option<(String, String)> {
    let product = |name: &str| format!("arn:{}:securityhub:{}::product/aws/{name}", finding.partition, finding.region);
    match (&finding.product, finding.source) {
        // Its copy has the finding's own ARN for an id.
        (_, Source::GuardDuty) => Some((finding.arn.as_ref()?.to_string(), product("guardduty"))),
        (Some(Product::Aws(name)), _) => Some((finding.id.to_string(), product(name))),
        _ => None,
    }
}

impl Note {
    /// What the end of a run has to say.
    pub(crate) fn of(playbook: &dyn Playbook, run: &Run) -> Option<Self> {
        let finding = &run.head.finding;
        let (id, product) = identifier(finding)?;
        let purpose = playbook.meta().purpose;
        let end = run.end.as_ref()?;
        // What is under way is written back when it has ended.
        if matches!(run.state, RunState::Applying | RunState::Undoing) {
            return None;
        }
        // Of a control that is about several things one run says nothing of the others.
        let alone = finding.resources.len() == 1 && !playbook.looks_up(finding);
        let workflow = match (purpose, end.outcome) {
            (Purpose::Contain, Outcome::Contained | Outcome::Partial) => Some(Workflow::Notified),
            (Purpose::Fix, Outcome::Fixed) if alone => Some(Workflow::Resolved),
            (Purpose::Fix, Outcome::Fixed) => Some(Workflow::Notified),
            (Purpose::Fix, Outcome::Undone | Outcome::UndonePartly) if alone => Some(Workflow::New),
            _ => None,
        };
        let report = Report::of_run(run, end.outcome, purpose);
        Some(Self { id, product, workflow, text: Some(text(run, &report)) })
    }

    /// The same, given what the finding says there now: what somebody has put aside meanwhile stays so, only what we have
    /// resolved is opened again, and another's note stays.
    #[must_use]
    pub fn given(mut self, workflow: Option<&str>, writer: Option<&str>) -> Self {
        let fits = match self.workflow {
            Some(Workflow::New) => workflow == Some("RESOLVED") && writer == Some(RESOLVER),
            Some(Workflow::Notified | Workflow::Resolved) => matches!(workflow, Some("NEW" | "NOTIFIED")),
            None => true,
        };
        self.workflow = self.workflow.filter(|_| fits);
        self.text = self.text.filter(|_| writer.is_none_or(|writer| writer.starts_with(WRITER)));
        self
    }

    /// Writes it. A finding that Security Hub does not have is nobody's to read there.
    ///
    /// # Errors
    /// When Security Hub cannot be reached, or refuses.
    pub async fn write(&self, hub: &Aws) -> Result<(), Failure> {
        let failed = |class| Failure::new(class, "write back what became of finding", self.id.as_str());
        let identifier = sh::AwsSecurityFindingIdentifier::builder().id(&self.id).product_arn(&self.product).build();
        if self.workflow.is_none() && self.text.is_none() {
            return Ok(());
        }
        let writer = if self.workflow == Some(Workflow::Resolved) { RESOLVER } else { WRITER };
        let note = self.text.as_ref().map(|text| sh::NoteUpdate::builder().text(text).updated_by(writer).build());
        let status = self.workflow.map(|workflow| match workflow {
            Workflow::New => sh::WorkflowStatus::New,
            Workflow::Notified => sh::WorkflowStatus::Notified,
            Workflow::Resolved => sh::WorkflowStatus::Resolved,
        });
        let workflow = status.map(|status| sh::WorkflowUpdate::builder().status(status).build());
        let call = hub.securityhub().batch_update_findings();
        let call = call.finding_identifiers(identifier).set_note(note);
        let sent = call.set_workflow(workflow).send().await;
        let answer = match sent.map_err(Failure::from_sdk("write back what became of finding", &self.id)) {
            Ok(answer) => answer,
            // The account does not use Security Hub.
            Err(failure) if failure.code.as_deref() == Some("InvalidAccessException") => return Ok(()),
            Err(failure) => return Err(failure),
        };
        // HTTP 200 with failures inside.
        let Some(refused) = answer.unprocessed_findings().first() else { return Ok(()) };
        let code = refused.error_code().unwrap_or_default();
        if code == "FindingNotFound" {
            return Ok(());
        }
        let class = match code {
            "ConcurrentUpdateError" | "InternalFailure" => Class::Transient,
            _ => Class::Refused,
        };
        Err(Failure { code: Some(code.to_owned()), ..failed(class) })
    }
}

/// What was done, what was not, and how it is undone: as much of it as there is room for.
fn text(run: &Run, report: &Report) -> String {
    let head = &run.head;
    let mut said = format!(
        "{} ({}): {} {}, run {}.",
        report.outcome.as_str(),
        head.playbook,
        head.target.kind.as_str(),
        head.target.id,
        head.id
    );
    for (title, lines) in [("Not done", &report.not_done), ("Still open", &report.remains)] {
        if !lines.is_empty() {
            said.push_str(&format!(" {title}: {}.", lines.join("; ")));
        }
    }
    let undo = match run.state {
        RunState::Held => format!(" Undo: firebreak undo {}", head.id),
        _ => String::new(),
    };
    let room = LONGEST_NOTE - undo.len();
    let said = plain(&said, LONGEST_NOTE);
    if said.chars().count() <= room {
        return said + &undo;
    }
    let cut: String = said.chars().take(room - 1).collect();
    format!("{cut}…{undo}")
}
