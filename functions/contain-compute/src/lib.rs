//! The function that contains compromised instances.

pub mod triggers;
