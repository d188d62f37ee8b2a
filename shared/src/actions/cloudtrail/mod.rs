//! Actions on AWS CloudTrail.

pub mod start_logging;
pub mod validate_log_files;

use crate::aws::Aws;
use crate::ids::TrailName;

/// The ARN of a trail of this account, in the Region where it was made.
fn trail_arn(aws: &Aws, trail: &TrailName) -> String {
    aws.arn("cloudtrail", &format!("trail/{trail}"))
}
