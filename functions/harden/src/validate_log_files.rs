//! # Have a trail's log files validated
//!
//! ## What it answers
//!
//! The control and the rule that say that a trail's log files are not validated (CloudTrail.4,
//! `cloud-trail-log-file-validation-enabled`).
//!
//! ## What it does
//!
//! Switches on the validation: from then on the trail signs what it writes, and whoever changes or takes away a log file can
//! be found out.
//!
//! ## What may break
//!
//! Nothing.
//!
//! ## How it is undone
//!
//! The validation is switched off again.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! Trails of the organization, which only its management account changes. What was written before stays unsigned.
//!
//! ## Drill
//!
//! There is none of its own: `cargo test --test laws` has the worlds.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/cloudtrail-controls.html#cloudtrail-4>
//! - <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-intro.html>

use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::cloudtrail::validate_log_files;
use firebreak::failure::Failure;
use firebreak::finding::{Check, Finding, Resource};
use firebreak::ids::TrailName;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::fix::{Fix, id_of};
use crate::trails::{self, is_at_home, seen, tags_of};

/// Has a trail's log files validated.
#[derive(Debug)]
pub struct ValidateLogFiles;

const VALIDATED: Check = Check {
    control: Some("CloudTrail.4"),
    also: &[
        "cis-aws-foundations-benchmark/v/1.2.0/2.2",
        "cis-aws-foundations-benchmark/v/1.4.0/3.2",
        "PCI.CloudTrail.3",
    ],
    rule: Some(("CLOUD_TRAIL_LOG_FILE_VALIDATION_ENABLED", "cloud-trail-log-file-validation-enabled")),
};

impl Fix for ValidateLogFiles {
    const META: Meta = Meta {
        id: "validate-log-files",
        title: "Have a trail's log files validated",
        purpose: Purpose::Fix,
        kinds: &[TargetKind::CloudTrailTrail],
        hold: "validate-log-files",
        rechecks: &[],
        triggers: &[],
        controls: &[VALIDATED],
        concerns: &[],
        reads: &[
            Permission::on("cloudtrail:ListTags", &["cloudtrail:*:*:trail/*"]),
            Permission::read("config:DescribeConfigRules"),
        ],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<validate_log_files::ValidateLogFiles>::NEW];

    fn target(resource: &Resource, _: &Finding) -> Option<Target> {
        trails::target(resource)
    }

    async fn plan(cx: &PlanContext<'_>, target: &Target, _: &Finding, _: &'static Check) -> Result<Planned, Failure> {
        let name: TrailName = id_of(target)?;
        let (seen, tags) = tokio::join!(seen(cx.aws), tags_of(cx.aws, &name));
        let found = seen?.into_iter().find(|one| is_at_home(&name, one, cx.aws));
        let (Some(tags), Some((_, trail))) = (tags?, found) else {
            return Ok(Planned::Gone(format!("account {} has no trail {name} of its own", target.account)));
        };
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.tags = tags;
        if !trail.log_file_validation_enabled().unwrap_or_default() {
            plan.stage("validate", [validate_log_files::ValidateLogFiles { trail: name }.step(&false)]);
        }
        Ok(Planned::Plan(plan))
    }
}
