//! The scenarios.

use std::time::Duration;

use anyhow::{Result, anyhow};
use firebreak::ledger::decisions::Verb;
use serde_json::{Value, json};

use super::checks::Expect;
use super::facts::Topic;
use super::{ISOLATE, SNAPSHOT, Stage, controls, identities};
use crate::compare::entries;
use crate::deployment::{CONTAIN_COMPUTE, CONTAIN_IDENTITY, HARDEN};
use crate::lab::Setup;

/// The playbooks that answer in them, by name.
const PLAYBOOKS: [&str; 2] = [ISOLATE, SNAPSHOT];
/// The event file of most scenarios.
const FINDING: &str = "command-and-control";
/// Sequential calls from the event to the last cut, when the VPC has a quarantine group, and when it has none.
const ROUNDS_PREPARED: usize = 8;
const ROUNDS_FIRST: usize = 12;

macro_rules! scenarios {
    ($($variant:ident $name:literal $about:literal,)*) => {
        /// What can be rehearsed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Scenario {
            $(#[doc = $about] $variant,)*
        }

        impl Scenario {
            /// Every scenario.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What happens in it.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),* }
            }
        }
    };
}

scenarios! {
    CompromisedInstance "compromised-instance" "a web server calls its controller: contained, told, repeated, forged, undone",
    Prepared "prepared" "the VPC has a quarantine group already: the shortest way to the cut",
    ProposeThenApprove "propose-then-approve" "the default policy asks first; people approve one proposal and reject one",
    Spot "spot" "a Spot Instance, which cannot be protected against termination",
    NoProfile "no-profile" "no role, no public address, protected already",
    AsgAtMaximum "asg-at-maximum" "the Auto Scaling group is full after the replacement: undo leaves it to a person",
    ManagedByOperator "managed-by-operator" "a service manages the instance: refused, and said so",
    SquattedGroup "squatted-group" "somebody made an open group with our name: it is not used",
    FourInterfaces "four-interfaces" "four interfaces, five groups on one of them",
    Killed "killed" "the function dies in the middle of the cut; the schedule goes on",
    CompromisedKey "compromised-key" "a leaked access key: its user contained, kept so against the attacker, undone",
    OpenPort "open-port" "a control fails: SSH open to everywhere, closed to just that, repeated, forged, undone",
    PublicBucket "public-bucket" "a control fails: a bucket that everybody may read, blocked, undone",
    StolenRoleSession "stolen-role-session" "an instance's session used elsewhere: that session revoked, and again, undone",
}

impl Scenario {
    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name() == name)
    }

    /// What its lab begins with.
    #[must_use]
    pub fn setup(self) -> Setup<'static> {
        let world = match self {
            Self::CompromisedInstance | Self::Prepared | Self::ProposeThenApprove | Self::Killed => "web-server",
            Self::Spot => "spot",
            Self::NoProfile => "no-profile",
            Self::AsgAtMaximum => "asg-at-maximum",
            Self::ManagedByOperator => "managed-by-operator",
            Self::SquattedGroup => "squatted-group",
            Self::FourInterfaces => "four-interfaces",
            Self::CompromisedKey => "ci-user",
            Self::OpenPort => "open-ranges",
            Self::PublicBucket => "public-bucket",
            Self::StolenRoleSession => "instance-role",
        };
        let policy = (self != Self::ProposeThenApprove).then_some("starter");
        let function = match self {
            Self::CompromisedKey | Self::StolenRoleSession => CONTAIN_IDENTITY,
            Self::OpenPort | Self::PublicBucket => HARDEN,
            _ => CONTAIN_COMPUTE,
        };
        Setup { world, policy, function, ..Setup::default() }
    }

    /// Plays it.
    pub(super) async fn play(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Self::CompromisedInstance => compromised_instance(stage).await,
            Self::Prepared => prepared(stage).await,
            Self::ProposeThenApprove => propose_then_approve(stage).await,
            Self::Spot => simple(stage, Expect { unprotectable: true, ..Expect::default() }).await,
            Self::NoProfile | Self::FourInterfaces => simple(stage, Expect::default()).await,
            Self::AsgAtMaximum => asg_at_maximum(stage).await,
            Self::ManagedByOperator => managed_by_operator(stage).await,
            Self::SquattedGroup => squatted_group(stage).await,
            Self::Killed => killed(stage).await,
            Self::CompromisedKey => identities::compromised_key(stage).await,
            Self::OpenPort => controls::open_port(stage).await,
            Self::PublicBucket => controls::public_bucket(stage).await,
            Self::StolenRoleSession => identities::stolen_role_session(stage).await,
        }
    }
}

