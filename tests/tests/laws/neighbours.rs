//! A run's session is narrowed to its target, and a member role is taken on by one function of one account: what is
//! beside is refused by AWS, whoever holds the session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::run::RunState;
use firebreak_tests::compare::list;
use firebreak_tests::deployment::{FUNCTIONS, ORGANIZATION, REGION};
use firebreak_tests::emulator::{Credentials, Ids, Observer, fresh_account, world};
use firebreak_tests::enrolment::enrol;
use firebreak_tests::faults::{Place, Request};
use firebreak_tests::in_process::{Case, Permits, Security, Traced, run_to_end};
use serde_json::{Map, Value, json};

use crate::support::{SIDE_BY_SIDE, all_of, named, one_of_each, users_of_actions};

// --- what is beside the target ---

/// What a session may do to anything of the account, and why. Reviewed.
const TO_ANY: &[(&str, &str)] =
    &[("ec2:LockSnapshot", "the snapshots are made by the run, and have no id when the session is made")];

/// What is put behind every name of the neighbour's world.
const BESIDE: &str = "-2";

/// The same world under other names: what stands beside a target in its account.
fn beside(world: &Value) -> Value {
    const NO_NAMES: [&str; 6] = ["about", "target", "trail", "targets", "classic_members", "end_states"];
    let sections = world.as_object().into_iter().flatten().filter(|(section, _)| !NO_NAMES.contains(&section.as_str()));
    let mut names = BTreeSet::new();
    for (_, entries) in sections {
        names.extend(entries.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        collect_names(entries, &mut names);
    }
    let mut beside = world.clone();
    for (section, entries) in beside.as_object_mut().into_iter().flatten() {
        if matches!(section.as_str(), "about" | "target") {
            continue;
        }
        *entries = renamed(entries, &names);
        if let Some(named) = entries.as_object().cloned() {
            let new = |(name, entry): (String, Value)| (with_ending(&name, &names), entry);
            *entries = json!(named.into_iter().map(new).collect::<Map<String, Value>>());
        }
    }
    beside
}

fn with_ending(text: &str, names: &BTreeSet<String>) -> String {
    if names.contains(text) {
        return format!("{text}{BESIDE}");
    }
    // A record of CloudTrail has ids as `{NAME}` and `{NAME.key}`.
    let within = |text: String, name: &String| {
        let end = |end: char| (format!("{{{name}{end}"), format!("{{{name}{BESIDE}{end}"));
        ['}', '.'].map(end).iter().fold(text, |text, (old, new)| text.replace(old, new))
    };
    names.iter().fold(text.to_owned(), within)
}

fn collect_names(value: &Value, names: &mut BTreeSet<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        let naming = matches!(key.as_str(), "name" | "renamed" | "role");
        names.extend(inner.as_str().filter(|_| naming).map(str::to_owned));
        collect_names(inner, names);
    }
    for inner in value.as_array().into_iter().flatten() {
        collect_names(inner, names);
    }
}

fn renamed(value: &Value, names: &BTreeSet<String>) -> Value {
    match value {
        Value::String(text) => json!(with_ending(text, names)),
        Value::Array(all) => all.iter().map(|one| renamed(one, names)).collect(),
        Value::Object(all) => {
            json!(all.iter().map(|(name, one)| (name.clone(), renamed(one, names))).collect::<Map<String, Value>>())
        }
        other => other.clone(),
    }
}

/// The id of each thing, and of what is beside it; among them associations, which have ids of their own.
async fn pairs(case: &Case, neighbour: &Ids) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for (name, id) in case.ids.iter() {
        let (base, rest) = name.find('.').map_or((name, ""), |at| name.split_at(at));
        let its = neighbour.get(&format!("{base}{BESIDE}{rest}"))?;
        pairs.insert(id.to_owned(), its.to_owned());
    }
    let addresses = case.call("ec2", "describe_addresses", json!({})).await?;
    let profiles = case.call("ec2", "describe_iam_instance_profile_associations", json!({})).await?;
    for (listed, of) in
        [(&addresses["Addresses"], "AllocationId"), (&profiles["IamInstanceProfileAssociations"], "InstanceId")]
    {
        let associations: BTreeMap<&str, &str> =
            list(listed).filter_map(|entry| Some((entry[of].as_str()?, entry["AssociationId"].as_str()?))).collect();
        for (of, association) in &associations {
            let its = pairs.get(*of).and_then(|its| associations.get(its.as_str()));
            if let Some(its) = its.map(|its| (*its).to_owned()) {
                pairs.insert((*association).to_owned(), its);
            }
        }
    }
    // A finding about the whole account is answered about both: then each is beside the other.
    let back: Vec<(String, String)> = pairs.iter().map(|(id, its)| (its.clone(), id.clone())).collect();
    pairs.extend(back);
    Ok(pairs)
}

