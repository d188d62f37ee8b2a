//! Which finding types the playbooks of this function answer.
//!
//! The question each entry answers is what an incident responder would do *if the finding is true*.
//! How sure or how grave it is, is the guard's business: a policy sees type and severity.

use firebreak::finding::Answers;

/// What `isolate-instance` answers: findings that say that the instance acts for somebody else.
///
/// Left out, and answered by a snapshot alone, are signals that ordinary work gives as well (a new
/// binary or library, a shell, an unusual domain, a mounted host directory, the Docker socket): there
/// the evidence is worth keeping and cutting a production host off is not worth proposing each time.
pub const ISOLATES: &[Answers] = &[
    // What an instance is seen doing in its DNS queries and network flows.
    Answers::always("Impact:EC2/MaliciousDomainRequest.Custom"),
    Answers::always("Backdoor:EC2/C&CActivity.B!DNS"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.B!DNS"),
    Answers::always("Impact:EC2/AbusedDomainRequest.Reputation"),
    Answers::always("Impact:EC2/BitcoinDomainRequest.Reputation"),
    Answers::always("Impact:EC2/MaliciousDomainRequest.Reputation"),
    Answers::always("Trojan:EC2/BlackholeTraffic!DNS"),
    Answers::always("Trojan:EC2/DGADomainRequest.B"),
    Answers::always("Trojan:EC2/DGADomainRequest.C!DNS"),
    Answers::always("Trojan:EC2/DNSDataExfiltration"),
    Answers::always("Trojan:EC2/DriveBySourceTraffic!DNS"),
    Answers::always("Trojan:EC2/DropPoint!DNS"),
    Answers::always("Trojan:EC2/PhishingDomainRequest!DNS"),
    Answers::always("UnauthorizedAccess:EC2/MetadataDNSRebind"),
    Answers::always("Backdoor:EC2/C&CActivity.B"),
    Answers::always("Backdoor:EC2/DenialOfService.Dns"),
    Answers::always("Backdoor:EC2/DenialOfService.Tcp"),
    Answers::always("Backdoor:EC2/DenialOfService.Udp"),
    Answers::always("Backdoor:EC2/DenialOfService.UdpOnTcpPorts"),
    Answers::always("Backdoor:EC2/DenialOfService.UnusualProtocol"),
    Answers::always("Backdoor:EC2/Spambot"),
    Answers::always("Behavior:EC2/NetworkPortUnusual"),
    Answers::always("Behavior:EC2/TrafficVolumeUnusual"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.B"),
    Answers::always("DefenseEvasion:EC2/UnusualDNSResolver"),
    Answers::always("DefenseEvasion:EC2/UnusualDoHActivity"),
    Answers::always("DefenseEvasion:EC2/UnusualDoTActivity"),
    Answers::always("Impact:EC2/PortSweep"),
    Answers::acting("Impact:EC2/WinRMBruteForce"),
    Answers::always("Recon:EC2/Portscan"),
    Answers::always("Trojan:EC2/BlackholeTraffic"),
    Answers::always("Trojan:EC2/DropPoint"),
    Answers::outbound("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom"),
    Answers::acting("UnauthorizedAccess:EC2/RDPBruteForce"),
    Answers::acting("UnauthorizedAccess:EC2/SSHBruteForce"),
    Answers::always("UnauthorizedAccess:EC2/TorClient"),
    Answers::always("UnauthorizedAccess:EC2/TorRelay"),
    // Retired by AWS; findings made before may still arrive.
    Answers::always("Backdoor:EC2/XORDDOS"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.A"),
    // What the agent saw inside: on an instance, on an EKS node, on an ECS container instance. On Fargate
    // there is no instance and nothing here answers.
    Answers::names_instance("Backdoor:Runtime/C&CActivity.B"),
    Answers::names_instance("Backdoor:Runtime/C&CActivity.B!DNS"),
    Answers::names_instance("CryptoCurrency:Runtime/BitcoinTool.B"),
    Answers::names_instance("CryptoCurrency:Runtime/BitcoinTool.B!DNS"),
    Answers::names_instance("DefenseEvasion:Runtime/FilelessExecution"),
    Answers::names_instance("DefenseEvasion:Runtime/KernelModuleLoaded"),
    Answers::names_instance("DefenseEvasion:Runtime/SensitiveFileModified"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.Proc"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.Ptrace"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite"),
    Answers::names_instance("DefenseEvasion:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/MaliciousFileExecuted"),
    Answers::names_instance("Execution:Runtime/MaliciousFileExecuted.Custom"),
    Answers::names_instance("Execution:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/SuspiciousTool"),
    Answers::names_instance("Execution:Runtime/ReverseShell"),
    Answers::names_instance("Impact:Runtime/AbusedDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/BitcoinDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/CryptoMinerExecuted"),
    Answers::names_instance("Impact:Runtime/MaliciousDomainRequest.Reputation"),
    Answers::names_instance("Persistence:Runtime/SuspiciousCommand"),
    Answers::names_instance("Persistence:Runtime/SensitiveFileModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/ElevationToRoot"),
    Answers::names_instance("PrivilegeEscalation:Runtime/RuncContainerEscape"),
    Answers::names_instance("PrivilegeEscalation:Runtime/SuspiciousCommand"),
    Answers::names_instance("PrivilegeEscalation:Runtime/SensitiveFileModified"),
    Answers::names_instance("Trojan:Runtime/BlackholeTraffic"),
    Answers::names_instance("Trojan:Runtime/BlackholeTraffic!DNS"),
    Answers::names_instance("Trojan:Runtime/DropPoint"),
    Answers::names_instance("Trojan:Runtime/DGADomainRequest.C!DNS"),
    Answers::names_instance("Trojan:Runtime/DriveBySourceTraffic!DNS"),
    Answers::names_instance("Trojan:Runtime/DropPoint!DNS"),
    Answers::names_instance("Trojan:Runtime/PhishingDomainRequest!DNS"),
    Answers::names_instance("UnauthorizedAccess:Runtime/MetadataDNSRebind"),
    Answers::names_instance("UnauthorizedAccess:Runtime/TorClient"),
    Answers::names_instance("UnauthorizedAccess:Runtime/TorRelay"),
    // Malware found on a volume of a running instance, whatever its workload.
    Answers::names_instance("Execution:Container/MaliciousFile"),
    Answers::names_instance("Execution:Container/SuspiciousFile"),
    Answers::names_instance("Execution:EC2/MaliciousFile"),
    Answers::names_instance("Execution:EC2/SuspiciousFile"),
    Answers::names_instance("Execution:ECS/MaliciousFile"),
    Answers::names_instance("Execution:ECS/SuspiciousFile"),
    Answers::names_instance("Execution:Kubernetes/MaliciousFile"),
    Answers::names_instance("Execution:Kubernetes/SuspiciousFile"),
    // Several instances at once: each is answered.
    Answers::names_instance("AttackSequence:EKS/CompromisedCluster"),
    Answers::names_instance("AttackSequence:ECS/CompromisedCluster"),
    Answers::names_instance("AttackSequence:EC2/CompromisedInstanceGroup"),
    // Credentials of an instance's role used elsewhere: whoever took them was on the instance, or makes
    // it ask the metadata service for them. The sessions themselves are another playbook's work.
    Answers::names_instance("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS"),
    Answers::names_instance("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"),
];

/// What `snapshot-volumes` answers: all that is isolated, and the weaker signals of a process on an
/// instance, because evidence costs little and is gone when the instance is.
pub const SNAPSHOTS: &[Answers] = &[
    // What an instance is seen doing in its DNS queries and network flows.
    Answers::always("Impact:EC2/MaliciousDomainRequest.Custom"),
    Answers::always("Backdoor:EC2/C&CActivity.B!DNS"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.B!DNS"),
    Answers::always("Impact:EC2/AbusedDomainRequest.Reputation"),
    Answers::always("Impact:EC2/BitcoinDomainRequest.Reputation"),
    Answers::always("Impact:EC2/MaliciousDomainRequest.Reputation"),
    Answers::always("Impact:EC2/SuspiciousDomainRequest.Reputation"),
    Answers::always("Trojan:EC2/BlackholeTraffic!DNS"),
    Answers::always("Trojan:EC2/DGADomainRequest.B"),
    Answers::always("Trojan:EC2/DGADomainRequest.C!DNS"),
    Answers::always("Trojan:EC2/DNSDataExfiltration"),
    Answers::always("Trojan:EC2/DriveBySourceTraffic!DNS"),
    Answers::always("Trojan:EC2/DropPoint!DNS"),
    Answers::always("Trojan:EC2/PhishingDomainRequest!DNS"),
    Answers::always("UnauthorizedAccess:EC2/MetadataDNSRebind"),
    Answers::always("Backdoor:EC2/C&CActivity.B"),
    Answers::always("Backdoor:EC2/DenialOfService.Dns"),
    Answers::always("Backdoor:EC2/DenialOfService.Tcp"),
    Answers::always("Backdoor:EC2/DenialOfService.Udp"),
    Answers::always("Backdoor:EC2/DenialOfService.UdpOnTcpPorts"),
    Answers::always("Backdoor:EC2/DenialOfService.UnusualProtocol"),
    Answers::always("Backdoor:EC2/Spambot"),
    Answers::always("Behavior:EC2/NetworkPortUnusual"),
    Answers::always("Behavior:EC2/TrafficVolumeUnusual"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.B"),
    Answers::always("DefenseEvasion:EC2/UnusualDNSResolver"),
    Answers::always("DefenseEvasion:EC2/UnusualDoHActivity"),
    Answers::always("DefenseEvasion:EC2/UnusualDoTActivity"),
    Answers::always("Impact:EC2/PortSweep"),
    Answers::acting("Impact:EC2/WinRMBruteForce"),
    Answers::always("Recon:EC2/Portscan"),
    Answers::always("Trojan:EC2/BlackholeTraffic"),
    Answers::always("Trojan:EC2/DropPoint"),
    Answers::always("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom"),
    Answers::acting("UnauthorizedAccess:EC2/RDPBruteForce"),
    Answers::acting("UnauthorizedAccess:EC2/SSHBruteForce"),
    Answers::always("UnauthorizedAccess:EC2/TorClient"),
    Answers::always("UnauthorizedAccess:EC2/TorRelay"),
    // Retired by AWS; findings made before may still arrive.
    Answers::always("Backdoor:EC2/XORDDOS"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.A"),
    // What the agent saw inside: on an instance, on an EKS node, on an ECS container instance. On Fargate
    // there is no instance and nothing here answers.
    Answers::names_instance("Backdoor:Runtime/C&CActivity.B"),
    Answers::names_instance("Backdoor:Runtime/C&CActivity.B!DNS"),
    Answers::names_instance("CryptoCurrency:Runtime/BitcoinTool.B"),
    Answers::names_instance("CryptoCurrency:Runtime/BitcoinTool.B!DNS"),
    Answers::names_instance("DefenseEvasion:Runtime/FilelessExecution"),
    Answers::names_instance("DefenseEvasion:Runtime/KernelModuleLoaded"),
    Answers::names_instance("DefenseEvasion:Runtime/SensitiveFileModified"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.Proc"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.Ptrace"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite"),
    Answers::names_instance("DefenseEvasion:Runtime/PtraceAntiDebugging"),
    Answers::names_instance("DefenseEvasion:Runtime/SuspiciousCommand"),
    Answers::names_instance("Discovery:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/MaliciousFileExecuted"),
    Answers::names_instance("Execution:Runtime/MaliciousFileExecuted.Custom"),
    Answers::names_instance("Execution:Runtime/NewBinaryExecuted"),
    Answers::names_instance("Execution:Runtime/NewLibraryLoaded"),
    Answers::names_instance("Execution:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/SuspiciousShellCreated"),
    Answers::names_instance("Execution:Runtime/SuspiciousTool"),
    Answers::names_instance("Execution:Runtime/ReverseShell"),
    Answers::names_instance("Impact:Runtime/AbusedDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/BitcoinDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/CryptoMinerExecuted"),
    Answers::names_instance("Impact:Runtime/MaliciousDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/SuspiciousDomainRequest.Reputation"),
    Answers::names_instance("Persistence:Runtime/SuspiciousCommand"),
    Answers::names_instance("Persistence:Runtime/SensitiveFileModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/ContainerMountsHostDirectory"),
    Answers::names_instance("PrivilegeEscalation:Runtime/DockerSocketAccessed"),
    Answers::names_instance("PrivilegeEscalation:Runtime/ElevationToRoot"),
    Answers::names_instance("PrivilegeEscalation:Runtime/RuncContainerEscape"),
    Answers::names_instance("PrivilegeEscalation:Runtime/SuspiciousCommand"),
    Answers::names_instance("PrivilegeEscalation:Runtime/SensitiveFileModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/UserfaultfdUsage"),
    Answers::names_instance("Trojan:Runtime/BlackholeTraffic"),
    Answers::names_instance("Trojan:Runtime/BlackholeTraffic!DNS"),
    Answers::names_instance("Trojan:Runtime/DropPoint"),
    Answers::names_instance("Trojan:Runtime/DGADomainRequest.C!DNS"),
    Answers::names_instance("Trojan:Runtime/DriveBySourceTraffic!DNS"),
    Answers::names_instance("Trojan:Runtime/DropPoint!DNS"),
    Answers::names_instance("Trojan:Runtime/PhishingDomainRequest!DNS"),
    Answers::names_instance("UnauthorizedAccess:Runtime/MetadataDNSRebind"),
    Answers::names_instance("UnauthorizedAccess:Runtime/TorClient"),
    Answers::names_instance("UnauthorizedAccess:Runtime/TorRelay"),
    // Malware found on a volume of a running instance, whatever its workload.
    Answers::names_instance("Execution:Container/MaliciousFile"),
    Answers::names_instance("Execution:Container/SuspiciousFile"),
    Answers::names_instance("Execution:EC2/MaliciousFile"),
    Answers::names_instance("Execution:EC2/SuspiciousFile"),
    Answers::names_instance("Execution:ECS/MaliciousFile"),
    Answers::names_instance("Execution:ECS/SuspiciousFile"),
    Answers::names_instance("Execution:Kubernetes/MaliciousFile"),
    Answers::names_instance("Execution:Kubernetes/SuspiciousFile"),
    // Several instances at once: each is answered.
    Answers::names_instance("AttackSequence:EKS/CompromisedCluster"),
    Answers::names_instance("AttackSequence:ECS/CompromisedCluster"),
    Answers::names_instance("AttackSequence:EC2/CompromisedInstanceGroup"),
    // Credentials of an instance's role used elsewhere: whoever took them was on the instance, or makes
    // it ask the metadata service for them. The sessions themselves are another playbook's work.
    Answers::names_instance("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS"),
    Answers::names_instance("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use firebreak::finding::UNANSWERED;

    use super::*;

    const ALL: &str = include_str!("../../../events/guardduty/TYPES.txt");

    fn all() -> Vec<&'static str> {
        ALL.lines().filter(|line| !line.starts_with('#')).collect()
    }

    fn names(table: &[Answers]) -> Vec<&'static str> {
        table.iter().map(|a| a.finding_type).collect()
    }

    #[test]
    fn no_type_is_answered_and_unanswered_at_once() {
        let unanswered: Vec<&str> = UNANSWERED.iter().flat_map(|(_, types)| types.iter().copied()).collect();
        for table in [names(ISOLATES), names(SNAPSHOTS), unanswered.clone(), all()] {
            let unique: BTreeSet<_> = table.iter().collect();
            assert_eq!(unique.len(), table.len(), "a type stands twice in a table");
        }
        let answered: BTreeSet<&str> = names(ISOLATES).into_iter().chain(names(SNAPSHOTS)).collect();
        let both: Vec<_> = unanswered.iter().filter(|t| answered.contains(*t)).collect();
        assert!(both.is_empty(), "answered and unanswered at once: {both:?}");
        let known: BTreeSet<&str> = all().into_iter().collect();
        assert!(answered.is_subset(&known), "{:?}", answered.difference(&known));
        assert_eq!(known.len(), 250);
    }

    #[test]
    fn all_that_is_isolated_is_snapshotted() {
        let snapshots: BTreeSet<&str> = names(SNAPSHOTS).into_iter().collect();
        for name in names(ISOLATES) {
            assert!(snapshots.contains(name), "{name}");
        }
    }

    #[test]
    fn what_is_only_done_to_an_instance_is_not_answered() {
        for name in ["Recon:EC2/PortProbeUnprotectedPort", "Recon:EC2/PortProbeEMRUnprotectedPort"] {
            assert!(!names(SNAPSHOTS).contains(&name), "{name}");
        }
        for name in [
            "UnauthorizedAccess:EC2/SSHBruteForce",
            "UnauthorizedAccess:EC2/RDPBruteForce",
            "Impact:EC2/WinRMBruteForce",
        ] {
            for table in [ISOLATES, SNAPSHOTS] {
                assert!(table.contains(&Answers::acting(name)), "{name}");
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
