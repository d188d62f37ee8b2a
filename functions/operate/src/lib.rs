//! People's door: approve, reject, undo, ask. It has no playbook, and no power over any resource.

use firebreak::door::Requestable;
use firebreak::target::TargetKind;

/// The function's name.
pub const FUNCTION: &str = "operate";

/// What can be asked for by hand: the playbooks of the other functions, whose code is not part of this one. A test holds
/// it against them.
pub static REQUESTABLE: &[Requestable] = &[
    ("isolate-instance", &[TargetKind::Ec2Instance]),
    ("snapshot-volumes", &[TargetKind::Ec2Instance]),
    ("contain-user", &[TargetKind::IamUser]),
    ("revoke-role-sessions", &[TargetKind::IamRole, TargetKind::IamRoleSession]),
];
