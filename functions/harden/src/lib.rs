//! Fixes what a failed control left open. A fix is one file; the controls that it answers are a table in it.

pub mod block_public_bucket;
pub mod close_ingress;
mod config;
pub mod fix;
pub mod restore_trail;
pub mod retire_access_key;
mod securityhub;
mod trails;
pub mod unshare_db_snapshot;
pub mod unshare_snapshot;
pub mod validate_log_files;

use firebreak::playbook::Playbook;

use crate::fix::AsPlaybook;

/// The function's name.
pub const FUNCTION: &str = "harden";

/// Every playbook of this function.
pub static PLAYBOOKS: &[&dyn Playbook] = &[
    &AsPlaybook::<block_public_bucket::BlockPublicBucket>::NEW,
    &AsPlaybook::<close_ingress::CloseIngress>::NEW,
    &AsPlaybook::<restore_trail::RestoreTrail>::NEW,
    &AsPlaybook::<retire_access_key::RetireAccessKey>::NEW,
    &AsPlaybook::<unshare_db_snapshot::UnshareDbSnapshot>::NEW,
    &AsPlaybook::<unshare_snapshot::UnshareSnapshot>::NEW,
    &AsPlaybook::<validate_log_files::ValidateLogFiles>::NEW,
];
