//! What a function would do with a finding, and the check of what it needs: reads only.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Hub, Tighten};
use crate::action::AnyAction;
use crate::action::{Action, Applied, Context, GroupPurpose, KnownGroup, Of};
use crate::actions::ec2::create_group::CreateGroup;
use crate::actions::ec2::empty_group::{Direction, EmptyGroup};
use crate::authenticate::Authenticity;
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::finding::Finding;
use crate::guard::Ruling;
use crate::ids::{AccountId, Region, RunId, VpcId};
use crate::ledger::Hold;
use crate::plan::Plan;
use crate::playbook::{Planned, Playbook};
use crate::target::Target;

/// The real plan for a finding and a target, and what the guard says of it.
#[derive(Debug)]
pub struct Preview {
    /// The playbook's id.
    pub playbook: &'static str,
    /// The target.
    pub target: Target,
    /// Whether GuardDuty has the finding; the reason when not.
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

    /// Makes the same plan that an event would make, and asks the guard; changes nothing, records nothing.
    ///
    /// # Errors
    /// When the ledger or the account cannot be read.
    pub async fn preview(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
    ) -> Result<Preview, Failure> {
        let now = Timestamp::now();
        let id = playbook.meta().id;
        let run = RunId::new();
        let engine = self.engine(playbook, Instant::now() + Duration::from_secs(60));
        let (authenticity, known, reading) = tokio::join!(
            self.authenticator.check(&self.aws, finding),
            self.known(id, target, now),
            engine.reading(&run, &target.account, target.region.as_ref()),
        );
        let (known, reading) = (known?, reading?);
        let (genuine, finding) = match authenticity {
            Authenticity::Genuine(genuine) => (Ok(()), *genuine),
            Authenticity::Absent => (Err("GuardDuty does not have this finding".to_owned()), finding.clone()),
            Authenticity::Differs(how) => {
                (Err(format!("GuardDuty's finding of this id is another: {how}")), finding.clone())
            }
            Authenticity::TurnedAway(away) => (Err(away.to_string()), finding.clone()),
            Authenticity::Unknown(failure) => (Err(failure.brief()), finding.clone()),
        };
        let cx = self.plan_context(&reading, &known.view.groups, None);
        let plan = match playbook.plan(&cx, target, &finding).await? {
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
                let (plan, ruling) = self.rule(&known, id, &finding, plan, now, &tighten);
                (Ok(plan), Some(ruling))
            }
        };
        Ok(Preview { playbook: id, target: target.clone(), genuine, plan, ruling, hold: known.view.hold })
    }

    /// Whether a playbook's role in an account can be assumed, and reads.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe_role(
        &self,
        playbook: &'static dyn Playbook,
        account: &AccountId,
        region: &Region,
    ) -> Result<Aws, Failure> {
        let engine = self.engine(playbook, Instant::now() + Duration::from_secs(60));
        engine.reading(&RunId::new(), account, Some(region)).await
    }

    /// Whether the published policy set is in force: the hash of the set that answers.
    ///
    /// # Errors
    /// What is wrong with the published one.
    pub async fn probe_policy(&self) -> Result<String, String> {
        let fetched = self.policies.fetch(&self.aws).await;
        let accepted = self.ledger.accepted_policy().await.map_err(|failure| failure.brief())?;
        let choice = self.policies.choose(fetched, accepted.as_deref());
        match choice.problem {
            Some(problem) => Err(problem),
            None => choice.set.validate().map(|()| choice.set.sha256.clone()).map_err(|error| error.to_string()),
        }
    }

    /// Makes the quarantine group of a VPC ahead, records it, and leaves it without rules. What is there
    /// already is only emptied.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn onboard(
        &self,
        playbook: &'static dyn Playbook,
        account: &AccountId,
        region: &Region,
        vpc: &VpcId,
    ) -> Result<KnownGroup, Failure> {
        let purpose = GroupPurpose::Quarantine;
        let run = RunId::new();
        let engine = self.engine(playbook, Instant::now() + Duration::from_secs(60));
        let known = self.ledger.groups(account, Some(region)).await?;
        let group = match KnownGroup::find(&known, vpc, purpose) {
            Some(id) => KnownGroup { vpc: vpc.clone(), id: id.clone(), purpose },
            None => {
                let step = CreateGroup { vpc: vpc.clone(), purpose }.step(&None);
                let sessions = engine.writing(&run, account, Some(region), &[&step], &[]).await;
                let cx = Context { aws: sessions.of(&step.id)?, run: &run, made: &[] };
                match Of::<CreateGroup>::NEW.apply(&cx, &step, true).await? {
                    Applied::Changed { made: Some(made), .. } | Applied::AlreadySo { made: Some(made) } => {
                        self.ledger.record_group(account, region, &made, false).await?;
                        made
                    }
                    _ => return Err(Failure::new(Class::Refused, "make the quarantine group of", vpc.as_str())),
                }
            }
        };
        for direction in Direction::BOTH {
            let action = EmptyGroup { vpc: vpc.clone(), group: Some(group.id.clone()), purpose, direction };
            let step = action.step(&None);
            let sessions = engine.writing(&run, account, Some(region), &[&step], std::slice::from_ref(&group)).await;
            let cx = Context { aws: sessions.of(&step.id)?, run: &run, made: &[] };
            Of::<EmptyGroup>::NEW.apply(&cx, &step, false).await?;
        }
        Ok(group)
    }
}
