//! The actions, by service.

pub mod autoscaling;
pub mod cloudtrail;
pub mod ec2;
pub mod elasticloadbalancing;
pub mod iam;
pub mod rds;
pub mod s3;
