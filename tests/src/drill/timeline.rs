//! What the function asked of AWS, call by call, and which of it had to wait for what came before.

use serde::Serialize;

use crate::deployment::FUNCTIONS;
use crate::emulator::Call;

/// What a call was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Firebreak's own account: ledger, policies, sessions, the finding.
    Hub,
    /// Reads in the member account.
    Read,
    /// Changes in the member account.
    Change,
    /// Changes that cut the network.
    Cut,
    /// Evidence and reports.
    Tell,
}

impl Lane {
    /// Every lane, from top to bottom.
    pub const ALL: [Self; 5] = [Self::Hub, Self::Read, Self::Change, Self::Cut, Self::Tell];

    /// The lane's title.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Hub => "Firebreak's account",
            Self::Read => "reads",
            Self::Change => "changes",
            Self::Cut => "cuts",
            Self::Tell => "reports, evidence",
        }
    }
}

/// A call of the function's.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// When it was answered to begin with, in milliseconds from the event.
    pub start_ms: f64,
    /// When it was answered, in milliseconds from the event.
    pub end_ms: f64,
    /// `ec2 DescribeInstances`.
    pub call: String,
    /// The reason for it.
    pub reason: &'static str,
    /// The playbook that made it; nothing when it is shared or cannot be told.
    pub playbook: Option<&'static str>,
    /// What it was for.
    pub lane: Lane,
    /// The round in which it was answered.
    pub round: u32,
    /// The HTTP status.
    pub status: u16,
}

/// A round of calls that were made side by side, on the way to the last cut.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// When its last call was answered, in milliseconds from the event.
    pub end_ms: f64,
    /// Its calls with their reasons, alike ones counted.
    pub calls: Vec<Counted>,
}

/// Alike calls of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The call.
    pub call: String,
    /// Its reason.
    pub reason: &'static str,
    /// What it was for.
    pub lane: Lane,
    /// How many there were.
    pub count: usize,
}

/// What happened between the event and the answer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timeline {
    /// Every call, in the order of its start.
    pub calls: Vec<Made>,
    /// The rounds up to the last cut.
    pub rounds: Vec<Round>,
    /// From the event to the last cut, in milliseconds.
    pub cut_after_ms: Option<f64>,
    /// From the event to the last call.
    pub last_ms: f64,
}

