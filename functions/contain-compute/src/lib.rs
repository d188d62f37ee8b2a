//! Contains compromised compute: EC2 instances, and what they keep.

pub mod isolate_instance;
mod reads;
pub mod snapshot_volumes;
pub mod triggers;

use firebreak::finding::Finding;
use firebreak::playbook::{Meta, Playbook};
use firebreak::target::Target;

/// The function's name.
pub const FUNCTION: &str = "contain-compute";

/// Every playbook of this function.
pub static PLAYBOOKS: &[&dyn Playbook] = &[&isolate_instance::IsolateInstance, &snapshot_volumes::SnapshotVolumes];

/// The instances that a finding names, when the playbook answers it.
fn instances(meta: &Meta, finding: &Finding) -> Vec<Target> {
    if meta.refusal(finding).is_some() {
        return Vec::new();
    }
    let target =
        |id: &firebreak::ids::InstanceId| Target::instance(finding.account.clone(), finding.region.clone(), id.clone());
    finding.instances.iter().map(target).collect()
}
