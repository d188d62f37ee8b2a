//! Firebreak: reversible containment actions for AWS, and the one loop that runs them.

pub mod finding;
pub mod ids;
pub mod screen;
pub mod text;
