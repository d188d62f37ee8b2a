//! What stands in for AWS here, and the tests and drills that need it.

pub mod emulator;
pub mod lab;