impl Timeline {
    /// Makes sense of a record of calls. `zero` is when the event was handed over; `other` are texts that show a
    /// call to be another playbook's than the one that cuts.
    #[must_use]
    pub fn of(calls: &[Call], zero: f64, other: &[(&'static str, Vec<String>)]) -> Self {
        let ms = |at: f64| (at - zero) * 1000.0;
        let mut made: Vec<Made> = calls
            .iter()
            .filter(|call| !call.agent.contains("app/observer"))
            .map(|call| {
                let (lane, reason) = reason(call);
                let about = |text: &String| call.about.iter().any(|about| about.contains(text.as_str()));
                let playbook = other.iter().find(|(_, signs)| signs.iter().any(about)).map(|(name, _)| *name);
                Made {
                    start_ms: ms(call.start),
                    end_ms: ms(call.end),
                    call: format!("{} {}", call.service, call.operation),
                    reason,
                    playbook: playbook.or_else(|| by_role(&call.role)),
                    lane,
                    round: call.round,
                    status: call.status,
                }
            })
            .collect();
        made.sort_by(|a, b| a.start_ms.total_cmp(&b.start_ms));
        let cut = made
            .iter()
            .filter(|call| call.lane == Lane::Cut && call.status < 300)
            .max_by(|a, b| a.end_ms.total_cmp(&b.end_ms))
            .map(|call| (call.end_ms, call.round));
        let rounds = cut.map_or_else(Vec::new, |(_, last)| rounds(&made, last));
        let last_ms = made.iter().map(|call| call.end_ms).fold(0.0, f64::max);
        Self { calls: made, rounds, cut_after_ms: cut.map(|(end, _)| end), last_ms }
    }
}

/// The rounds up to and with `last` in which the playbook that cuts had a call.
fn rounds(made: &[Made], last: u32) -> Vec<Round> {
    let ours = |call: &&Made| call.playbook != Some("snapshot-volumes");
    let mut numbers: Vec<u32> =
        made.iter().filter(ours).map(|call| call.round).filter(|round| *round <= last).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let round = |number: u32| {
        let calls: Vec<&Made> = made.iter().filter(ours).filter(|call| call.round == number).collect();
        let mut counted: Vec<Counted> = Vec::new();
        for call in &calls {
            match counted.iter_mut().find(|known| known.call == call.call && known.reason == call.reason) {
                Some(known) => known.count += 1,
                None => {
                    counted.push(Counted { call: call.call.clone(), reason: call.reason, lane: call.lane, count: 1 })
                }
            }
        }
        Round { end_ms: calls.iter().map(|call| call.end_ms).fold(0.0, f64::max), calls: counted }
    };
    numbers.into_iter().map(round).collect()
}

fn by_role(role: &str) -> Option<&'static str> {
    let playbooks = FUNCTIONS.iter().flat_map(|function| function.playbooks.iter().map(|playbook| playbook.meta().id));
    playbooks.into_iter().find(|name| role.ends_with(&format!("/firebreak/{name}")))
}

/// What a call is for. One that is not known here has a reason that says so: a new call wants a reviewed one.
fn reason(call: &Call) -> (Lane, &'static str) {
    use Lane::{Change, Cut, Hub, Read, Tell};
    let about = |text: &str| call.about.iter().any(|about| about.starts_with(text));
    match (call.service.as_str(), call.operation.as_str()) {
        ("dynamodb", "GetItem") if about("HOLD#") => (Hub, "is the target held already?"),
        ("dynamodb", "GetItem") if about("BUDGET") => (Hub, "what is left of the hour's budgets?"),
        ("dynamodb", "GetItem") if about("POLICY") => (Hub, "which policy set is accepted?"),
        ("dynamodb", "GetItem") if about("ACCOUNT#") => (Hub, "where does the account stand in the organization?"),
        ("dynamodb", "GetItem") if about("RUN#") => (Hub, "the run's journal"),
        ("dynamodb", "GetItem") if about("USED#") => (Hub, "was the decision used before?"),
        ("dynamodb", "GetItem") => (Hub, "the decision, read consistently"),
        ("dynamodb", "Query") if about("GROUPS#") => (Hub, "which security groups are ours?"),
        ("dynamodb", "Query") if about("DUE#") => (Hub, "what is due?"),
        ("dynamodb", "Query") => (Hub, "what joined the hold?"),
        ("dynamodb", "TransactWriteItems") if about("BUDGET") => (Hub, "claim: hold, budgets, journal, lease at once"),
        ("dynamodb", "TransactWriteItems") => (Hub, "the run's state"),
        ("dynamodb", "PutItem") if about("GROUPS#") => (Hub, "the group that was made is ours from now on"),
        ("dynamodb", "PutItem") if about("ACCOUNT#") => (Hub, "where the account stands, for the next finding"),
        ("dynamodb", "PutItem") if about("HOLD#") => (Hub, "the finding joins the hold"),
        ("dynamodb", "PutItem") => (Hub, "a row of the ledger"),
        ("dynamodb", "UpdateItem") => (Hub, "journal of the steps before"),
        ("dynamodb", "DeleteItem") => (Hub, "a due row whose work is done"),
        ("s3", "GetObject") if about("/firebreak-policybucket") => (Hub, "the published policy set"),
        ("s3", "GetObject") => (Tell, "the evidence chain so far"),
        ("s3", "ListObjectsV2") => (Tell, "the evidence chain so far"),
        ("s3", "PutObject") => (Tell, "a record of evidence"),
        ("guardduty", "ListDetectors") => (Hub, "where GuardDuty keeps its findings"),
        ("securityhub", "GetFindings") => (Hub, "is the finding genuine?"),
        ("securityhub", "BatchUpdateFindings") => (Tell, "the note in Security Hub"),
        ("guardduty", "GetFindings") => (Hub, "is the finding genuine?"),
        ("organizations", "DescribeAccount") => (Hub, "where does the account stand in the organization?"),
        ("sts", "AssumeRole") => (Hub, "a session in the member account"),
        ("sts", "GetCallerIdentity") => (Hub, "opens the connection ahead"),
        ("events", "PutEvents") => (Tell, "the outcome event"),
        ("sns", "Publish") => (Tell, "the message to people"),
        ("ec2", "ModifyNetworkInterfaceAttribute") if about("SecurityGroupId") => {
            (Cut, "the interface into quarantine")
        }
        ("ec2", "ModifyNetworkInterfaceAttribute") if about("AssociatePublicIpAddress") => {
            (Cut, "the assigned public address away")
        }
        ("ec2", "ModifyNetworkInterfaceAttribute") => (Change, "forget tracked flows sooner"),
        ("ec2", "DisassociateAddress") => (Cut, "the Elastic IP away"),
        ("ec2", "AssociateAddress") => (Change, "the Elastic IP back"),
        ("ec2", "ModifyInstanceAttribute") => (Change, "keep the instance and its disks"),
        ("ec2", "CreateSecurityGroup") => (Change, "the VPC has no quarantine group yet"),
        ("ec2", "RevokeSecurityGroupIngress") if call.role.ends_with("/firebreak/close-ingress") => {
            (Cut, "the port closed to everywhere")
        }
        ("ec2", "RevokeSecurityGroupEgress" | "RevokeSecurityGroupIngress") => {
            (Change, "the quarantine group without rules")
        }
        ("ec2", "AuthorizeSecurityGroupIngress") => (Change, "what stays open of a rule"),
        ("s3", "PutPublicAccessBlock") => (Cut, "the public kept out"),
        ("s3", "DeletePublicAccessBlock") => (Change, "the public let in again"),
        ("s3", "GetPublicAccessBlock" | "GetBucketPolicyStatus" | "GetBucketAcl") => (Read, "is everybody let in?"),
        ("s3", "GetBucketWebsite") => (Read, "does the bucket serve a website?"),
        ("s3", "GetBucketTagging") => (Read, "what the account's people call it"),
        ("cloudfront", "ListDistributions") => (Read, "does CloudFront read the bucket?"),
        ("ec2", "CreateSnapshots") => (Change, "every disk at one moment"),
        ("ec2", "LockSnapshot") => (Change, "the snapshot cannot be deleted"),
        ("autoscaling", "DetachInstances") => (Change, "out of its Auto Scaling group"),
        ("autoscaling", "AttachInstances") => (Change, "back into its Auto Scaling group"),
        ("elasticloadbalancing", "DeregisterTargets" | "DeregisterInstancesFromLoadBalancer") => {
            (Change, "out of its load balancers")
        }
        ("elasticloadbalancing", "RegisterTargets" | "RegisterInstancesWithLoadBalancer") => {
            (Change, "back into its load balancers")
        }
        ("ec2", "DescribeInstances") => (Read, "the instance"),
        ("ec2", "DescribeNetworkInterfaces") => (Read, "its network interfaces"),
        ("ec2", "DescribeInstanceAttribute") => (Read, "what protects it"),
        ("ec2", "DescribeAddresses") => (Read, "its Elastic IPs"),
        ("ec2", "DescribeIamInstanceProfileAssociations") => (Read, "its role"),
        ("ec2", "DescribeSecurityGroups") => (Read, "our groups"),
        ("ec2", "DescribeSecurityGroupRules") => (Read, "the rules of our groups"),
        ("ec2", "DescribeSnapshots") => (Read, "the snapshots of this case"),
        ("ec2", "DescribeLockedSnapshots") => (Read, "their locks"),
        ("ec2", "DescribeInstanceTypes") => (Read, "disks that no snapshot captures"),
        ("ec2", "DescribeVolumes") => (Read, "the volumes' keys and sizes"),
        ("iam", "UpdateAccessKey") => (Cut, "the access key inactive"),
        ("iam", "PutRolePolicy") => (Cut, "what was issued before now is denied"),
        ("iam", "AttachUserPolicy") => (Change, "deny everything: sessions and the console too"),
        ("iam", "DetachUserPolicy") => (Change, "the deny policy away"),
        ("iam", "DeleteRolePolicy") => (Change, "the revocation away"),
        ("iam", "UpdateServiceSpecificCredential") => (Change, "a service's credential"),
        ("iam", "UpdateSSHPublicKey") => (Change, "an SSH key"),
        ("iam", "UpdateSigningCertificate") => (Change, "a signing certificate"),
        ("iam", "GetAccessKeyLastUsed") => (Read, "whose key is it?"),
        ("iam", "GetUser" | "ListUsers") => (Read, "the user, by its unique id"),
        ("iam", "ListAccessKeys") => (Read, "its access keys"),
        ("iam", "ListAttachedUserPolicies") => (Read, "is everything denied to it already?"),
        ("iam", "GetPolicy" | "GetPolicyVersion") => (Read, "does the deny policy still deny?"),
        ("iam", "GetLoginProfile") => (Read, "has it a password?"),
        ("iam", "ListServiceSpecificCredentials") => (Read, "its credentials for services"),
        ("iam", "ListSSHPublicKeys") => (Read, "its SSH keys"),
        ("iam", "ListSigningCertificates") => (Read, "its signing certificates"),
        ("iam", "GetRole") => (Read, "the role, by its unique id"),
        ("iam", "GetRolePolicy" | "ListRolePolicies") => (Read, "our revocation on the role"),
        ("iam", "ListInstanceProfilesForRole") => (Read, "who else has sessions of the role?"),
        ("cloudtrail", "LookupEvents") => (Read, "what the key was used to make"),
        ("autoscaling", _) => (Read, "its Auto Scaling group"),
        ("elasticloadbalancing", _) => (Read, "its load balancers"),
        _ => (Read, "NO REASON IS GIVEN for this call"),
    }
}

impl Round {
    /// The round in one line: what it was for, what changes something first.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut calls: Vec<&Counted> = self.calls.iter().collect();
        calls.sort_by_key(|call| match (call.lane, call.call.as_str()) {
            (Lane::Cut, _) => 0,
            (Lane::Change, _) => 1,
            (_, "dynamodb TransactWriteItems") => 2,
            (_, "sts AssumeRole") => 3,
            (Lane::Read, _) => 4,
            (Lane::Hub | Lane::Tell, _) => 5,
        });
        let mut reasons: Vec<&str> = calls.iter().map(|call| call.reason).collect();
        let mut seen = std::collections::BTreeSet::new();
        reasons.retain(|reason| seen.insert(*reason));
        reasons.join("; ")
    }

    /// How many calls it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.calls.iter().map(|call| call.count).sum()
    }
}
