//! What whoever holds the account does against a run while it is under way: the target is contained in the end, as the
//! independent client sees it, or people are told what is not. What the target gets meanwhile is in `meanwhile`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use firebreak::action::Boxed;
use firebreak::run::Outcome;
use firebreak::target::TargetKind;
use firebreak_tests::compare::{entries, list};
use firebreak_tests::emulator::Refusal;
use firebreak_tests::faults::{Doing, Moment, Place, Request, decoded};
use firebreak_tests::in_process::{Case, Permits, REGION, Security, Traced, kind_of_target, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::facts::{holds, more, open, reopen};
use crate::support::{Named, all, contains, done, every_pair, named, preserves, results, worlds};

/// A move against a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// The target gets another interface, or a key of its works.
    Grows,
    /// What was cut off is connected again: another group, the denial detached, the revocation deleted.
    TakesBack,
    /// Every group of ours lets everything through.
    OpensOurGroups,
    /// Our groups are deleted, where nothing is in them.
    DeletesOurGroups,
    /// What the run makes under its own name is there already, and says something else. The name is no secret: the
    /// run's id stands in the account's trail as soon as the run reads there.
    TakesOurName,
    /// The policy that denies everything says something else.
    HollowsOurPolicy,
    /// Every key works again.
    Reactivates,
    /// Another key is made.
    MakesAKey,
    /// A volume is taken off the instance.
    DetachesAVolume,
    /// Snapshots are deleted that are not locked yet.
    DeletesSnapshots,
}

impl Move {
    /// The moves that make sense against a playbook.
    fn against(playbook: &Traced) -> &'static [Self] {
        match kind_of_target(playbook) {
            Ok(TargetKind::Ec2Instance) if preserves(playbook) => &[Self::DetachesAVolume, Self::DeletesSnapshots],
            Ok(TargetKind::Ec2Instance) => {
                &[Self::Grows, Self::TakesBack, Self::OpensOurGroups, Self::DeletesOurGroups, Self::TakesOurName]
            }
            Ok(TargetKind::IamUser) => {
                &[Self::Grows, Self::TakesBack, Self::HollowsOurPolicy, Self::Reactivates, Self::MakesAKey]
            }
            Ok(TargetKind::IamRole | TargetKind::IamRoleSession) => &[Self::TakesBack, Self::TakesOurName],
            _ => &[],
        }
    }

    /// The move, ready to be made.
    async fn ready(self, case: &Arc<Case>) -> Result<Boxed<'static, Result<()>>> {
        if self == Self::Grows {
            return Ok(more(case).await?.give);
        }
        let case = Arc::clone(case);
        Ok(Box::pin(async move { self.made(&case).await }))
    }

    async fn made(self, case: &Case) -> Result<()> {
        let state = case.state().await?;
        match self {
            Self::Grows => more(case).await?.give.await,
            Self::TakesBack => unless_it_is_not_there(reopen(case).await),
            Self::OpensOurGroups => {
                for group in our_groups(&state) {
                    let everything = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
                    for operation in ["authorize_security_group_ingress", "authorize_security_group_egress"] {
                        let params = json!({"GroupId": group, "IpPermissions": everything});
                        // The rule may be there already.
                        let _ = case.call("ec2", operation, params).await;
                    }
                }
                Ok(())
            }
            Self::DeletesOurGroups => {
                for group in our_groups(&state) {
                    // EC2 refuses while an interface is in it.
                    let _ = case.call("ec2", "delete_security_group", json!({"GroupId": group})).await;
                }
                Ok(())
            }
            Self::TakesOurName => takes_our_name(case, &state).await,
            Self::HollowsOurPolicy => {
                let nothing = json!({"Version": "2012-10-17", "Statement": [
                    {"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"}]});
                let params = json!({
                    "PolicyArn": format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member),
                    "PolicyDocument": nothing.to_string(), "SetAsDefault": true,
                });
                case.call("iam", "create_policy_version", params).await.map(|_| ())
            }
            Self::Reactivates => {
                let (name, user) = user(case, &state)?;
                for (key, _) in entries(&user["keys"]) {
                    let params = json!({"UserName": name, "AccessKeyId": key, "Status": "Active"});
                    case.call("iam", "update_access_key", params).await?;
                }
                Ok(())
            }
            Self::MakesAKey => {
                let (name, _) = user(case, &state)?;
                // A user has two at the most.
                let _ = case.call("iam", "create_access_key", json!({"UserName": name})).await;
                Ok(())
            }
            Self::DetachesAVolume => {
                let of_it = |volume: &Value| volume["attached"].to_string().contains(&case.target.id);
                let volume = entries(&state["volumes"]).filter(|(_, volume)| of_it(volume)).last();
                if let Some((volume, attached)) = volume {
                    let device = &attached["attached"][0][1];
                    let params = json!({"VolumeId": volume, "InstanceId": case.target.id, "Device": device});
                    case.call("ec2", "detach_volume", params).await?;
                }
                Ok(())
            }
            Self::DeletesSnapshots => {
                for (snapshot, _) in entries(&state["snapshots"]) {
                    // EC2 refuses while it is locked.
                    let _ = case.call("ec2", "delete_snapshot", json!({"SnapshotId": snapshot})).await;
                }
                Ok(())
            }
        }
    }
}

