//! `firebreak approve`, `reject`, `undo`, `retry`, `release`, `extend` and `request`: a person's word, said at people's door
//! with the person's own credentials. Who says it is AWS's word, and not the command's.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use firebreak::door::wire::{Answer, Asked, ByHand, RefusalKind};
use firebreak::ids::{AccountId, Region, RunId};
use firebreak::playbook::Purpose;
use firebreak::run::{Outcome, Run, RunState, StepResult};
use firebreak::target::Target;

use crate::Exit;
use crate::connect::playbooks;
use crate::door::{Door, Refused};

/// The command looks at the run this often, and gives up waiting after this long.
const LOOK: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(90);

/// Decides about a run.
pub(crate) async fn run(url: Option<&str>, asked: Asked, wait: bool) -> Result<Exit> {
    let door = Door::at(url).await?;
    let Some((id, _)) = asked.decides() else { bail!("that is no decision about a run") };
    // Only to see afterwards what has changed.
    let before = if wait { Some(door.run(id).await?) } else { None };
    let answer = door.ask(&asked).await?;
    let mut out = anstream::stdout().lock();
    let Answer::Decided { run, by, .. } = answer else { return waits(&mut out, asked.as_str(), &answer) };
    writeln!(out, "decided: {} run {run}, as {}", asked.as_str(), by.join(" and "))?;
    let Some(before) = before else { return Ok(Exit::Well) };
    let after = match settled(&door, &before).await? {
        Settled::Moved(after) => *after,
        Settled::WorkedOn => return not_ended(&mut out, &run),
        Settled::AsBefore => {
            writeln!(
                out,
                "nothing has become of it so far: where the function refuses a decision, people are told why; see the \
                 topic's messages, and: firebreak show {run}"
            )?;
            return Ok(Exit::NotWell);
        }
    };
    if matches!(asked, Asked::Retry { .. }) {
        writeln!(out, "{}", what_was_done(&before, &after))?;
    }
    crate::show::print(&mut out, &after, false)?;
    let outcome = after.end.as_ref().map(|end| end.outcome);
    Ok(Exit::from(match asked {
        Asked::Approve { .. } | Asked::Retry { .. } => matches!(outcome, Some(Outcome::Contained | Outcome::Preserved)),
        Asked::Reject { .. } => after.state == RunState::Rejected,
        Asked::Undo { .. } => outcome == Some(Outcome::Undone),
        _ => true,
    }))
}

/// Stops everything, or takes that back. Well when people could be told, too.
pub(crate) async fn switch(url: Option<&str>, asked: &Asked) -> Result<bool> {
    let answer = Door::at(url).await?.ask(asked).await?;
    let Answer::Switched { stopped, by, told } = answer else { bail!("the door gave another answer than the switch") };
    let mut out = anstream::stdout().lock();
    let what = match stopped {
        true => "stopped: every function only observes from its next event on, until: firebreak resume --reason …",
        false => {
            "resumed: what the policies permit is done again; what came in meanwhile is acted on when it is repeated"
        }
    };
    writeln!(out, "{what}\n  by {}", firebreak::text::plain(&by, 256))?;
    if !told {
        writeln!(out, "  nobody could be told: tell them yourself")?;
    }
    Ok(told)
}

/// What somebody wants contained by hand.
#[derive(Debug, clap::Args)]
pub(crate) struct ByHandArguments {
    /// The playbook: isolate-instance, snapshot-volumes, contain-user or revoke-role-sessions
    playbook: String,
    /// The unique id: i-… of an instance, AIDA… of a user, AROA… of a role, AROA…:NAME of one of its sessions
    target: String,
    /// The account that it is in
    #[arg(long)]
    account: AccountId,
    /// Its Region, of an instance; by default the one of the environment
    #[arg(long, env = "AWS_REGION")]
    region: Region,
    /// The role's name, which its id does not say; IAM must agree
    #[arg(long)]
    role_name: Option<String>,
    /// Why, in one line
    #[arg(long)]
    reason: String,
    /// Do not wait for the function to act
    #[arg(long)]
    no_wait: bool,
}

