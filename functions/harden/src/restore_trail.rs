//! # Have a stopped trail record again
//!
//! ## What it answers
//!
//! Controls and rules that say that no trail records what is done in an account (CloudTrail.1, CloudTrail.3,
//! `multi-region-cloudtrail-enabled`, `cloudtrail-enabled`). They name the account: its own trails that were stopped are
//! looked up, and each is a target.
//!
//! ## What it does
//!
//! Starts the trail.
//!
//! ## What may break
//!
//! Nothing; what a trail writes costs money. Where another trail records already, or several are stopped, one may be meant to
//! be: then a person is asked.
//!
//! ## How it is undone
//!
//! The trail is stopped again.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! Trails of the organization, which only its management account changes; the events that a trail selects. It makes no
//! trail: an account that has none to start is left as it is. What was not recorded meanwhile is lost.
//!
//! ## Drill
//!
//! There is none of its own: `cargo test --test laws` has the worlds.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/cloudtrail-controls.html>
//! - <https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_StartLogging.html>

use aws_sdk_cloudtrail::types::Trail;
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::cloudtrail::start_logging::{StartLogging, records};
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::TrailName;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};
use futures_util::future::try_join_all;

use crate::fix::{Fix, id_of};
use crate::trails::{self, is_at_home, is_own, seen, tags_of};

/// Has a stopped trail record again.
#[derive(Debug)]
pub struct RestoreTrail;

const EVERYWHERE: Check = Check {
    control: Some("CloudTrail.1"),
    also: &["cis-aws-foundations-benchmark/v/1.2.0/2.1", "cis-aws-foundations-benchmark/v/1.4.0/3.1"],
    rule: Some(("MULTI_REGION_CLOUD_TRAIL_ENABLED", "multi-region-cloudtrail-enabled")),
};
const ANYWHERE: Check = Check {
    control: Some("CloudTrail.3"),
    also: &["PCI.CloudTrail.2"],
    rule: Some(("CLOUD_TRAIL_ENABLED", "cloudtrail-enabled")),
};

impl Fix for RestoreTrail {
    const META: Meta = Meta {
        id: "restore-trail",
        title: "Have a stopped trail record again",
        purpose: Purpose::Fix,
        kinds: &[TargetKind::CloudTrailTrail],
        hold: "restore-trail",
        rechecks: &[],
        triggers: &[],
        controls: &[EVERYWHERE, ANYWHERE],
        concerns: &[],
        reads: &[
            Permission::read("cloudtrail:DescribeTrails"),
            Permission::on("cloudtrail:ListTags", &["cloudtrail:*:*:trail/*"]),
            Permission::read("config:DescribeConfigRules"),
        ],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<StartLogging>::NEW];

    fn target(resource: &Resource, _: &Finding) -> Option<Target> {
        trails::target(resource)
    }

    fn stands_for_targets(resource: &ResourceId) -> bool {
        matches!(resource, ResourceId::Account(_))
    }

    /// Every Region in which a trail should record reports it: the trail has one home, so all of them are about one target.
    async fn look_up(member: &Aws, finding: &Finding) -> Result<Vec<Resource>, Failure> {
        let own = seen(member).await?.into_iter().filter(|(_, trail)| is_own(trail, member));
        let own = own.filter(|(_, trail)| Self::META.check(finding).is_some_and(|check| counts(check, trail)));
        let own: Vec<(TrailName, Trail)> = own.collect();
        let stopped = try_join_all(own.into_iter().map(|(name, trail)| async move {
            let arn = trail.trail_arn().unwrap_or_default();
            let records = gone_is_none(records(member, arn).await)?;
            let home = trail.home_region().and_then(|home| home.parse().ok());
            let resource = Resource { id: ResourceId::Trail(name), account: finding.account.clone(), region: home };
            Ok((records == Some(false)).then_some(resource))
        }));
        Ok(stopped.await?.into_iter().flatten().collect())
    }

    async fn plan(
        cx: &PlanContext<'_>,
        target: &Target,
        _: &Finding,
        check: &'static Check,
    ) -> Result<Planned, Failure> {
        let name: TrailName = id_of(target)?;
        let (seen, tags) = tokio::join!(seen(cx.aws), tags_of(cx.aws, &name));
        let seen = seen?;
        let found = seen.iter().find(|one| is_at_home(&name, one, cx.aws));
        let (Some(tags), Some((_, trail))) = (tags?, found) else {
            return Ok(Planned::Gone(format!("account {} has no trail {name} of its own", target.account)));
        };
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.tags = tags;
        let of = |trail: &Trail| trail.trail_arn().unwrap_or_default().to_owned();
        if records(cx.aws, &of(trail)).await? {
            return Ok(Planned::Plan(plan));
        }
        if !counts(check, trail) {
            plan.notes
                .push(format!("{name} records in one Region, and the control asks for a trail that records in all"));
            return Ok(Planned::Plan(plan));
        }
        let others = seen.iter().filter(|(_, other)| of(other) != of(trail) && counts(check, other));
        let others = others.map(|(other, found)| {
            let arn = of(found);
            async move { (other, cx.optional(records(cx.aws, &arn)).await) }
        });
        for (other, records) in futures_util::future::join_all(others).await {
            plan.ask_first.extend(match records {
                Ok(true) => Some(format!("trail {other} records already, so {name} may be stopped on purpose")),
                Ok(false) => Some(format!("trail {other} is stopped as well, and one of them may be enough")),
                Err(why) => Some(format!("whether trail {other} records is not known: {why}")),
            });
        }
        plan.remains.push("what was done while nothing recorded it is in no trail".to_owned());
        plan.stage("start", [StartLogging { trail: name }.step(&false)]);
        Ok(Planned::Plan(plan))
    }
}

/// Whether a trail would do, if it recorded: one in a single Region does not answer the control that asks for all.
fn counts(check: &Check, trail: &Trail) -> bool {
    check.control != EVERYWHERE.control || trail.is_multi_region_trail() == Some(true)
}