/// There is nothing to take back yet.
fn unless_it_is_not_there(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == "NoSuchEntity") => Ok(()),
        done => done,
    }
}

fn our_groups(state: &Value) -> Vec<String> {
    let ours = |group: &Value| group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine-"));
    entries(&state["security_groups"]).filter(|(_, group)| ours(group)).map(|(id, _)| id.to_owned()).collect()
}

fn user<'s>(case: &Case, state: &'s Value) -> Result<(&'s str, &'s Value)> {
    let mut users = entries(&state["users"]);
    users.find(|(_, user)| user["id"] == case.target.id.as_str()).context("the user is gone")
}

/// The id of the run, as it stands in the account's trail: the sessions that read there have it as their source.
fn run_in_the_trail(case: &Case) -> Option<String> {
    let asked = case.faults.requests().into_iter().rfind(|request| request.operation == "AssumeRole")?;
    asked.body.split('&').find_map(|pair| pair.strip_prefix("SourceIdentity=")).map(decoded)
}

async fn takes_our_name(case: &Case, state: &Value) -> Result<()> {
    let Some(run) = run_in_the_trail(case) else { return Ok(()) };
    if case.target.kind == TargetKind::Ec2Instance {
        let mut interfaces =
            entries(&state["interfaces"]).filter(|(_, one)| one["instance"] == case.target.id.as_str());
        let (_, interface) = interfaces.next().context("the victim has no interface")?;
        let vpc = list(&interface["groups"]).find_map(|id| state["security_groups"][id.as_str()?]["vpc"].as_str());
        let name = format!("firebreak-quarantine-{run}");
        let params = json!({"GroupName": name, "Description": "Firebreak", "VpcId": vpc});
        // It is there when the run was faster.
        if let Ok(made) = case.call("ec2", "create_security_group", params).await {
            let everything = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
            let params = json!({"GroupId": made["GroupId"], "IpPermissions": everything});
            case.call("ec2", "authorize_security_group_ingress", params).await?;
        }
        return Ok(());
    }
    let id = case.target.id.split(':').next().unwrap_or_default();
    let mut roles = entries(&state["roles"]);
    let (name, _) = roles.find(|(_, role)| role["id"] == id).context("the role is gone")?;
    let nothing = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"}]});
    let policy = format!("firebreak-revoked-{run}");
    let params = json!({"RoleName": name, "PolicyName": policy, "PolicyDocument": nothing.to_string()});
    case.call("iam", "put_role_policy", params).await.map(|_| ())
}

/// A call that changes something in the member account.
fn changes(request: &Request) -> bool {
    request.place == Place::Member && !request.reads()
}