async fn compromised_instance(stage: &mut Stage<'_>) -> Result<()> {
    let sessions = role_policies(stage).await?;
    let incident = stage.contain(FINDING).await?;
    stage.say("reading AWS back");
    stage.check_contained(&incident.before, &incident.after, &Expect::default())?;
    let now = role_policies(stage).await?;
    stage.same(Topic::Untouched, "no policy is put on its role: sessions are another playbook's", &sessions, &now);
    check_rounds(stage, &Expect::default());
    stage.check_runs(Topic::Decided, "one run of each playbook", &PLAYBOOKS).await?;
    stage.check_told(ISOLATE, "contained", "CONTAINED").await?;
    stage.read_steps().await?;
    let remains = stage.drill.remains.len();
    stage.holds(Topic::Told, "what is not contained is said", remains > 0, format!("{remains} things"));
    stage.check_evidence(&incident.before, &incident.after).await?;
    stage.lab.outcome_events().await?;
    stage.lab.messages().await?;
    stage.check_repeated(&incident, &PLAYBOOKS).await?;
    let sample = stage.lab.finding("sample", "neighbour").await?;
    let invented = stage.lab.finding(FINDING, "neighbour").await?;
    stage.check_forged(&incident, &PLAYBOOKS, sample, invented).await?;
    if stage.style.undo { undo(stage, &incident.before).await } else { Ok(()) }
}

/// What a containment of one finding has to be in any world.
async fn simple(stage: &mut Stage<'_>, expect: Expect) -> Result<()> {
    let incident = stage.contain(FINDING).await?;
    stage.check_contained(&incident.before, &incident.after, &expect)?;
    stage.check_runs(Topic::Decided, "one run of each playbook", &PLAYBOOKS).await?;
    check_rounds(stage, &expect);
    stage.check_told(ISOLATE, "contained", "CONTAINED").await?;
    stage.read_steps().await?;
    if expect.unprotectable {
        let said = stage.drill.remains.iter().any(|text| text.contains("Spot"));
        stage.holds(
            Topic::Told,
            "that it can be interrupted at any time is said",
            said,
            stage.drill.remains.join("; "),
        );
    }
    stage.check_evidence(&incident.before, &incident.after).await?;
    stage.lab.outcome_events().await?;
    stage.lab.messages().await?;
    if stage.style.undo { undo(stage, &incident.before).await } else { Ok(()) }
}

async fn prepared(stage: &mut Stage<'_>) -> Result<()> {
    let group = stage.lab.prepare().await?;
    stage.names.name(&group, "quarantine");
    simple(stage, Expect { prepared: Some(group), ..Expect::default() }).await
}

