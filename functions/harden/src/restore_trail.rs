//! # Have an account's trails record again
//!
//! ## What it answers
//!
//! Controls and rules that say that no trail records what is done in an account (CloudTrail.1, CloudTrail.3,
//! `cloudtrail-enabled`), or that its log files are not validated (CloudTrail.4,
//! `cloud-trail-log-file-validation-enabled`).
//!
//! ## What it does
//!
//! Starts the trail that was stopped. Where several were, a person is asked which. Or switches on the validation of log files
//! for each trail of the account in the Region that lacks it.
//!
//! ## What may break
//!
//! Nothing; what a trail writes costs money.
//!
//! ## How it is undone
//!
//! The trail is stopped again, or the validation switched off.
//!
//! ## What it will not touch
//!
//! Trails of the organization, which only its management account changes; trails of other Regions. It makes no trail: where
//! there is none to start, that is told. What was not recorded meanwhile is lost.
//!
//! ## Drill
//!
//! There is none of its own.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/cloudtrail-controls.html>
//! - <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-intro.html>

use aws_sdk_cloudtrail::types::Trail;
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::cloudtrail::start_logging::{StartLogging, records};
use firebreak::actions::cloudtrail::validate_log_files::ValidateLogFiles;
use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::TrailName;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::Target;

use crate::fix::Fix;

/// Has an account's trails record, and sign what they write.
#[derive(Debug)]
pub struct RestoreTrail;

const EVERYWHERE: Check = Check {
    control: Some("CloudTrail.1"),
    also: &["cis-aws-foundations-benchmark/v/1.2.0/2.1", "PCI.CloudTrail.2"],
    rule: Some(("MULTI_REGION_CLOUD_TRAIL_ENABLED", "multi-region-cloudtrail-enabled")),
};
const ANYWHERE: Check =
    Check { control: Some("CloudTrail.3"), also: &[], rule: Some(("CLOUD_TRAIL_ENABLED", "cloudtrail-enabled")) };
const VALIDATED: Check = Check {
    control: Some("CloudTrail.4"),
    also: &["cis-aws-foundations-benchmark/v/1.2.0/2.2", "PCI.CloudTrail.3"],
    rule: Some(("CLOUD_TRAIL_LOG_FILE_VALIDATION_ENABLED", "cloud-trail-log-file-validation-enabled")),
};

impl Fix for RestoreTrail {
    const META: Meta = Meta {
        id: "restore-trail",
        title: "Have an account's trail record again, and sign what it writes",
        purpose: Purpose::Fix,
        hold: "restore-trail",
        rechecks: &[],
        triggers: &[],
        controls: &[EVERYWHERE, ANYWHERE, VALIDATED],
        concerns: &[],
        reads: &[Permission::read("config:DescribeConfigRules")],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<StartLogging>::NEW, &Of::<ValidateLogFiles>::NEW];

    fn target(resource: &Resource, finding: &Finding) -> Option<Target> {
        match (&resource.id, &resource.region) {
            (ResourceId::Account(_), _) => Some(Target::account(resource.account.clone(), finding.region.clone())),
            (ResourceId::Trail(_), Some(region)) => Some(Target::account(resource.account.clone(), region.clone())),
            _ => None,
        }
    }

    async fn plan(
        cx: &PlanContext<'_>,
        target: &Target,
        _: &Finding,
        check: &'static Check,
    ) -> Result<Planned, Failure> {
        let mut plan = Plan::new(Self::META.id, target.clone());
        let trails = own(cx.aws).await?;
        if check.control == VALIDATED.control {
            let unsigned = trails.iter().filter(|(_, trail)| !trail.log_file_validation_enabled().unwrap_or_default());
            plan.stage(
                "validate",
                unsigned.map(|(name, _)| ValidateLogFiles { trail: name.clone() }.step(&false)).collect::<Vec<_>>(),
            );
            return Ok(Planned::Plan(plan));
        }
        let everywhere = check.control == EVERYWHERE.control;
        let mut stopped = Vec::new();
        for (name, _) in trails.iter().filter(|(_, trail)| !everywhere || trail.is_multi_region_trail() == Some(true)) {
            if records(cx.aws, name).await? {
                // One is enough.
                return Ok(Planned::Plan(plan));
            }
            stopped.push(StartLogging { trail: name.clone() }.step(&false));
        }
        if stopped.is_empty() {
            return Ok(Planned::Refused(format!(
                "account {} has no trail of its own in {} that could be started: one has to be made",
                target.account, cx.aws.region
            )));
        }
        if stopped.len() > 1 {
            plan.ask_first.push(format!("{} trails are stopped, and one may be enough", stopped.len()));
        }
        plan.remains.push("what was done while nothing recorded is in no trail".to_owned());
        plan.stage("start", stopped);
        Ok(Planned::Plan(plan))
    }
}

/// The trails that the account has made in this Region, by name. Trails of the organization can be changed by its
/// management account alone.
async fn own(aws: &Aws) -> Result<Vec<(TrailName, Trail)>, Failure> {
    let answer = aws.cloudtrail().describe_trails().include_shadow_trails(false).send().await;
    let answer = answer.map_err(Failure::from_sdk("list the trails of", &aws.account))?;
    let own = answer.trail_list.unwrap_or_default().into_iter();
    let own = own.filter(|trail| !trail.is_organization_trail().unwrap_or_default());
    let mut own: Vec<(TrailName, Trail)> =
        own.filter_map(|trail| Some((trail.name()?.parse().ok()?, trail))).collect();
    own.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(own)
}
