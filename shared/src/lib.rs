//! Firebreak: reversible containment actions for AWS, and the one loop that runs them.

pub mod action;
pub mod actions;
pub mod authenticate;
pub mod aws;
pub mod config;
pub mod engine;
pub mod evidence;
pub mod failure;
pub mod finding;
pub mod guard;
pub mod hub;
pub mod ids;
pub mod lambda;
pub mod ledger;
pub mod permission;
pub mod plan;
pub mod playbook;
pub mod report;
pub mod requests;
pub mod run;
pub mod screen;
pub mod session;
pub mod target;
pub mod telemetry;
pub mod text;
pub mod units;