async fn propose_then_approve(stage: &mut Stage<'_>) -> Result<()> {
    let incident = stage.contain(FINDING).await?;
    stage.check_unchanged(Topic::Decided, "a proposal changes nothing", &incident.before, &incident.after);
    for playbook in [ISOLATE, SNAPSHOT] {
        let state = stage.state_of_run(playbook).await?;
        stage.same(Topic::Decided, &format!("{playbook} is proposed"), &json!("proposed"), &json!(state));
    }
    stage.check_told(ISOLATE, "proposed", "DECISION NEEDED").await?;
    if !stage.style.undo {
        // Both are left to whoever keeps the drill.
        return stage.read_steps().await;
    }
    stage.decide(SNAPSHOT, Verb::Reject).await?;
    let state = stage.state_of_run(SNAPSHOT).await?;
    stage.same(Topic::Decided, "the rejected one is rejected", &json!("rejected"), &json!(state));
    let rejected = stage.lab.state().await?;
    stage.check_unchanged(Topic::Decided, "a rejection changes nothing", &incident.before, &rejected);
    stage.decide(SNAPSHOT, Verb::Approve).await?;
    let after_all = stage.lab.state().await?;
    stage.check_unchanged(Topic::Decided, "what is rejected cannot be approved", &incident.before, &after_all);
    stage.lab.outcome_events().await?;
    stage.lab.messages().await?;
    let run = stage.run_of(ISOLATE)?;
    let event = stage.lab.decision(&run, Verb::Approve).await?;
    stage.say("a person approves");
    let again = event.clone();
    let (_, after) = stage.measured(|stage| Box::pin(stage.function.invoke(event))).await?;
    stage.drill.moments.retain(|moment| moment.title == "before");
    stage.check_contained(&incident.before, &after, &Expect::default())?;
    stage.check_told(ISOLATE, "contained", "CONTAINED").await?;
    stage.function.invoke(again).await?;
    let repeated = stage.lab.state().await?;
    stage.check_unchanged(Topic::Repeated, "a decision is used once", &after, &repeated);
    stage.read_steps().await?;
    undo(stage, &incident.before).await
}

async fn asg_at_maximum(stage: &mut Stage<'_>) -> Result<()> {
    let incident = stage.contain(FINDING).await?;
    stage.check_contained(&incident.before, &incident.after, &Expect::default())?;
    stage.check_told(ISOLATE, "contained", "CONTAINED").await?;
    stage.read_steps().await?;
    if !stage.style.undo {
        return Ok(());
    }
    stage.lab.outcome_events().await?;
    // Somebody lowers the maximum meanwhile: the replacement has taken the victim's place for good.
    let desired = incident.after["auto_scaling_groups"]["asg"]["desired"].clone();
    let params = json!({"AutoScalingGroupName": "asg", "MaxSize": desired});
    stage.lab.at_member("autoscaling", "update_auto_scaling_group", params).await?;
    let full = stage.lab.state().await?;
    stage.decide(ISOLATE, Verb::Undo).await?;
    let undone = stage.lab.state().await?;
    stage.moment("undone", &undone)?;
    let asg = |state: &Value| state["auto_scaling_groups"].clone();
    stage.same(Topic::Undone, "a full group is left as it is", &asg(&full), &asg(&undone));
    let victim = stage.drill.victim.clone();
    for (id, was) in entries(&incident.before["interfaces"]).filter(|(_, i)| i["instance"] == victim) {
        let what = format!("{} is in its groups again", stage.names.of(id));
        stage.same(Topic::Undone, &what, &was["groups"], &undone["interfaces"][id]["groups"]);
    }
    stage.check_told(ISOLATE, "undone_partly", "UNDONE IN PART").await
}

async fn managed_by_operator(stage: &mut Stage<'_>) -> Result<()> {
    let incident = stage.contain(FINDING).await?;
    stage.check_unchanged(Topic::Untouched, "nothing has changed", &incident.before, &incident.after);
    stage.same(Topic::Decided, "there is no run", &json!(0), &json!(stage.drill.runs.len()));
    stage.check_told(ISOLATE, "refused", "REFUSED").await?;
    let named = stage.drill.messages.iter().any(|text| text.contains("eks.amazonaws.com"));
    stage.holds(Topic::Told, "who manages it is said", named, stage.drill.messages.join(" / "));
    Ok(())
}

async fn squatted_group(stage: &mut Stage<'_>) -> Result<()> {
    simple(stage, Expect::default()).await?;
    let squatted = stage.lab.ids.get("sg_squatted")?.to_owned();
    let state = stage.lab.state().await?;
    let rules = state["security_groups"][&squatted]["rules"].as_array().map_or(0, Vec::len);
    stage.holds(
        Topic::Untouched,
        "the squatter's group keeps its rules: it is not ours",
        rules > 0,
        format!("{rules} rules"),
    );
    Ok(())
}

