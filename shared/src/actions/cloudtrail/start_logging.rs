//! Has a trail record again that was stopped.
//!
//! <https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_StartLogging.html>

use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::TrailName;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Has a trail record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLogging {
    /// The trail, in its home Region.
    pub trail: TrailName,
}

impl Action for StartLogging {
    const NAME: &'static str = "cloudtrail.start-logging";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("cloudtrail:GetTrailStatus", &["cloudtrail:*:*:trail/*"]),
        Permission::on("cloudtrail:StartLogging", &["cloudtrail:*:*:trail/*"]),
        Permission::on("cloudtrail:StopLogging", &["cloudtrail:*:*:trail/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    /// Whether it records.
    type State = bool;

    fn subject(&self) -> String {
        self.trail.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |records: bool| if records { "records" } else { "stopped" };
        Change { what: format!("trail {}", self.trail), from: words(*before).to_owned(), to: words(true).to_owned() }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let arn = super::trail_arn(aws, &self.trail);
        ["cloudtrail:StartLogging", "cloudtrail:StopLogging"].map(|action| Grant::new(action, [arn.clone()])).into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        gone_is_none(records(cx.aws, &super::trail_arn(cx.aws, &self.trail)).await)
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(true)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let (cloudtrail, name) = (cx.aws.cloudtrail(), super::trail_arn(cx.aws, &self.trail));
        if *to {
            let sent = cloudtrail.start_logging().name(name).send().await;
            sent.map_err(Failure::from_sdk("start the logging of trail", &self.trail))?;
        } else {
            let sent = cloudtrail.stop_logging().name(name).send().await;
            sent.map_err(Failure::from_sdk("stop the logging of trail", &self.trail))?;
        }
        Ok(Set::Done)
    }
}

/// Whether the trail of this ARN records.
pub async fn records(aws: &Aws, arn: &str) -> Result<bool, Failure> {
    let answer = aws.cloudtrail().get_trail_status().name(arn).send().await;
    let answer = answer.map_err(Failure::from_sdk("read the status of trail", arn))?;
    Ok(answer.is_logging().unwrap_or_default())
}
