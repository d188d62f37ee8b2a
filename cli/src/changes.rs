//! `firebreak policy check FILE --events DIR`: which answers change from the current policy set to another one.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use firebreak::finding::Trigger;
use firebreak::guard::Policies;
use firebreak::ids::AccountId;

use crate::connect::playbooks;
use crate::explain::{Explainer, files_in};

/// Prints what changes. Whether every event could be read.
pub(crate) fn print(
    file: &Path,
    current: Option<&Path>,
    events: &Path,
    hub_account: Option<AccountId>,
) -> Result<bool> {
    let current = match current {
        None => Policies::default(),
        Some(path) => crate::policy::read(path)?,
    };
    current.validate().context("the current set cannot be used")?;
    let next = crate::policy::read(file)?;
    if let (None, Some(asking)) =
        (&hub_account, next.asking_for_hub_account().or_else(|| current.asking_for_hub_account()))
    {
        // Nothing is enforced where it is not known, so nothing would seem to change.
        bail!("give --hub-account: `{asking}` asks for the security account, which is not known here");
    }
    let explainer = |policies| Explainer { policies, hub_account: hub_account.clone(), at: None };
    let (before, after) = (explainer(current), explainer(next));
    let (mut answers, mut changed, mut unread, mut looked_up) = (0, 0, 0, 0);
    let mut out = anstream::stdout().lock();
    for path in files_in(events)? {
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let name = path.strip_prefix(events).unwrap_or(&path).display();
        let reported = match Trigger::parse(&bytes) {
            Ok(Trigger::Findings(reported)) => reported,
            Ok(_) => continue,
            Err(error) => {
                unread += 1;
                writeln!(out, "{name}: not read: {error}")?;
                continue;
            }
        };
        for finding in &reported.findings {
            let finding = match finding {
                Ok(finding) => finding,
                Err(error) => {
                    unread += 1;
                    writeln!(out, "{name}: not read: {error}")?;
                    continue;
                }
            };
            let envelope = reported.envelope_account.as_ref();
            looked_up += usize::from(playbooks().iter().any(|playbook| playbook.looks_up(finding)));
            let (was, is) = (before.finding(finding, envelope).0, after.finding(finding, envelope).0);
            // The playbooks and targets are the same whatever the policies say.
            for (was, is) in was.iter().zip(&is) {
                answers += 1;
                if was.decision == is.decision {
                    continue;
                }
                changed += 1;
                let (from, to) = (was.decision.as_str(), is.decision.as_str());
                writeln!(out, "{name}: {} on {}: {from} → {to}", is.playbook, is.target.id)?;
                for reason in is.reasons.iter().filter(|reason| !was.reasons.contains(reason)) {
                    writeln!(out, "    {reason}")?;
                }
            }
        }
    }
    writeln!(out, "{changed} of {answers} answers change")?;
    if looked_up > 0 {
        writeln!(
            out,
            "of {looked_up} findings more the targets are looked up in the account: what changes there is not known"
        )?;
    }
    if unread > 0 {
        writeln!(out, "{unread} could not be read, so the exit status is 1")?;
    }
    Ok(unread == 0)
}