/// The function is killed as soon as the first cut is made.
async fn killed(stage: &mut Stage<'_>) -> Result<()> {
    let before = stage.lab.state().await?;
    stage.moment("before", &before)?;
    let finding = stage.lab.finding(FINDING, "victim").await?;
    stage.drill.finding = finding["type"].as_str().unwrap_or_default().to_owned();
    stage.lab.put_in_guardduty(&finding).await?;
    let event = stage.lab.route(&finding).await?.pop().ok_or_else(|| anyhow!("the finding was not delivered"))?;
    stage.say("a finding arrives; the function is killed at the first cut");
    let (observer, member) = (stage.lab.observer.clone(), stage.lab.member.clone());
    let since = observer.calls(u64::MAX, &[]).await?.next;
    stage.lab.pace(stage.style.pace).await?;
    let pid = stage.function.pid();
    let watch = async {
        loop {
            let calls = observer.calls(since, &[("account", &member)]).await?.calls;
            let cut = |name: &str| matches!(name, "ModifyNetworkInterfaceAttribute" | "DisassociateAddress");
            if calls.iter().any(|call| cut(&call.operation)) {
                // By its id; the handle is in use by whoever waits for the answer.
                std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
                return Ok::<_, anyhow::Error>(());
            }
        }
    };
    let (invoked, watched) = tokio::join!(stage.function.invoke(event.clone()), watch);
    watched?;
    stage.lab.pace(Duration::ZERO).await?;
    let died = invoked?.answer.is_err();
    stage.holds(Topic::Decided, "the function dies before it can answer", died, "the process ended");
    let half = stage.lab.state().await?;
    stage.learn_names(&half).await?;
    stage.function = stage.lab.start().await?;
    stage.say("Lambda delivers the finding again");
    stage.function.invoke(event).await?;
    stage.check_runs(Topic::Repeated, "the second delivery leaves the run to its lease", &PLAYBOOKS).await?;
    stage.say("the lease ends; the schedule comes");
    stage.lab.let_time_pass().await?;
    stage.lab.schedule(&mut stage.function).await?;
    let after = stage.lab.state().await?;
    stage.learn_names(&after).await?;
    stage.check_contained(&before, &after, &Expect::default())?;
    stage.check_runs(Topic::Decided, "one run of each playbook", &PLAYBOOKS).await?;
    stage.check_told(ISOLATE, "contained", "CONTAINED").await?;
    stage.read_steps().await?;
    stage.check_evidence(&before, &after).await?;
    stage.lab.outcome_events().await?;
    stage.lab.messages().await?;
    if stage.style.undo { undo(stage, &before).await } else { Ok(()) }
}

async fn undo(stage: &mut Stage<'_>, before: &Value) -> Result<()> {
    let undone = stage.check_undo(ISOLATE).await?;
    stage.check_undone(before, &undone);
    Ok(())
}

fn check_rounds(stage: &mut Stage<'_>, expect: &Expect) {
    let most = if expect.prepared.is_some() { ROUNDS_PREPARED } else { ROUNDS_FIRST };
    let rounds = stage.drill.numbers.rounds;
    let what = format!("at most {most} AWS calls one after another up to the last cut");
    stage.holds(Topic::Budget, &what, (1..=most).contains(&rounds), format!("{rounds}"));
    stage.check_reasons();
    let refused: Vec<String> = stage
        .drill
        .timeline
        .calls
        .iter()
        .filter(|call| call.status >= 400)
        .map(|call| format!("{} ({})", call.call, call.status))
        .collect();
    // Spot: EC2 refuses stop protection. It is tried, since that costs nothing, and the refusal is an outcome.
    let expected = if expect.unprotectable { json!(["ec2 ModifyInstanceAttribute (400)"]) } else { json!([]) };
    stage.same(Topic::Budget, "AWS refuses no call that it need not", &expected, &json!(refused));
}

/// The policies of the victim's role: a revocation of sessions would be one.
async fn role_policies(stage: &Stage<'_>) -> Result<Value> {
    let role = json!({"RoleName": "web-server"});
    let inline = stage.lab.at_member("iam", "list_role_policies", role.clone()).await?;
    let attached = stage.lab.at_member("iam", "list_attached_role_policies", role).await?;
    Ok(json!([inline["PolicyNames"], attached["AttachedPolicies"]]))
}
