//! The actions, by service.

pub mod ec2;
