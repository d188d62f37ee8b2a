//! The finding types that nothing answers, each with the reason a person reads.

use super::{Finding, Source};

/// What is said of a type that is in no table: AWS adds some every year.
const UNKNOWN: &str = "this version does not know the finding type: nothing was done, and a person must look; a newer version may answer it";

/// Why no playbook answers a finding of this type. For types that some playbook answers, see
/// [`super::When::refusal`].
pub fn unanswered(finding_type: &str) -> &'static str {
    UNANSWERED.iter().find(|(_, types)| types.contains(&finding_type)).map_or(UNKNOWN, |(reason, _)| reason)
}

/// Why no playbook answers a finding of a source whose types are in no table.
pub fn unanswered_source(finding: &Finding) -> &'static str {
    match finding.source {
        // A type of GuardDuty's has a reason of its own.
        Source::GuardDuty | Source::Drill => unanswered(&finding.finding_type),
        Source::SecurityHub if finding.control.is_some() => {
            "a control of Security Hub has failed, and no fix here answers it, or not for what it names: look at the resource"
        }
        Source::SecurityHub => "no playbook here answers findings of this product: look at it in Security Hub",
        Source::Config => {
            "a rule of AWS Config has failed, and by its name it is none that a fix here answers: look at the resource; what a rule of AWS's under another name checks is asked of Config"
        }
        Source::Health | Source::TrustedAdvisor if finding.is_exposed_key() => {
            "AWS says that an access key lies open or is misused, and nothing here answers that of this key: deactivate it, and look at what was done with it"
        }
        Source::Health => "it is a notice of AWS Health that no playbook here answers: read it there",
        Source::TrustedAdvisor => {
            "no playbook here answers this check of Trusted Advisor: look at the resource it names"
        }
        Source::AccessAnalyzer => {
            "it is about who may use a resource, and no playbook here changes that: decide in IAM Access Analyzer whether the access is meant"
        }
        Source::Macie => {
            "it is about a bucket or what lies in it, and no playbook here answers Macie: restrict the bucket"
        }
        Source::Request => "no playbook here can be asked for by hand about this kind of target",
        Source::Inspector => {
            "it is about what could be attacked, not about an attack, and no playbook here answers that: patch it, or close the port"
        }
    }
}