/// When a move is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Around a changing call of the run, by its number.
    At(usize, Moment),
    /// While it is read back: some reads see it and some do not.
    WhileItIsReadBack,
}

/// How many changing calls an undisturbed run makes.
async fn calls_of(security: &Arc<Security>, playbook: &'static Traced) -> Result<usize> {
    let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
    case.deliver().await.answer()?;
    Ok(case.faults.requests().iter().filter(|request| changes(request)).count())
}

/// What people were told of the case's run.
async fn told(case: &Case) -> Result<String> {
    let run = case.the_run().await?.head.id;
    Ok(case.security.told_about(run.as_str()).await?.join("\n"))
}

/// What is not as it is to be, by the ids of the things.
fn left_open(case: &Case, before: &Value, state: &Value) -> Result<Vec<String>> {
    if !preserves(case.playbook) {
        return Ok(open(case, state)?.into_keys().collect());
    }
    let of_it = |volume: &Value| volume["attached"].to_string().contains(&case.target.id);
    let kept = |volume: &str| {
        let of_it = |snapshot: &Value| snapshot["volume"] == volume && snapshot["lock"]["state"] == "governance";
        entries(&state["snapshots"]).any(|(_, snapshot)| of_it(snapshot))
    };
    let volumes = entries(&before["volumes"]).filter(|(_, volume)| of_it(volume)).map(|(id, _)| id);
    Ok(volumes.filter(|id| !kept(id)).map(str::to_owned).collect())
}

/// It is contained, or people were told what is not.
async fn is_contained_or_told(case: &Case, before: &Value) -> Result<()> {
    let state = case.state().await?;
    let open = left_open(case, before, &state)?;
    let run = case.the_run().await?;
    let outcome = run.end.as_ref().map(|end| end.outcome);
    if open.is_empty() && (preserves(case.playbook) || holds(case, &state).is_ok()) {
        return Ok(());
    }
    let told = told(case).await?;
    ensure!(
        outcome != Some(done(case.playbook)) || told.contains("OPEN AGAIN") || told.contains("NOT"),
        "it is said to be done: {open:?}\n{}\n{told}",
        results(&run)
    );
    let silent: Vec<_> = open.iter().filter(|id| !told.contains(id.as_str())).collect();
    ensure!(silent.is_empty(), "nobody was told of {silent:?}\n{}\n{told}", results(&run));
    Ok(())
}

async fn is_moved_against(security: &Arc<Security>, playbook: &'static Traced, what: Move, when: When) -> Result<()> {
    let case = Arc::new(Case::new(security, playbook, &worlds(playbook).await.least).await?);
    let before = case.state().await?;
    let count = AtomicUsize::new(0);
    let begun = AtomicBool::new(false);
    let which = move |request: &Request| match when {
        When::At(n, _) => changes(request) && count.fetch_add(1, Ordering::SeqCst) == n,
        When::WhileItIsReadBack => {
            begun.fetch_or(changes(request), Ordering::SeqCst);
            begun.load(Ordering::SeqCst) && request.doing == Doing::Planning
        }
    };
    let moment = if let When::At(_, moment) = when { moment } else { Moment::Before };
    let moved = case.faults.meanwhile(moment, which, what.ready(&case).await?);
    case.deliver().await.answer()?;
    moved.happened()?;
    case.faults.nobody();
    case.settle().await?;
    let ends = is_contained_or_told(&case, &before).await;
    if when == When::WhileItIsReadBack && ends.is_err() {
        // What was read before it was moved can only be seen by who looks again: the finding, when it comes again.
        case.deliver().await.answer()?;
        let text = told(&case).await?;
        ensure!(text.contains("OPEN AGAIN"), "nobody was told: {text}");
        case.settle().await?;
        return holds(&case, &case.state().await?);
    }
    ends
}

