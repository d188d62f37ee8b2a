//! `firebreak explain`: what would answer each finding, from the files alone.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use firebreak::finding::{Control, Finding, Product, Resource, State, Trigger};
use firebreak::guard::{self, Known, Policies};
use firebreak::hub::{why_only_proposed, why_unanswered};
use firebreak::ids::AccountId;
use firebreak::plan::{Leave, Undo};
use firebreak::playbook::{Playbook, Purpose};
use firebreak::run::Mode;
use firebreak::screen::screen;
use firebreak::target::Target;
use jiff::Timestamp;
use serde::Serialize;

use crate::connect::playbooks;

/// One line of output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    file: &'a str,
    kind: Option<&'a str>,
    finding: Option<Brief<'a>>,
    answers: Vec<Answer>,
    notify: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Brief<'a> {
    id: &'a str,
    r#type: &'a str,
    severity: f64,
    account: &'a str,
    region: &'a str,
    sample: bool,
    state: State,
    source: &'a str,
    /// What Security Hub calls the product that imported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<&'a Product>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<&'a Control>,
    #[serde(skip_serializing_if = "<[Resource]>::is_empty")]
    resources: &'a [Resource],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    signals: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) playbook: &'static str,
    pub(crate) target: Shown,
    pub(crate) decision: Mode,
    pub(crate) reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    kind: &'static str,
    pub(crate) id: String,
    account: String,
    region: String,
}

/// What answers findings from a policy set alone.
pub(crate) struct Explainer {
    pub(crate) policies: Policies,
    pub(crate) hub_account: Option<AccountId>,
    pub(crate) at: Option<Timestamp>,
}

pub(crate) fn run(
    files: &[PathBuf],
    policy: Option<PathBuf>,
    hub_account: Option<AccountId>,
    at: Option<Timestamp>,
) -> Result<bool> {
    let policies = match policy {
        None => Policies::default(),
        Some(path) => crate::policy::read(&path)?,
    };
    policies.validate()?;
    if let (None, Some(asking)) = (&hub_account, policies.asking_for_hub_account()) {
        writeln!(
            anstream::stderr(),
            "firebreak: give --hub-account: `{asking}` asks for the security account, which is not known here, so nothing is \
             enforced; and what is about it is answered as if it were about another account"
        )?;
    }
    let explainer = Explainer { policies, hub_account, at };
    let mut out = anstream::stdout().lock();
    let mut well = true;
    for path in files {
        for file in files_of(path)? {
            well &= explainer.file(&file, &mut out)?;
        }
    }
    Ok(well)
}

/// The file itself, or what is in the folder.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_dir() { files_in(path) } else { Ok(vec![path.to_owned()]) }
}

