//! What containment needs, looked at by a person's command before it is needed; and quarantine groups made ahead.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::TableStatus;
use aws_sdk_guardduty::types::DetectorStatus;
use jiff::Timestamp;

use super::Hub;
use crate::action::{Action, AnyAction, Applied, Context, GroupPurpose, KnownGroup, Of};
use crate::actions::ec2::create_group::CreateGroup;
use crate::actions::ec2::empty_group::{Direction, EmptyGroup, rules_of};
use crate::actions::ec2::{groups_there, why_lost};
use crate::actions::iam::attach_deny_policy::{AttachDenyPolicy, denies};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{AccountId, GroupId, Region, RunId, VpcId};
use crate::operator::{ONBOARD, Operator, onboard_permissions};
use crate::playbook::Playbook;
use crate::session;
use crate::text::{plain, quoted};

/// The bus on which decisions are sent.
const BUS: &str = "default";

/// How the quarantine groups of a VPC stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quarantine {
    /// The ledger has none.
    Unmade,
    /// The ledger has some, and none is of use any more.
    Lost {
        /// The first of them.
        group: GroupId,
        /// Why, in words.
        why: String,
    },
    /// There is one, or more where several runs made one each.
    There {
        /// Those that are where they were made, with how many rules each has; it should have none. The first is the
        /// one that is used next.
        groups: Vec<(GroupId, usize)>,
    },
}

impl Hub {
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

