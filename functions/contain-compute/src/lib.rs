//! Contains compromised compute: EC2 instances, and what they keep.

pub mod triggers;

use firebreak::playbook::Playbook;

/// The function's name.
pub const FUNCTION: &str = "contain-compute";

/// Its playbooks.
pub static PLAYBOOKS: &[&dyn Playbook] = &[];
