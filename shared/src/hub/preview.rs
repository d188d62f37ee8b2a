//! What a function would do with a finding, planned by a person's command: reads only.

use jiff::Timestamp;

use super::held::About;
use super::{Assessment, Hub, Tighten};
use crate::authenticate::Authenticity;
use crate::aws::Aws;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::guard::Ruling;
use crate::ids::{AccountId, Region};
use crate::ledger::Hold;
use crate::operator::{Operator, PLAN};
use crate::plan::Plan;
use crate::playbook::{Planned, Playbook};
use crate::session;
use crate::target::Target;

/// The real plan for a finding and a target, and what the guard says of it.
#[derive(Debug)]
pub struct Preview {
    /// The playbook's id.
    pub playbook: &'static str,
    /// The target.
    pub target: Target,
    /// Whether its source has the finding; the reason when not.
    pub genuine: Result<(), String>,
    /// The plan, or why there is none.
    pub plan: Result<Plan, String>,
    /// The guard's word, when there is a plan.
    pub ruling: Option<Ruling>,
    /// The hold on the target, if there is one.
    pub hold: Option<Hold>,
}

impl Hub {
    /// The playbooks that answer a finding, with their targets.
    pub fn answers(&self, finding: &Finding) -> Vec<(&'static dyn Playbook, Target)> {
        let of = |playbook: &&'static dyn Playbook| {
            let playbook = *playbook;
            playbook.targets(finding).into_iter().map(move |target| (playbook, target)).collect::<Vec<_>>()
        };
        self.playbooks.iter().flat_map(of).collect()
    }

    /// A finding with what it is about, where it does not name it and that has to be looked up in the account.
    ///
    /// # Errors
    /// When the account cannot be read.
    pub async fn looked_up(&self, by: &Operator, mut finding: Finding) -> Result<Finding, Failure> {
        if let Some(playbook) = self.playbooks.iter().copied().find(|playbook| playbook.looks_up(&finding)) {
            let member = self.planning(by, playbook, &finding.account, Some(&finding.region)).await?;
            let found = playbook.look_up(&member, &finding).await?;
            finding.resources.extend(found);
        }
        Ok(finding)
    }

    /// A session that reads for plans of a playbook, as the function's own would.
    ///
    /// # Errors
    /// When the operators' role in the account cannot be taken on.
    pub(super) async fn planning(
        &self,
        by: &Operator,
        playbook: &'static dyn Playbook,
        account: &AccountId,
        region: Option<&Region>,
    ) -> Result<Aws, Failure> {
        let policy = session::read_policy(playbook.permissions());
        by.session(&self.aws, PLAN, account, region.unwrap_or(&self.aws.region), &policy).await
    }

    /// Makes the same plan that an event would make, and asks the guard; changes nothing, records nothing.
    ///
    /// # Errors
    /// When the ledger or the account cannot be read.
    pub async fn preview(
        &self,
        by: &Operator,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
    ) -> Result<Preview, Failure> {
        let now = Timestamp::now();
        let id = playbook.meta().id;
        let reading = self.planning(by, playbook, &target.account, target.region.as_ref());
        let about = About { playbook, target, finding };
        let Assessment { known, authenticity, planned } = self.assess(about, reading, false, now).await;
        let (known, (_, planned)) = (known?, planned?);
        let (genuine, finding) = match authenticity {
            Authenticity::Genuine(genuine) => (Ok(()), *genuine),
            Authenticity::PutAside(genuine) => {
                let why = format!("it was {} in Security Hub since: a person is asked", super::put_aside(&genuine));
                (Err(why), *genuine)
            }
            Authenticity::Absent => {
                (Err(format!("{} does not have this finding", finding.source.name())), finding.clone())
            }
            Authenticity::Differs(how) => {
                (Err(format!("{}'s finding of this id is another: {how}", finding.source.name())), finding.clone())
            }
            Authenticity::TurnedAway(away) => (Err(away.to_string()), finding.clone()),
            Authenticity::Unknown(failure) => (Err(failure.brief()), finding.clone()),
            Authenticity::NotAsked(why) => (Err(why.to_owned()), finding.clone()),
        };
        let finding = playbook.meta().named(finding);
        let plan = match planned {
            Planned::Plan(plan) => Ok(plan),
            Planned::Gone(why) | Planned::Refused(why) => Err(why),
        };
        let (plan, ruling) = match plan {
            Err(why) => (Err(why), None),
            Ok(plan) => {
                let mut tighten = Tighten::default();
                if let Some(problem) = &known.policies.problem {
                    tighten.ask_a_person(format!("the published policy set cannot be used: {problem}"));
                }
                tighten.for_request(&finding);
                let (plan, ruling) = self.rule(&known, id, &finding, plan, now, &tighten);
                (Ok(plan), Some(ruling))
            }
        };
        Ok(Preview { playbook: id, target: target.clone(), genuine, plan, ruling, hold: known.view.hold })
    }
}