/// The groups that a request names and the world does not know: the run has made them.
fn made_groups(request: &Request, pairs: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = request.body.split(|c: char| !is_id(c)).filter(|word| word.starts_with("sg-") && word.len() > 10);
    words.filter(|word| !pairs.contains_key(*word)).map(str::to_owned).collect()
}

fn refused(answer: &(u16, String)) -> bool {
    let (status, body) = answer;
    let code =
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"].iter().any(|code| body.contains(code));
    matches!(status, 400 | 403) && code && body.contains("because no session policy allows the")
}

async fn a_session_refuses_what_is_beside(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
) -> Result<usize> {
    let case = Case::new(security, playbook, of).await?;
    let neighbour = security.observer.seed(&case.member, REGION, &beside(&world(of)?)).await?;
    let pairs = pairs(&case, &neighbour).await?;
    let a_group = neighbour.iter().map(|(_, id)| id).find(|id| id.starts_with("sg-")).unwrap_or("sg-00000000000000000");
    case.deliver().await.answer()?;
    if case.the_run().await?.state == RunState::Proposed {
        case.decide(Verb::Approve).await?.answer()?;
    }
    if case.the_run().await?.state == RunState::Held {
        case.decide(Verb::Undo).await?.answer()?;
    }
    let before = case.state().await?;
    let requests = case.faults.requests();
    let mut knocked = 0;
    for request in requests.iter().filter(|r| r.place == Place::Member && !r.reads() && r.answered.is_some()) {
        if TO_ANY.iter().any(|(name, _)| *name == request.name()) {
            continue;
        }
        let made = made_groups(request, &pairs);
        let all: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(id, its)| (id.as_str(), its.as_str()))
            .chain(made.iter().map(|id| (id.as_str(), a_group)))
            .collect();
        // All that it names at once; and in EC2, where every id is a resource but for those in a rule, each alone.
        let alone = request.service == "ec2" && !request.body.contains("IpPermissions");
        let mut doors = vec![all.clone()];
        doors.extend(all.iter().filter(|_| alone).map(|swap| vec![*swap]));
        for swaps in doors {
            let Some(answer) = case.faults.again(request, &swaps).await? else { continue };
            let name = request.name();
            ensure!(
                refused(&answer),
                "{name} on what is beside ({swaps:?}) is answered with {answer:?}: {}",
                request.body
            );
            knocked += 1;
        }
    }
    ensure!(case.state().await? == before, "something beside the target was changed");
    Ok(knocked)
}

#[test]
fn the_session_of_a_run_is_refused_everything_beside_its_target() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Everything).await.unwrap();
        // Each action in one world, and so all that are in it.
        let users = one_of_each(users_of_actions().await).into_iter();
        let places: BTreeMap<_, _> = users.map(|(playbook, _, of)| ((playbook.id(), of), playbook)).collect();
        let knocked = std::sync::atomic::AtomicUsize::new(0);
        let mut cases = Vec::new();
        for ((id, of), playbook) in places {
            let (security, knocked) = (&servers[cases.len() % servers.len()], &knocked);
            cases.push(named(format!("{id} {of}"), async move {
                let times = a_session_refuses_what_is_beside(security, playbook, of).await?;
                let only_any = playbook_is_only_to_any(playbook);
                ensure!(times > 0 || only_any, "nothing of the run names its target");
                knocked.fetch_add(times, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            }));
        }
        all_of("a session beside its target", cases, SIDE_BY_SIDE).await;
        let knocked = knocked.into_inner();
        println!("sessions: {knocked} calls beside the target, each refused");
        assert!(knocked > 100, "{knocked}");
    });
}

/// Whether all that a playbook does may be done to any.
fn playbook_is_only_to_any(playbook: &Traced) -> bool {
    use firebreak::playbook::Playbook;
    let permissions = playbook.actions().iter().flat_map(|action| action.permissions());
    let mut changing = permissions.filter(|permission| !firebreak::session::is_read(permission.action));
    changing.all(|permission| TO_ANY.iter().any(|(name, _)| *name == permission.action))
}

// --- who takes a role on ---

