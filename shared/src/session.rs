//! Sessions in member accounts: one that can only read, and ones narrowed to the steps they are for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::aws::{Aws, ServerTime};
use crate::failure::{Class, Failure};
use crate::ids::{AccountId, Region, RunId};
use crate::permission::{Grant, Permission};
use crate::plan::StepId;

/// What an inline session policy may hold (STS API reference, `AssumeRole`, `Policy`).
pub const MOST_POLICY_CHARACTERS: usize = 2048;

/// Sessions last the shortest time STS gives.
pub(crate) const SESSION_SECONDS: i32 = 900;

/// A session policy and the steps it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Narrowed {
    /// The steps whose calls it allows.
    pub steps: Vec<StepId>,
    /// The policy document.
    pub policy: Value,
}

/// A policy that allows reads only: `Describe…`, `List…`, `Get…` and `Lookup…` actions without resources.
pub fn read_policy(permissions: impl IntoIterator<Item = Permission>) -> Value {
    let reads: std::collections::BTreeSet<&str> =
        permissions.into_iter().filter(|p| is_read(p.action)).map(|p| p.action).collect();
    document(&[Grant::new_many(reads, &["*".to_owned()])])
}

/// Whether an IAM action only reads. The verb decides; every action of ours is listed by a test.
pub fn is_read(action: &str) -> bool {
    action.split_once(':').is_some_and(|(_, operation)| only_reads(operation))
}

/// Whether an operation only reads.
pub fn only_reads(operation: &str) -> bool {
    ["Describe", "List", "Get", "Lookup"].iter().any(|verb| operation.starts_with(verb))
}

