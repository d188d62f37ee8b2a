//! Which finding types the playbooks of this function answer: all that name an identity which acted. Which playbook
//! answers a finding is decided by the credentials that it names.
//!
//! Left out are the types of the root user, which nothing in the account can contain, and injected prompts: whoever
//! may talk to an application could have the sessions of its role revoked.

use firebreak::finding::{Answers, When};

/// Every type, in the order of GuardDuty's documentation.
const TYPES: [&str; 38] = [
    "CredentialAccess:IAMUser/AnomalousBehavior",
    "DefenseEvasion:IAMUser/AnomalousBehavior",
    "DefenseEvasion:IAMUser/BedrockLoggingDisabled",
    "Discovery:IAMUser/AnomalousBehavior",
    "Exfiltration:IAMUser/AnomalousBehavior",
    "Impact:IAMUser/AnomalousBehavior",
    "InitialAccess:IAMUser/AnomalousBehavior",
    "PenTest:IAMUser/KaliLinux",
    "PenTest:IAMUser/ParrotLinux",
    "PenTest:IAMUser/PentooLinux",
    "Persistence:IAMUser/AnomalousBehavior",
    "Stealth:IAMUser/PasswordPolicyChange",
    "PrivilegeEscalation:IAMUser/AnomalousBehavior",
    "Recon:IAMUser/MaliciousIPCaller",
    "Recon:IAMUser/MaliciousIPCaller.Custom",
    "Recon:IAMUser/TorIPCaller",
    "Stealth:IAMUser/CloudTrailLoggingDisabled",
    "UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B",
    "UnauthorizedAccess:IAMUser/MaliciousIPCaller",
    "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom",
    "UnauthorizedAccess:IAMUser/TorIPCaller",
    "CredentialAccess:IAMUser/CompromisedCredentials",
    "Impact:IAMUser/AnomalousModelInvocation",
    "Impact:IAMUser/CostHarvesting",
    // Several identities at once: each is answered.
    "AttackSequence:IAM/CompromisedCredentials",
    "AttackSequence:S3/CompromisedData",
    // Retired by AWS; findings made before may still arrive.
    "Persistence:IAMUser/NetworkPermissions",
    "Persistence:IAMUser/ResourcePermissions",
    "Persistence:IAMUser/UserPermissions",
    "PrivilegeEscalation:IAMUser/AdministrativePermissions",
    "Recon:IAMUser/NetworkPermissions",
    "Recon:IAMUser/ResourcePermissions",
    "Recon:IAMUser/UserPermissions",
    "ResourceConsumption:IAMUser/ComputeResources",
    "Stealth:IAMUser/LoggingConfigurationModified",
    "UnauthorizedAccess:IAMUser/ConsoleLogin",
    "Behavior:IAMUser/InstanceLaunchUnusual",
    "UnauthorizedAccess:IAMUser/UnusualASNCaller",
];

/// Types that are only ever about sessions of a role: a workload's credentials, used by somebody else.
const OF_SESSIONS: [&str; 4] = [
    "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.InsideAWS",
    "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS",
    "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS",
    "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
];

/// What `contain-access-key` answers.
pub const KEYS: &[&[Answers]] = &[&Answers::each(TYPES, When::NamesKey)];

/// What `contain-user` answers.
pub const USERS: &[&[Answers]] = &[&Answers::each(TYPES, When::NamesUser)];

/// What `revoke-role-sessions` answers.
pub const SESSIONS: &[&[Answers]] =
    &[&Answers::each(TYPES, When::NamesSession), &Answers::each(OF_SESSIONS, When::NamesSession)];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firebreak::finding::UNANSWERED;

    use super::*;

    #[test]
    fn every_type_stands_once_and_is_not_unanswered() {
        let unanswered: BTreeSet<&str> = UNANSWERED.iter().flat_map(|(_, types)| types.iter().copied()).collect();
        for table in [KEYS, USERS, SESSIONS] {
            let all = || table.iter().copied().flatten().map(|answers| answers.finding_type);
            let names: BTreeSet<&str> = all().collect();
            assert_eq!(names.len(), all().count());
            assert!(names.is_disjoint(&unanswered));
        }
    }
}
