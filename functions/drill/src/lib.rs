//! Drills in the deployed account. It has no playbook, and no power over any resource: what it begins is carried out by the
//! functions that would carry out the real thing.

/// The function's name.
pub const FUNCTION: &str = "drill";