/// Packs the steps' grants into as few policies as fit, in order. A policy that is full begins another
/// session; it is never widened. A grant without a resource is left out: STS refuses a policy with one, and with it
/// every step of the session.
pub fn narrow(steps: &[(StepId, Vec<Grant>)], reads: &[(StepId, Vec<&'static str>)]) -> Vec<Narrowed> {
    let mut packed: Vec<Narrowed> = Vec::new();
    let mut begun: Vec<usize> = Vec::new();
    for index in 0..steps.len() {
        let mut with = begun.clone();
        with.push(index);
        let policy = policy_of(steps, reads, &with);
        if begun.is_empty() || policy.to_string().len() <= MOST_POLICY_CHARACTERS {
            begun = with;
        } else {
            packed.push(narrowed(steps, reads, &begun));
            begun = vec![index];
        }
    }
    if !begun.is_empty() {
        packed.push(narrowed(steps, reads, &begun));
    }
    packed
}

fn narrowed(steps: &[(StepId, Vec<Grant>)], reads: &[(StepId, Vec<&'static str>)], which: &[usize]) -> Narrowed {
    Narrowed {
        steps: which.iter().filter_map(|i| steps.get(*i)).map(|(id, _)| id.clone()).collect(),
        policy: policy_of(steps, reads, which),
    }
}

fn policy_of(steps: &[(StepId, Vec<Grant>)], reads: &[(StepId, Vec<&'static str>)], which: &[usize]) -> Value {
    // One statement for all actions on the same resources.
    let mut by_resources: BTreeMap<Vec<String>, std::collections::BTreeSet<String>> = BTreeMap::new();
    for index in which {
        let granted = steps.get(*index).map(|(_, grants)| grants.as_slice()).unwrap_or_default();
        for grant in granted.iter().filter(|grant| !grant.on.is_empty()) {
            let mut on = grant.on.clone();
            on.sort();
            on.dedup();
            by_resources.entry(on).or_default().insert(grant.action.clone());
        }
        for read in reads.get(*index).map(|(_, reads)| reads.as_slice()).unwrap_or_default() {
            by_resources.entry(vec!["*".to_owned()]).or_default().insert((*read).to_owned());
        }
    }
    let grants: Vec<(Vec<String>, Vec<String>)> =
        by_resources.into_iter().map(|(on, actions)| (actions.into_iter().collect(), on)).collect();
    document(&grants)
}

impl Grant {
    fn new_many<'a>(actions: impl IntoIterator<Item = &'a str>, on: &[String]) -> (Vec<String>, Vec<String>) {
        (actions.into_iter().map(str::to_owned).collect(), on.to_vec())
    }
}

fn document(statements: &[(Vec<String>, Vec<String>)]) -> Value {
    let statements: Vec<Value> = statements
        .iter()
        .map(|(actions, on)| json!({ "Effect": "Allow", "Action": actions, "Resource": on }))
        .collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Takes on the playbook's role in a member account. The role's name is fixed: nothing of it comes from
/// a finding but the account id, whose trust policy decides.
pub async fn assume(
    hub: &Aws,
    playbook: &'static str,
    account: &AccountId,
    region: &Region,
    run: &RunId,
    policy: &Value,
) -> Result<Aws, Failure> {
    let name = format!("firebreak-{run}");
    let take = Take {
        role: playbook,
        name: &name,
        source_identity: Some(run.as_str()),
        seconds: SESSION_SECONDS,
        policy: Some(policy),
    };
    take.on(hub, account, region).await
}

/// A role of ours to be taken on.
#[derive(Debug)]
pub(crate) struct Take<'a> {
    /// Its name, below `/firebreak/`.
    pub(crate) role: &'static str,
    /// The session's name, by which CloudTrail shows it.
    pub(crate) name: &'a str,
    /// The source identity, which stays when further roles are taken on, and cannot be changed then.
    pub(crate) source_identity: Option<&'a str>,
    /// How long the session lasts.
    pub(crate) seconds: i32,
    /// What it is narrowed to.
    pub(crate) policy: Option<&'a Value>,
}

impl Take<'_> {
    /// A session of the role in this account, with which calls go to this Region.
    pub(crate) async fn on(self, from: &Aws, account: &AccountId, region: &Region) -> Result<Aws, Failure> {
        let role = format!("arn:{}:iam::{account}:role/firebreak/{}", region.partition(), self.role);
        let policy = self.policy.map(Value::to_string);
        if policy.as_ref().is_some_and(|policy| policy.len() > MOST_POLICY_CHARACTERS) {
            return Err(Failure::new(Class::Bug, "narrow a session for", role));
        }
        let clock = Clock::default();
        let answer = from
            .sts()
            .assume_role()
            .role_arn(&role)
            .role_session_name(self.name)
            .set_source_identity(self.source_identity.map(str::to_owned))
            .duration_seconds(self.seconds)
            .set_policy(policy)
            .customize()
            .interceptor(clock.clone())
            .send()
            .await
            .map_err(Failure::from_sdk("assume role", &role))?;
        let given = answer.credentials().ok_or_else(|| Failure::new(Class::Bug, "assume role", role.clone()))?;
        // The account of the session is what STS says it is, and must be the target's.
        let arn = answer.assumed_role_user().map(|user| user.arn()).unwrap_or_default();
        if arn.parse::<crate::ids::Arn>().ok().and_then(|arn| arn.account).as_ref() != Some(account) {
            return Err(Failure::new(Class::Refused, "use a session of another account than", account.as_str()));
        }
        let credentials = SharedCredentialsProvider::new(Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            None,
            "firebreak",
        ));
        Ok(from.with_credentials(account.clone(), region.clone(), credentials).told_the_time(clock.read()))
    }
}

/// Reads the time off an answer of AWS's: its `Date` header, and when it came.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<Mutex<Option<ServerTime>>>);

impl Clock {
    fn read(&self) -> Option<ServerTime> {
        self.0.lock().ok().and_then(|time| *time)
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        if let (Some(at), Ok(mut time)) =
            (date.and_then(|date| Timestamp::from_second(date.secs()).ok()), self.0.lock())
        {
            *time = Some(ServerTime { at, seen: Instant::now() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the steps, no session can do more than its own steps' grants, none is lost, and none
        /// is longer than STS takes, unless a single step alone is.
        #[test]
        fn sessions_are_split_and_never_widened(counts in proptest::collection::vec(1usize..6, 1..30)) {
            let steps: Vec<(StepId, Vec<Grant>)> = counts.iter().enumerate().map(|(i, count)| {
                let on = (0..*count).map(|n| format!("arn:aws:ec2:eu-west-1:222222222222:network-interface/eni-{i:08x}{n:09x}"));
                (StepId(format!("step {i}")), vec![Grant::new("ec2:ModifyNetworkInterfaceAttribute", on)])
            }).collect();
            let packed = narrow(&steps, &[]);
            let all: Vec<StepId> = packed.iter().flat_map(|n| n.steps.clone()).collect();
            prop_assert_eq!(all, steps.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
            for session in &packed {
                let text = session.policy.to_string();
                prop_assert!(text.len() <= MOST_POLICY_CHARACTERS || session.steps.len() == 1);
                for (id, grants) in &steps {
                    for arn in &grants[0].on {
                        prop_assert_eq!(text.contains(arn), session.steps.contains(id));
                    }
                }
            }
        }
    }

    #[test]
    fn a_grant_without_a_resource_is_in_no_policy() {
        let steps = [
            (StepId("lost".to_owned()), vec![Grant::new("ec2:RevokeSecurityGroupEgress", [])]),
            (StepId("fine".to_owned()), vec![Grant::new("ec2:DisassociateAddress", ["arn".to_owned()])]),
        ];
        let [one] = narrow(&steps, &[]).try_into().unwrap();
        assert_eq!(
            one.policy["Statement"],
            json!([{"Effect": "Allow", "Action": ["ec2:DisassociateAddress"], "Resource": ["arn"]}])
        );
    }

    #[test]
    fn a_reading_session_holds_no_write() {
        let policy = read_policy([
            Permission::read("ec2:DescribeInstances"),
            Permission::on("ec2:ModifyInstanceAttribute", &["ec2:*:*:instance/*"]),
        ]);
        assert_eq!(
            policy,
            json!({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": ["ec2:DescribeInstances"], "Resource": ["*"]}
            ]})
        );
    }
}
