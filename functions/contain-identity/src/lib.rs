//! Contains compromised identities: access keys, users, sessions of roles.

pub mod contain_access_key;
pub mod contain_user;
mod exposed;
pub mod protected;
pub mod revoke_role_sessions;
mod sweep;
pub mod triggers;
mod user;

use firebreak::playbook::Playbook;

/// The function's name.
pub const FUNCTION: &str = "contain-identity";

/// Every playbook of this function.
pub static PLAYBOOKS: &[&dyn Playbook] =
    &[&contain_access_key::ContainAccessKey, &contain_user::ContainUser, &revoke_role_sessions::RevokeRoleSessions];
