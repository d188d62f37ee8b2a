//! What stands in for AWS here, and the tests and drills that need it.

pub mod between;
pub mod compare;
pub mod deployed;
pub mod deployment;
pub mod door;
pub mod drill;
pub mod emulator;
pub mod enrolment;
pub mod events;
pub mod facts;
pub mod faults;
pub mod flood;
pub mod in_process;
pub mod judgement;
pub mod lab;
pub mod matrix;
pub mod outcomes;
pub mod python;
pub mod quota;
pub mod spoil;
pub mod templates;
pub mod undo;
