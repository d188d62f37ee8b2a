//! What stands in for AWS here, and the tests and drills that need it.

pub mod drill;
pub mod emulator;
pub mod lab;