#[test]
fn whatever_is_done_against_a_run_it_is_contained_or_people_are_told_what_is_not() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Enforce).await.unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, one)| contains(*one) || preserves(*one)) {
            let calls = calls_of(&servers[0], playbook).await.unwrap();
            assert!(calls > 0, "{} changes nothing", playbook.id());
            let around = (0..calls).flat_map(|n| [When::At(n, Moment::Before), When::At(n, Moment::After)]);
            let whens: Vec<When> = around.chain([When::WhileItIsReadBack]).collect();
            let moves = Move::against(playbook);
            assert!(!moves.is_empty(), "{}: nobody moves against it", playbook.id());
            let pairs: Vec<(Move, When)> = if every_pair() {
                moves.iter().flat_map(|what| whens.iter().map(move |when| (*what, *when))).collect()
            } else {
                let most = whens.len().max(moves.len());
                moves.iter().copied().cycle().zip(whens.iter().copied().cycle()).take(most).collect()
            };
            for (what, when) in pairs {
                let security = &servers[cases.len() % servers.len()];
                let name = format!("{}: {what:?} {when:?}", playbook.id());
                cases.push(named(name, is_moved_against(security, playbook, what, when)));
            }
        }
        all("moves against a run", cases).await;
    });
}

/// Somebody takes back what was cut as often as it is cut.
async fn is_taken_back_each_time(security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let case = Arc::new(Case::new(security, playbook, &worlds(playbook).await.least).await?);
    let before = case.state().await?;
    let cuts = case.the_plan().await?.steps().filter(|step| step.cuts).map(|step| step.id.clone()).collect::<Vec<_>>();
    let which = move |request: &Request| {
        matches!(&request.doing, Doing::Applying(step) if cuts.contains(step)) && changes(request)
    };
    let (observer, member, target) = (security.observer.clone(), case.member.clone(), Arc::clone(&case));
    let (start, times) = (before.clone(), Arc::new(AtomicUsize::new(0)));
    let often = Arc::clone(&times);
    case.faults.whenever(which, move || {
        let (observer, member, case) = (observer.clone(), member.clone(), Arc::clone(&target));
        let start = start.clone();
        often.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if case.target.kind != TargetKind::Ec2Instance {
                return unless_it_is_not_there(reopen(&case).await);
            }
            for (id, interface) in
                entries(&start["interfaces"]).filter(|(_, i)| i["instance"] == case.target.id.as_str())
            {
                let params = json!({"NetworkInterfaceId": id, "Groups": interface["groups"]});
                observer.call(&member, REGION, "ec2", "modify_network_interface_attribute", params).await?;
            }
            Ok(())
        })
    });
    let answer = case.deliver().await.answer()?;
    ensure!(times.load(Ordering::SeqCst) > 0, "nobody took anything back");
    let said = answer.outcomes.iter().all(|one| one.outcome != Outcome::Contained);
    let open = left_open(&case, &before, &case.state().await?)?;
    ensure!(said && !open.is_empty(), "{open:?}: {:?}", answer.outcomes);
    let text = told(&case).await?;
    ensure!(open.iter().all(|id| text.contains(id.as_str())), "nobody was told of {open:?}: {text}");
    // It does not go on for ever within one event.
    let calls = case.faults.requests().iter().filter(|request| changes(request)).count();
    ensure!(calls < 100, "{calls} changing calls for one event");
    // When they are tired of it, the schedule has it cut.
    case.faults.nobody();
    case.settle().await?;
    let state = case.state().await?;
    holds(&case, &state)?;
    ensure!(case.the_run().await?.end.is_some_and(|end| end.outcome == Outcome::Contained), "it is not said");
    Ok(())
}

#[test]
fn what_is_taken_back_each_time_it_is_cut_is_not_called_contained_and_is_cut_when_nobody_does_any_more() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Enforce).await.unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (n, (_, playbook)) in playbooks().iter().filter(|(_, playbook)| contains(*playbook)).enumerate() {
            cases.push(named(playbook.id(), is_taken_back_each_time(&servers[n % servers.len()], playbook)));
        }
        all("taken back each time", cases).await;
    });
}