/// Every known type that nothing answers, grouped by the reason.
pub const UNANSWERED: &[(&str, &[&str])] = &[
    (
        "it was done to the instance, not by it: isolating the instance would do the attacker's work; close the port, or block the source",
        &[
            "Recon:EC2/PortProbeEMRUnprotectedPort",
            "Recon:EC2/PortProbeUnprotectedPort",
            "UnauthorizedAccess:EC2/TorIPCaller",
        ],
    ),
    (
        "it is the root user, which no role can contain: sign in as root, delete its access keys, change password and MFA; in an organization delete its credentials centrally (sts:AssumeRoot)",
        &["Policy:IAMUser/RootCredentialUsage", "Policy:IAMUser/ShortTermRootCredentialUsage"],
    ),
    (
        "the identity may be that of an application, which hands on what its users type: look at the prompts, and at who sent them, before its sessions are revoked",
        &["Impact:IAMUser/PromptInjection.Direct"],
    ),
    (
        "it is about an S3 bucket, and this function has no power over buckets: restrict the bucket and the identity that used it",
        &[
            "Policy:S3/AccountBlockPublicAccessDisabled",
            "Policy:S3/BucketAnonymousAccessGranted",
            "Policy:S3/BucketBlockPublicAccessDisabled",
            "Policy:S3/BucketPublicAccessGranted",
            "Stealth:S3/ServerAccessLoggingDisabled",
            "Discovery:S3/AnomalousBehavior",
            "Discovery:S3/MaliciousIPCaller",
            "Discovery:S3/MaliciousIPCaller.Custom",
            "Discovery:S3/TorIPCaller",
            "Exfiltration:S3/AnomalousBehavior",
            "Exfiltration:S3/MaliciousIPCaller",
            "Impact:S3/AnomalousBehavior.Delete",
            "Impact:S3/AnomalousBehavior.Permission",
            "Impact:S3/AnomalousBehavior.Write",
            "Impact:S3/MaliciousIPCaller",
            "PenTest:S3/KaliLinux",
            "PenTest:S3/ParrotLinux",
            "PenTest:S3/PentooLinux",
            "UnauthorizedAccess:S3/TorIPCaller",
            "UnauthorizedAccess:S3/MaliciousIPCaller.Custom",
        ],
    ),
    (
        "it is about an object in S3, and this function has no power over buckets: restrict reading of the object",
        &["Object:S3/MaliciousFile"],
    ),
    (
        "it comes from a Kubernetes audit log and names an identity and a cluster, no node: revoke the access entry or role binding",
        &[
            "CredentialAccess:Kubernetes/AnomalousBehavior.SecretsAccessed",
            "CredentialAccess:Kubernetes/MaliciousIPCaller",
            "CredentialAccess:Kubernetes/MaliciousIPCaller.Custom",
            "CredentialAccess:Kubernetes/SuccessfulAnonymousAccess",
            "CredentialAccess:Kubernetes/TorIPCaller",
            "DefenseEvasion:Kubernetes/MaliciousIPCaller",
            "DefenseEvasion:Kubernetes/MaliciousIPCaller.Custom",
            "DefenseEvasion:Kubernetes/SuccessfulAnonymousAccess",
            "DefenseEvasion:Kubernetes/TorIPCaller",
            "Discovery:Kubernetes/AnomalousBehavior.PermissionChecked",
            "Discovery:Kubernetes/MaliciousIPCaller",
            "Discovery:Kubernetes/MaliciousIPCaller.Custom",
            "Discovery:Kubernetes/SuccessfulAnonymousAccess",
            "Discovery:Kubernetes/TorIPCaller",
            "Execution:Kubernetes/ExecInKubeSystemPod",
            "Execution:Kubernetes/AnomalousBehavior.ExecInPod",
            "Execution:Kubernetes/AnomalousBehavior.WorkloadDeployed",
            "Impact:Kubernetes/MaliciousIPCaller",
            "Impact:Kubernetes/MaliciousIPCaller.Custom",
            "Impact:Kubernetes/SuccessfulAnonymousAccess",
            "Impact:Kubernetes/TorIPCaller",
            "Persistence:Kubernetes/MaliciousIPCaller",
            "Persistence:Kubernetes/MaliciousIPCaller.Custom",
            "Persistence:Kubernetes/SuccessfulAnonymousAccess",
            "Persistence:Kubernetes/TorIPCaller",
            "Policy:Kubernetes/AdminAccessToDefaultServiceAccount",
            "Policy:Kubernetes/AnonymousAccessGranted",
            "Policy:Kubernetes/KubeflowDashboardExposed",
            "Policy:Kubernetes/ExposedDashboard",
            "PrivilegeEscalation:Kubernetes/AnomalousBehavior.RoleBindingCreated",
            "PrivilegeEscalation:Kubernetes/AnomalousBehavior.RoleCreated",
            "Persistence:Kubernetes/AnomalousBehavior.WorkloadDeployed!ContainerWithSensitiveMount",
            "PrivilegeEscalation:Kubernetes/AnomalousBehavior.WorkloadDeployed!PrivilegedContainer",
        ],
    ),
    (
        "it is about a Lambda function, which no playbook here contains yet: set its reserved concurrency to 0, or cut its VPC egress",
        &[
            "Backdoor:Lambda/C&CActivity.B",
            "CryptoCurrency:Lambda/BitcoinTool.B",
            "Trojan:Lambda/BlackholeTraffic",
            "Trojan:Lambda/DropPoint",
            "UnauthorizedAccess:Lambda/MaliciousIPCaller.Custom",
            "UnauthorizedAccess:Lambda/TorClient",
            "UnauthorizedAccess:Lambda/TorRelay",
        ],
    ),
    (
        "the malware is in a stored copy (a snapshot, an image, a recovery point), which runs nowhere by itself: do not restore or launch from it",
        &[
            "Execution:EC2/MaliciousFile!Snapshot",
            "Execution:EC2/MaliciousFile!AMI",
            "Execution:EC2/MaliciousFile!RecoveryPoint",
            "Execution:S3/MaliciousFile!RecoveryPoint",
        ],
    ),
    (
        "it is about log-ins to a database, and this function has no power over databases: change the password and close the network path",
        &[
            "CredentialAccess:RDS/AnomalousBehavior.FailedLogin",
            "CredentialAccess:RDS/AnomalousBehavior.SuccessfulBruteForce",
            "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin",
            "CredentialAccess:RDS/MaliciousIPCaller.FailedLogin",
            "CredentialAccess:RDS/MaliciousIPCaller.SuccessfulLogin",
            "CredentialAccess:RDS/TorIPCaller.FailedLogin",
            "CredentialAccess:RDS/TorIPCaller.SuccessfulLogin",
            "Discovery:RDS/MaliciousIPCaller",
            "Discovery:RDS/TorIPCaller",
        ],
    ),
    (
        "it reports a call to the AWS API, and how it names the caller is not documented: find who called, and deactivate the key or revoke the sessions",
        &[
            "CredentialAccess:EC2/UnsecuredCredentials",
            "CredentialAccess:RDS/ModifyAuthenticationProcess",
            "DefenseImpairment:EC2/DisableOrModifyTools",
            "DefenseImpairment:Organizations/ModifyCloudResourceHierarchy",
            "DefenseImpairment:Organizations/DisableOrModifyTools",
            "DefenseImpairment:RDS/ModifyAuthenticationProcess",
            "DefenseImpairment:Route53Resolver/DisableOrModifyTools",
            "DefenseImpairment:S3/DisableOrModifyTools",
            "Execution:SageMaker/CommandAndScriptingInterpreter",
            "Exfiltration:EC2/TransferDataToCloudAccount",
            "Exfiltration:RDS/TransferDataToCloudAccount",
            "Exfiltration:S3/TransferDataToCloudAccount",
            "Impact:S3/DataDestruction",
            "Impact:SES/ResourceHijacking",
            "InitialAccess:IAM/ValidAccounts",
            "InitialAccess:RDS/ExploitPublicFacingApplication",
            "LateralMovement:EC2/RemoteServices",
            "Persistence:EC2/BootOrLogonInitializationScripts",
            "Persistence:EC2/ExternalRemoteServices",
            "Persistence:IAM/AccountManipulation",
            "Persistence:Lambda/AccountManipulation",
            "Persistence:Lambda/ModifyAuthenticationProcess",
            "Persistence:RolesAnywhere/AccountManipulation",
            "PrivilegeEscalation:IAM/AccountManipulation",
            "ResourceDevelopment:SES/CompromiseAccounts",
        ],
    ),
    (
        "AWS has retired this type; it is about an S3 bucket, and this function has no power over buckets: restrict the bucket and the identity that used it",
        &[
            "Exfiltration:S3/ObjectRead.Unusual",
            "Impact:S3/PermissionsModification.Unusual",
            "Impact:S3/ObjectDelete.Unusual",
            "Discovery:S3/BucketEnumeration.Unusual",
        ],
    ),
    (
        "AWS has retired this type; it is about a workload in a Kubernetes cluster and names no node: delete the workload",
        &["PrivilegeEscalation:Kubernetes/PrivilegedContainer", "Persistence:Kubernetes/ContainerWithSensitiveMount"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_so_when_it_does_not_know_a_type() {
        assert_eq!(unanswered("Impact:EC2/SomethingNew"), UNKNOWN);
        assert_eq!(unanswered(""), UNKNOWN);
    }

    #[test]
    fn gives_a_known_type_its_own_reason() {
        assert!(unanswered("Recon:EC2/PortProbeUnprotectedPort").contains("done to the instance"));
        assert!(unanswered("Policy:S3/BucketPublicAccessGranted").contains("S3 bucket"));
    }
}