/// Every JSON file in a folder and the folders in it, by name. What links lead to is left alone.
pub(crate) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("could not read the folder {}", folder.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(read)? {
        let entry = entry.with_context(read)?;
        entries.push((entry.path(), entry.file_type().with_context(read)?));
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut found = Vec::new();
    for (path, kind) in entries {
        if kind.is_dir() {
            found.extend(files_in(&path)?);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

impl Explainer {
    /// Writes the lines of a file; whether all of it could be read.
    fn file(&self, path: &Path, out: &mut impl Write) -> Result<bool> {
        let name = path.display().to_string();
        let mut line = |line: &Line<'_>| -> Result<()> {
            writeln!(out, "{}", serde_json::to_string(line)?).context("could not write to standard output")
        };
        let nothing = Line { file: &name, kind: None, finding: None, answers: Vec::new(), notify: None, error: None };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                line(&Line { error: Some(format!("could not read the file: {error}")), ..nothing })?;
                return Ok(false);
            }
        };
        let reported = match Trigger::parse(&bytes) {
            Ok(Trigger::Findings(reported)) => reported,
            Ok(Trigger::Schedule) => {
                let notify = Some("the schedule: takes up what is due".to_owned());
                line(&Line { kind: Some("schedule"), notify, ..nothing })?;
                return Ok(true);
            }
            Ok(Trigger::Decision { .. }) => {
                let notify = Some("a decision: carried out by its id, which the decisions table must hold".to_owned());
                line(&Line { kind: Some("decision"), notify, ..nothing })?;
                return Ok(true);
            }
            Ok(Trigger::Drill { .. }) => {
                let notify = Some("a drill: held by its id, which the drills' table must hold".to_owned());
                line(&Line { kind: Some("drill"), notify, ..nothing })?;
                return Ok(true);
            }
            Err(error) => {
                line(&Line { error: Some(error.to_string()), ..nothing })?;
                return Ok(false);
            }
        };
        let mut well = true;
        for finding in &reported.findings {
            let kind = Some(reported.kind.as_str());
            match finding {
                Err(error) => {
                    well = false;
                    let nothing =
                        Line { file: &name, kind, finding: None, answers: Vec::new(), notify: None, error: None };
                    line(&Line { error: Some(error.to_string()), ..nothing })?;
                }
                Ok(finding) => {
                    let (answers, notify) = self.finding(finding, reported.envelope_account.as_ref());
                    let answering = playbooks().iter().find(|playbook| playbook.meta().check(finding).is_some());
                    let finding = &answering.map_or(finding.clone(), |playbook| playbook.meta().named(finding.clone()));
                    line(&Line { file: &name, kind, finding: Some(brief(finding)), answers, notify, error: None })?;
                }
            }
        }
        Ok(well)
    }

    /// What answers a finding, and what people are told where nothing does.
    pub(crate) fn finding(&self, finding: &Finding, envelope: Option<&AccountId>) -> (Vec<Answer>, Option<String>) {
        if let Some(away) = screen(finding, envelope, self.hub_account.as_ref()) {
            return (Vec::new(), Some(away.to_string()));
        }
        let mut answers: Vec<Answer> = playbooks()
            .iter()
            .flat_map(|playbook| {
                playbook.targets(finding).into_iter().map(move |target| self.answer(*playbook, target, finding))
            })
            .collect();
        let not_touched = finding.not_touched(|_| false);
        let notify = answers.is_empty().then(|| {
            let why = looked_up(finding).unwrap_or_else(|| why_unanswered(playbooks(), finding).to_owned());
            std::iter::once(why).chain(not_touched.iter().cloned()).collect::<Vec<_>>().join("; ")
        });
        for answer in &mut answers {
            answer.reasons.extend(not_touched.iter().cloned());
        }
        (answers, notify)
    }

    /// The guard's word where everything that is not known is taken at its strictest.
    fn answer(&self, playbook: &'static dyn Playbook, target: Target, finding: &Finding) -> Answer {
        let meta = playbook.meta();
        let finding = &meta.named(finding.clone());
        let known = Known {
            playbook: meta.id,
            target: &target,
            finding,
            supposed: self.at.or(finding.last_seen).unwrap_or_else(Timestamp::now),
            any_time: false,
            hub_account: self.hub_account.as_ref().map(AccountId::as_str),
        };
        let inexact = |leaves: &BTreeSet<Leave>| {
            let actions = playbook.actions().iter();
            actions
                .filter(|action| action.leave().is_none_or(|leave| leaves.contains(&leave)))
                .filter(|action| !matches!(action.undo_kind(), Undo::Exact))
                .map(|action| action.name().to_owned())
                .collect()
        };
        let mut strictest = guard::strictest(&self.policies, &known, inexact);
        if self.at.is_none() {
            // The answer is as of a time that was supposed: where another would give less, that is said.
            let at_any = guard::strictest(&self.policies, &Known { any_time: true, ..known }, inexact);
            if at_any.mode < strictest.mode {
                let by_time = at_any.reasons.into_iter().filter(|reason| !strictest.reasons.contains(reason));
                let by_time: Vec<String> = by_time.filter(|reason| reason.starts_with("the time")).collect();
                strictest.reasons.extend(by_time);
            }
        }
        if let Some(why) = why_only_proposed(finding) {
            strictest.mode = strictest.mode.min(Mode::Propose);
            strictest.reasons.push(why);
        }
        if strictest.mode == Mode::Enforce {
            let budget = "budgets: not known without AWS; a person is asked where those of the hour are spent";
            strictest.reasons.push(budget.to_owned());
            if meta.purpose == Purpose::Fix {
                let plan = "where its page says so, what a plan finds has a person asked first: `firebreak plan` looks";
                strictest.reasons.push(plan.to_owned());
            }
        }
        let region = target.region.as_ref().map_or("global", |region| region.as_str()).to_owned();
        Answer {
            playbook: meta.id,
            target: Shown { kind: target.kind.as_str(), id: target.id, account: target.account.into(), region },
            decision: strictest.mode,
            reasons: strictest.reasons,
        }
    }
}

/// What is said of a finding whose targets are looked up in the account: what the policies say of each is not known without.
fn looked_up(finding: &Finding) -> Option<String> {
    let meta = playbooks().iter().find(|playbook| playbook.looks_up(finding))?.meta();
    let kinds: Vec<&str> = meta.kinds.iter().map(|kind| kind.as_str()).collect();
    Some(format!(
        "{} answers it; which {} it is about has to be looked up in the account: `firebreak plan` does so",
        meta.id,
        kinds.join(" or ")
    ))
}

fn brief(finding: &Finding) -> Brief<'_> {
    Brief {
        id: finding.id.as_str(),
        r#type: &finding.finding_type,
        severity: finding.severity,
        account: finding.account.as_str(),
        region: finding.region.as_str(),
        sample: finding.sample,
        state: finding.state,
        source: finding.source.as_str(),
        product: finding.product.as_ref(),
        control: finding.control.as_ref(),
        resources: &finding.resources,
        signals: &finding.signals,
        request: finding.request.as_deref(),
    }
}