/// Asks that something be contained.
pub(crate) async fn request(url: Option<&str>, arguments: ByHandArguments) -> Result<Exit> {
    let target = target(&arguments)?;
    let ByHandArguments { playbook, role_name: name, reason, no_wait, .. } = arguments;
    let door = Door::at(url).await?;
    let answer = door.ask(&Asked::Request(ByHand { playbook, target, name, reason })).await?;
    let mut out = anstream::stdout().lock();
    let Answer::Decided { run, by, .. } = answer else { return waits(&mut out, "request", &answer) };
    writeln!(out, "asked for, as {}; its run will be {run}", by.join(" and "))?;
    if no_wait {
        return Ok(Exit::Well);
    }
    let until = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(LOOK);
    let mut begun = false;
    while Instant::now() < until {
        look.tick().await;
        match door.run(&run).await {
            Ok(run) if !is_worked_on(&run) => {
                crate::show::print(&mut out, &run, false)?;
                let outcome = run.end.as_ref().map(|end| end.outcome);
                let well =
                    run.state == RunState::Proposed || matches!(outcome, Some(Outcome::Contained | Outcome::Preserved));
                return Ok(Exit::from(well));
            }
            Ok(_) => begun = true,
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|no| no.kind == RefusalKind::Unknown) => {}
            Err(error) => return Err(error),
        }
    }
    if begun {
        return not_ended(&mut out, &run);
    }
    writeln!(
        out,
        "it has come to no run: there is no such target, it was refused, or another run has it; people are told which, and \
         firebreak runs shows the others"
    )?;
    Ok(Exit::NotWell)
}

/// The target in its canonical form. What kind it is, its id says.
fn target(arguments: &ByHandArguments) -> Result<Target> {
    let ByHandArguments { playbook, target: id, account, region, .. } = arguments;
    // Any other that cannot be asked for the door refuses, and says which can.
    let known = playbooks().iter().find(|known| known.meta().id == playbook);
    if known.is_some_and(|known| known.meta().purpose == Purpose::Fix) {
        bail!(
            "{playbook} fixes what a control has found and is not asked for by hand: in Security Hub, choose the custom action \
             FirebreakContain for the control's finding (docs/sources.md says how it is made); it is proposed then"
        );
    }
    let (partition, global) = (region.partition(), "global");
    let (region, kind) = match id {
        id if id.starts_with("i-") => (region.as_str(), "ec2-instance"),
        id if id.starts_with("AIDA") => (global, "iam-user"),
        id if id.starts_with("AROA") && id.contains(':') => (global, "iam-role-session"),
        id if id.starts_with("AROA") => (global, "iam-role"),
        _ => bail!("a target is named by its unique id: i-…, AIDA…, AROA… or AROA…:NAME"),
    };
    Ok(format!("{partition}/{account}/{region}/{kind}/{id}").parse()?)
}

/// Says that more persons must say the same.
fn waits(out: &mut impl Write, what: &str, answer: &Answer) -> Result<Exit> {
    let Answer::Waits { said, more, until, told } = answer else {
        bail!("the door gave another answer than a decision")
    };
    let persons = if *more == 1 { "one more person".to_owned() } else { format!("{more} more persons") };
    writeln!(out, "not decided yet: {persons} must {what} it as well, until {}", until.strftime("%Y-%m-%d %H:%M UTC"))?;
    for arn in said {
        writeln!(out, "  said by {}", firebreak::text::plain(arn, 256))?;
    }
    match told {
        Some(true) => writeln!(out, "  the others are told")?,
        Some(false) => writeln!(out, "  nobody could be told: tell them yourself")?,
        // Whether they could be told then is not known.
        None => writeln!(out, "  you have said so before")?,
    }
    Ok(Exit::Waits)
}

/// Says that a function works on the run for longer than it was waited for.
fn not_ended(out: &mut impl Write, run: &RunId) -> Result<Exit> {
    writeln!(out, "the function has not ended yet; look again with: firebreak show {run}")?;
    Ok(Exit::NotWell)
}

/// Whether a function has it in its hands.
fn is_worked_on(run: &Run) -> bool {
    matches!(run.state, RunState::Applying | RunState::Undoing)
}

/// What has become of a run.
enum Settled {
    /// Something of it has changed, and nobody works on it.
    Moved(Box<Run>),
    /// A function works on it still.
    WorkedOn,
    /// It is as it was.
    AsBefore,
}

/// Waits until something of the run has changed and nobody works on it.
async fn settled(door: &Door, before: &Run) -> Result<Settled> {
    let mut worked_on = false;
    let until = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(LOOK);
    while Instant::now() < until {
        look.tick().await;
        let run = door.run(&before.head.id).await?;
        let moved = run.epoch != before.epoch || run.state != before.state || run.hold != before.hold;
        worked_on = is_worked_on(&run);
        if !worked_on && moved {
            return Ok(Settled::Moved(Box::new(run)));
        }
    }
    Ok(if worked_on { Settled::WorkedOn } else { Settled::AsBefore })
}

/// Whether a further attempt has done anything.
fn what_was_done(before: &Run, after: &Run) -> String {
    let changed = |run: &Run| {
        let done = run.steps.iter().filter(|(_, record)| matches!(record.result, StepResult::Changed { .. }));
        done.map(|(id, record)| (id.clone(), record.at)).collect::<std::collections::BTreeSet<_>>()
    };
    match changed(after).difference(&changed(before)).count() {
        0 => "done again: nothing was changed, all that could be done is as wanted".to_owned(),
        1 => "done again: 1 step changed something".to_owned(),
        count => format!("done again: {count} steps changed something"),
    }
}
