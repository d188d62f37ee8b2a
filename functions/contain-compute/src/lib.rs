//! Contains compromised compute: EC2 instances, and what they keep.

pub mod isolate_instance;
mod reads;
pub mod snapshot_volumes;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use firebreak::finding::{Answers, UNANSWERED};

    use super::isolate_instance::IsolateInstance;
    use super::snapshot_volumes::SnapshotVolumes;
    use super::*;

    const ALL: &str = include_str!("../../../events/guardduty/TYPES.txt");

    fn all() -> Vec<&'static str> {
        ALL.lines().filter(|line| !line.starts_with('#')).collect()
    }

    fn answers(playbook: &dyn Playbook) -> Vec<&'static Answers> {
        playbook.meta().answers().collect()
    }

    fn names(playbook: &dyn Playbook) -> Vec<&'static str> {
        answers(playbook).iter().map(|answers| answers.finding_type).collect()
    }

    #[test]
    fn no_type_is_answered_and_unanswered_at_once() {
        let unanswered: Vec<&str> = UNANSWERED.iter().flat_map(|(_, types)| types.iter().copied()).collect();
        for table in [names(&IsolateInstance), names(&SnapshotVolumes), unanswered.clone(), all()] {
            let unique: BTreeSet<_> = table.iter().collect();
            assert_eq!(unique.len(), table.len(), "a type stands twice in a table");
        }
        let answered: BTreeSet<&str> = PLAYBOOKS.iter().flat_map(|playbook| names(*playbook)).collect();
        let both: Vec<_> = unanswered.iter().filter(|t| answered.contains(*t)).collect();
        assert!(both.is_empty(), "answered and unanswered at once: {both:?}");
        let known: BTreeSet<&str> = all().into_iter().collect();
        assert!(answered.is_subset(&known), "{:?}", answered.difference(&known));
        assert_eq!(known.len(), 250);
    }

    #[test]
    fn all_that_is_isolated_is_snapshotted() {
        let snapshots: BTreeSet<&str> = names(&SnapshotVolumes).into_iter().collect();
        for name in names(&IsolateInstance) {
            assert!(snapshots.contains(name), "{name}");
        }
    }

    #[test]
    fn what_is_only_done_to_an_instance_is_not_answered() {
        for name in ["Recon:EC2/PortProbeUnprotectedPort", "Recon:EC2/PortProbeEMRUnprotectedPort"] {
            assert!(!names(&SnapshotVolumes).contains(&name), "{name}");
        }
        for name in [
            "UnauthorizedAccess:EC2/SSHBruteForce",
            "UnauthorizedAccess:EC2/RDPBruteForce",
            "Impact:EC2/WinRMBruteForce",
        ] {
            for playbook in PLAYBOOKS {
                assert!(answers(*playbook).contains(&&Answers::acting(name)), "{name}");
            }
        }
    }

    /// The committed list is AWS's, as kept beside the corpus.
    #[test]
    fn the_list_of_types_is_the_reference_list() {
        let Some(corpus) = std::env::var_os("FIREBREAK_CORPUS") else {
            eprintln!("skipped: FIREBREAK_CORPUS is not set, the reference list is absent");
            return;
        };
        let path = std::path::Path::new(&corpus).join("../reference/guardduty-types.tsv");
        let text = std::fs::read_to_string(&path).unwrap();
        let reference: Vec<&str> =
            text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split('\t').next()).collect();
        assert_eq!(all(), reference);
    }
}