    /// Whether decisions have a table to be written into: its name.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe_decisions(&self) -> Result<String, String> {
        let name = &self.config.decisions_table;
        let asked = self.aws.dynamodb().describe_table().table_name(name).send().await;
        let answer = asked.map_err(Failure::from_sdk("describe table", name)).map_err(|failure| failure.brief())?;
        match answer.table().and_then(|table| table.table_status()) {
            Some(TableStatus::Active) => Ok(name.clone()),
            other => Err(format!("{name} is {}", other.map_or("in no state", TableStatus::as_str))),
        }
    }

    /// Whether messages reach anybody: how many have subscribed to the topic and confirmed it.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe_topic(&self) -> Result<u64, String> {
        let topic = &self.config.topic_arn;
        let asked = self.aws.sns().get_topic_attributes().topic_arn(topic).send().await;
        let answer = asked.map_err(Failure::from_sdk("read topic", topic)).map_err(|failure| failure.brief())?;
        let confirmed = answer.attributes().and_then(|attributes| attributes.get("SubscriptionsConfirmed"));
        match confirmed.and_then(|count| count.parse().ok()) {
            Some(0) | None => Err(format!("nobody has subscribed to {topic}: no message arrives anywhere")),
            Some(count) => Ok(count),
        }
    }

    /// Whether there is a bus to send decisions on: its name.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe_bus(&self) -> Result<String, String> {
        let asked = self.aws.events().describe_event_bus().name(BUS).send().await;
        let answer = asked.map_err(Failure::from_sdk("describe event bus", BUS)).map_err(|failure| failure.brief())?;
        answer.name().map(str::to_owned).ok_or_else(|| format!("there is no event bus {BUS}"))
    }

    /// What is not as every run needs it in the security account, in words; nothing when all is well. It changes nothing. That
    /// everything is stopped, or that nobody is named who is never contained, is how somebody wants it, and is no problem.
    pub async fn problems(&self) -> Vec<String> {
        let (ledger, decisions, policy, topic, bus, detector) = tokio::join!(
            self.ledger.accepted_policy(),
            self.probe_decisions(),
            self.probe_policy(),
            self.probe_topic(),
            self.probe_bus(),
            self.probe_detector(&self.aws.region),
        );
        let mut problems = Vec::new();
        let mut note = |what: &str, why: Option<String>| problems.extend(why.map(|why| format!("{what}: {why}")));
        note("ledger", ledger.err().map(|failure| failure.brief()));
        note("decisions", decisions.err());
        note("policy", policy.err());
        note("topic", topic.err());
        note("event bus", bus.err());
        note("GuardDuty", detector.err());
        problems
    }

    /// The security account's detector in a Region, when it is on.
    ///
    /// # Errors
    /// Why findings of the Region cannot be fetched again.
    pub async fn probe_detector(&self, region: &Region) -> Result<String, String> {
        let aws = self.aws.in_region(region.clone());
        let asked = aws.guardduty().list_detectors().send().await;
        let listed = asked.map_err(Failure::from_sdk("list the GuardDuty detectors of", region));
        let listed = listed.map_err(|failure| failure.brief())?;
        let Some(detector) = listed.detector_ids().first() else {
            return Err("there is no detector: findings of this Region cannot be fetched again".to_owned());
        };
        let asked = aws.guardduty().get_detector().detector_id(detector).send().await;
        let found = asked.map_err(Failure::from_sdk("read detector", detector)).map_err(|failure| failure.brief())?;
        match found.status() {
            Some(DetectorStatus::Enabled) => Ok(plain(detector, 64)),
            other => {
                Err(format!("detector {} is {}", plain(detector, 64), plain(other.map_or("off", |s| s.as_str()), 32)))
            }
        }
    }

    /// How accounts stand with the security account in GuardDuty, in one Region: `Ok` for those whose findings it
    /// has, else why not. `detector` is the security account's there.
    ///
    /// # Errors
    /// When GuardDuty cannot be asked.
    pub async fn probe_members(
        &self,
        region: &Region,
        detector: &str,
        accounts: &[AccountId],
    ) -> Result<BTreeMap<AccountId, Result<(), String>>, Failure> {
        let aws = self.aws.in_region(region.clone());
        let mut found = BTreeMap::new();
        // A call takes 50 accounts (GuardDuty API reference, `GetMembers`).
        for some in accounts.chunks(50) {
            let ids = some.iter().map(AccountId::to_string).collect();
            let asked = aws.guardduty().get_members().detector_id(detector).set_account_ids(Some(ids)).send().await;
            let answer = asked.map_err(Failure::from_sdk("read the GuardDuty members in", region))?;
            for account in some {
                let member = answer.members().iter().find(|member| member.account_id() == Some(account.as_str()));
                let stands = match member.and_then(|member| member.relationship_status()) {
                    Some(status) if status.eq_ignore_ascii_case("enabled") => Ok(()),
                    Some(status) => Err(format!("the account is {} as a member, not enabled", quoted(status))),
                    None => {
                        Err("the account is no member of the security account: its findings do not arrive".to_owned())
                    }
                };
                found.insert(account.clone(), stands);
            }
        }
        Ok(found)
    }

    /// Takes on the operators' role that plans, as this playbook would use it, and reads.
    ///
    /// # Errors
    /// When the role cannot be taken on, or may not read.
    pub async fn probe_plan(
        &self,
        by: &Operator,
        playbook: &'static dyn Playbook,
        account: &AccountId,
        region: &Region,
    ) -> Result<Aws, Failure> {
        let aws = self.planning(by, playbook, account, Some(region)).await?;
        // The read that every plan about an instance begins with; of users and roles there is no such one.
        if playbook.permissions().any(|permission| permission.action == "ec2:DescribeInstances") {
            let read = aws.ec2().describe_instances().max_results(5).send().await;
            read.map_err(Failure::from_sdk("read the instances of", account))?;
        }
        Ok(aws)
    }

    /// Whether the policy that contained users get denies everything; nothing where a playbook attaches none. `aws` is a
    /// session that may read as the playbook does.
    pub async fn probe_denial(playbook: &dyn Playbook, aws: &Aws) -> Option<Result<String, String>> {
        playbook.actions().iter().find(|action| action.name() == AttachDenyPolicy::NAME)?;
        Some(match denies(aws).await {
            Ok(true) => Ok("denies everything".to_owned()),
            Ok(false) => Err("absent, or somebody changed what it says: deploy the member template again".to_owned()),
            Err(failure) => Err(failure.brief()),
        })
    }

    /// Takes on the operators' role that onboards, in a session that reads.
    ///
    /// # Errors
    /// When it cannot be taken on.
    pub async fn onboarding(&self, by: &Operator, account: &AccountId, region: &Region) -> Result<Aws, Failure> {
        let policy = session::read_policy(onboard_permissions());
        by.session(&self.aws, ONBOARD, account, region, &policy).await
    }

    /// The VPCs in which there is something to contain: those with a network interface. `aws` is a session that may
    /// read in the account and Region.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn vpcs_in_use(aws: &Aws) -> Result<Vec<VpcId>, Failure> {
        let call = aws.ec2().describe_network_interfaces().max_results(1000);
        let found: Vec<_> = call
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(Failure::from_sdk("list the network interfaces of", &aws.account))?;
        let mut vpcs: Vec<VpcId> = found.iter().filter_map(|interface| interface.vpc_id()?.parse().ok()).collect();
        vpcs.sort();
        vpcs.dedup();
        Ok(vpcs)
    }

    /// How the quarantine groups of a VPC stand: `known` is what the ledger has of the account and Region, `aws` a
    /// session that may read there.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub async fn quarantine(&self, aws: &Aws, known: &[KnownGroup], vpc: &VpcId) -> Result<Quarantine, Failure> {
        let purpose = GroupPurpose::Quarantine;
        let known: Vec<&KnownGroup> = known.iter().filter(|k| k.vpc == *vpc && k.purpose == purpose).collect();
        let ids: Vec<GroupId> = known.iter().map(|known| known.id.clone()).collect();
        let (there, rules) = tokio::try_join!(groups_there(aws, &ids), rules_of(aws, &ids))?;
        let count = |id: &GroupId| rules.iter().filter(|rule| rule.group_id() == Some(id.as_str())).count();
        let mut groups = Vec::new();
        let mut lost = None;
        for known in known {
            match why_lost(known, &there, &aws.account) {
                None => groups.push((known.id.clone(), count(&known.id))),
                Some(why) => _ = lost.get_or_insert((known.id.clone(), why)),
            }
        }
        Ok(match (groups.is_empty(), lost) {
            (false, _) => Quarantine::There { groups },
            (true, Some((group, why))) => Quarantine::Lost { group, why },
            (true, None) => Quarantine::Unmade,
        })
    }

    /// Makes the quarantine group of a VPC ahead, records it, and leaves it without rules. Those that are there are only
    /// emptied; where none is of use any more another one is made. Answers with the one that is used next.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn onboard(
        &self,
        by: &Operator,
        account: &AccountId,
        region: &Region,
        vpc: &VpcId,
    ) -> Result<GroupId, Failure> {
        let purpose = GroupPurpose::Quarantine;
        let run = RunId::new();
        let (reading, known) =
            tokio::try_join!(self.onboarding(by, account, region), self.ledger.groups(account, Some(region)))?;
        let groups = match self.quarantine(&reading, &known, vpc).await? {
            Quarantine::There { groups } => groups.into_iter().map(|(group, _)| group).collect(),
            Quarantine::Unmade | Quarantine::Lost { .. } => {
                let make = CreateGroup { vpc: vpc.clone(), purpose };
                match self.step(by, account, region, &run, &make).await? {
                    Applied::Changed { made: Some(made), .. } | Applied::AlreadySo { made: Some(made) } => {
                        self.ledger.record_group(account, region, &made, Timestamp::now()).await?;
                        vec![made.id]
                    }
                    _ => return Err(Failure::new(Class::Refused, "make the quarantine group of", vpc.as_str())),
                }
            }
        };
        for group in &groups {
            for direction in Direction::BOTH {
                let empty = EmptyGroup { vpc: vpc.clone(), group: Some(group.clone()), purpose, direction };
                self.step(by, account, region, &run, &empty).await?;
            }
        }
        groups.into_iter().next().ok_or_else(|| Failure::new(Class::Bug, "onboard", vpc.as_str()))
    }

    /// Applies one action that starts from nothing, in a session of the operators' role narrowed to it.
    async fn step<A, S>(
        &self,
        by: &Operator,
        account: &AccountId,
        region: &Region,
        run: &RunId,
        action: &A,
    ) -> Result<Applied, Failure>
    where
        A: Action<State = Option<S>>,
    {
        let step = action.step(&None);
        let scope = self.aws.with_account(account.clone(), region.clone());
        let reads = A::PERMISSIONS.iter().map(|held| held.action).filter(|held| session::is_read(held)).collect();
        let narrowed =
            session::narrow(&[(step.id.clone(), action.grants(&scope, &None, &[]))], &[(step.id.clone(), reads)]);
        let [one] = narrowed.as_slice() else {
            return Err(Failure::new(Class::Bug, "narrow a session for", step.id.0));
        };
        let aws = by.session(&self.aws, ONBOARD, account, region, &one.policy).await?;
        let cx = Context { aws: &aws, run, made: &[], snapshots: Default::default() };
        Of::<A>::NEW.apply(&cx, &step, false).await
    }
}