/// Takes a role on with these credentials, by an SDK of Firebreak's own. Answers with AWS's code where it refuses.
async fn take_on(
    security: &Security,
    account: &str,
    who: &Credentials,
    role: &str,
    identity: bool,
) -> Result<Option<String>> {
    let connection = firebreak::aws::Connection::default();
    let aws = firebreak_tests::deployment::account(security.emulator, account, who, &connection)?;
    let identity = identity.then(|| "tester".to_owned());
    let taking = aws.sts().assume_role().role_arn(role).role_session_name("tester").set_source_identity(identity);
    match taking.send().await.map_err(firebreak::failure::Failure::from_sdk("assume role", role)) {
        Ok(_) => Ok(None),
        Err(failure) => Ok(Some(failure.code.context("a refusal without a code")?)),
    }
}

/// A role that may take on every role there is.
async fn ambitious(observer: &Observer, account: &str, path: &str, name: &str) -> Result<Credentials> {
    let anybody = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    ]});
    let role = json!({"RoleName": name, "Path": path, "AssumeRolePolicyDocument": anybody.to_string()});
    observer.call(account, REGION, "iam", "create_role", role).await?;
    let all = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"], "Resource": "*"}
    ]});
    let policy = json!({"RoleName": name, "PolicyName": "all", "PolicyDocument": all.to_string()});
    observer.call(account, REGION, "iam", "put_role_policy", policy).await?;
    observer.role_credentials(account, &format!("arn:aws:iam::{account}:role{path}{name}")).await
}

#[test]
fn a_member_role_is_taken_on_by_its_function_and_by_nobody_else() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let (observer, hub) = (&security.observer, &security.account);
        let member = fresh_account();
        for function in FUNCTIONS {
            enrol(observer, hub, &member, function).await.unwrap();
        }
        // Other roles of the security account: one that may take on any, and an administrator.
        let other = ambitious(observer, hub, "/firebreak/", "another").await.unwrap();
        let administrator = observer.credentials(hub).await.unwrap();
        // A role of the same path and name in another account of the organization, and an administrator of the member.
        let sibling = fresh_account();
        observer.enforce(&[&sibling], Some(ORGANIZATION)).await.unwrap();
        let mut siblings = BTreeMap::new();
        for function in FUNCTIONS {
            siblings.insert(function.name, ambitious(observer, &sibling, "/firebreak/", function.name).await.unwrap());
        }
        let of_the_member = observer.credentials(&member).await.unwrap();
        let mut tried = 0;
        for function in FUNCTIONS {
            for playbook in function.playbooks {
                let role = format!("arn:aws:iam::{member}:role/firebreak/{}", playbook.meta().id);
                let its = format!("arn:aws:iam::{hub}:role/firebreak/{}", function.name);
                let its = observer.role_credentials(hub, &its).await.unwrap();
                for identity in [true, false] {
                    let code = take_on(&security, hub, &its, &role, identity).await.unwrap();
                    assert_eq!(code, None, "{} takes on {role}", function.name);
                }
                let another_function = FUNCTIONS.iter().find(|another| another.name != function.name).unwrap();
                let of_another = format!("arn:aws:iam::{hub}:role/firebreak/{}", another_function.name);
                let of_another = observer.role_credentials(hub, &of_another).await.unwrap();
                for (account, who) in [
                    (hub, &other),
                    (hub, &administrator),
                    (hub, &of_another),
                    (&sibling, &siblings[function.name]),
                    (&member, &of_the_member),
                ] {
                    for identity in [true, false] {
                        let code = take_on(&security, account, who, &role, identity).await.unwrap();
                        assert_eq!(code.as_deref(), Some("AccessDenied"), "{account} takes on {role}");
                        tried += 1;
                    }
                }
            }
        }
        // The security account leaves the organization, or was never in it.
        observer.enforce(&[hub], Some("o-another0001")).await.unwrap();
        for function in FUNCTIONS {
            let its = format!("arn:aws:iam::{hub}:role/firebreak/{}", function.name);
            let its = observer.role_credentials(hub, &its).await.unwrap();
            for playbook in function.playbooks {
                let role = format!("arn:aws:iam::{member}:role/firebreak/{}", playbook.meta().id);
                let code = take_on(&security, hub, &its, &role, true).await.unwrap();
                assert_eq!(code.as_deref(), Some("AccessDenied"), "another organization takes on {role}");
                tried += 1;
            }
        }
        println!("trust: {tried} attempts on a member role, each refused");
    });
}
