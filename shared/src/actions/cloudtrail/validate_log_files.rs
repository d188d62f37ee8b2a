//! Has a trail sign what it writes, so that it can be told whether a log file was changed or taken away since.
//!
//! <https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_UpdateTrail.html>

use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::TrailName;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Has a trail's log files validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateLogFiles {
    /// The trail, in its home Region.
    pub trail: TrailName,
}

impl Action for ValidateLogFiles {
    const NAME: &'static str = "cloudtrail.validate-log-files";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("cloudtrail:DescribeTrails"),
        Permission::on("cloudtrail:UpdateTrail", &["cloudtrail:*:*:trail/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    /// Whether they are.
    type State = bool;

    fn subject(&self) -> String {
        self.trail.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |on: bool| if on { "validated" } else { "not validated" };
        Change {
            what: format!("log files of trail {}", self.trail),
            from: words(*before).to_owned(),
            to: words(true).to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("cloudtrail:UpdateTrail", [super::trail_arn(aws, &self.trail)])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let call = cx.aws.cloudtrail().describe_trails().include_shadow_trails(false);
        let answer = call.trail_name_list(super::trail_arn(cx.aws, &self.trail)).send().await;
        let answer = answer.map_err(Failure::from_sdk("describe trail", &self.trail))?;
        Ok(answer.trail_list().first().map(|trail| trail.log_file_validation_enabled().unwrap_or_default()))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(true)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let call = cx.aws.cloudtrail().update_trail().name(super::trail_arn(cx.aws, &self.trail));
        let sent = call.enable_log_file_validation(*to).send().await;
        sent.map_err(Failure::from_sdk("set the validation of the log files of trail", &self.trail))?;
        Ok(Set::Done)
    }
}
