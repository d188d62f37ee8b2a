//! What stands in for AWS here, and the tests and drills that need it.

pub mod compare;
pub mod deployed;
pub mod deployment;
pub mod door;
pub mod drill;
pub mod emulator;
pub mod enrolment;
pub mod events;
pub mod faults;
pub mod in_process;
pub mod lab;
pub mod outcomes;
mod python;
pub mod spoil;
pub mod templates;
pub mod undo;
