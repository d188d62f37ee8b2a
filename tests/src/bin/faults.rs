//! `cargo faults`: every fault at every call of every run, one at a time, and what becomes of it.
//!
//! docs/faults.md says what is tried, what it is judged by, and how long it takes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use firebreak_tests::deployment::CONTAIN_COMPUTE;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::in_process::{Permits, Security, Traced, playbooks, run_to_end};
use firebreak_tests::judgement::{Worlds, find_worlds};
use firebreak_tests::lab::Binary;
use firebreak_tests::matrix::killed::{self, End};
use firebreak_tests::matrix::tally::{Count, Counts, table};
use firebreak_tests::matrix::{Point, Row, Trial, Tried, Verdict, Way, share};
use futures_util::StreamExt;

/// Tries every fault at every call of every run, and says what became of it
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Only this playbook; may be given several times
    #[arg(long)]
    playbook: Vec<String>,
    /// This world of tests/worlds/, or `least` or `largest` for the one with the shortest or longest plan
    #[arg(long, default_value = "least")]
    world: String,
    /// Only this way; may be given several times
    #[arg(long, value_enum)]
    way: Vec<Way>,
    /// Only this fault; may be given several times
    #[arg(long, value_enum)]
    fault: Vec<Trial>,
    /// Only calls in whose name this is, as a failure or `--list` writes it
    #[arg(long)]
    call: Option<String>,
    /// Only a share of the points: `1/8` is the first of eight
    #[arg(long, value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// How many points are tried side by side
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// Permit steps, too, that need a leave by name
    #[arg(long)]
    with_leave: bool,
    /// Kill the built contain-compute instead, at every call, and let its time run out at every call
    #[arg(long)]
    killed: bool,
    /// List the calls, and try nothing
    #[arg(long)]
    list: bool,
    /// Print each report of less with what it says
    #[arg(long)]
    explain: bool,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(nth, of)| Some((nth.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((nth, of)) if (1..=of).contains(&nth) => Ok((nth - 1, of)),
        _ => Err("a share is written as 1/8".to_owned()),
    }
}

/// Security accounts, one on each server, by what their policies permit.
type Servers = BTreeMap<Permits, Vec<Arc<Security>>>;

/// What came of everything.
#[derive(Default)]
struct Results {
    by_playbook: Counts,
    by_fault: Counts,
    by_way: Counts,
    failures: Vec<String>,
    honest: BTreeMap<String, usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = Arc::new(Mutex::new(None));
    let end = Arc::clone(&ended);
    run_to_end(move || async move {
        let result = if arguments.killed { killed(&arguments).await } else { matrix(&arguments).await };
        *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    let ended = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
    match ended.unwrap_or_else(|| Err(anyhow!("it did not end"))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) {
    // Whoever closes the pipe does not want to know.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn chosen(asked: &[String]) -> Result<Vec<&'static Traced>> {
    let all = || playbooks().iter().map(|(_, playbook)| *playbook);
    for id in asked {
        ensure!(all().any(|playbook| playbook.id() == id), "there is no playbook {id}");
    }
    Ok(all().filter(|playbook| asked.is_empty() || asked.iter().any(|id| playbook.id() == id)).collect())
}

async fn matrix(arguments: &Arguments) -> Result<bool> {
    let begun = Instant::now();
    let playbooks = chosen(&arguments.playbook)?;
    let named = !matches!(arguments.world.as_str(), "least" | "largest");
    let worlds = if named { BTreeMap::new() } else { find_worlds(&playbooks).await? };
    let ways = if arguments.way.is_empty() { Way::ALL.to_vec() } else { arguments.way.clone() };
    let mut results = Results::default();
    for way in ways {
        // Fresh ones for each way: what people were told is looked through for each point.
        let mut servers = Servers::new();
        for playbook in &playbooks {
            let world = world_of(arguments, worlds.get(playbook.id()))?;
            let row = Row { playbook, world, way, with_leave: arguments.with_leave };
            try_row(arguments, &row, &mut servers, &mut results)
                .await
                .with_context(|| format!("{way} {}", playbook.id()))?;
        }
    }
    if arguments.list {
        return Ok(true);
    }
    say(&format!("\n{}\n\n{}", table("playbook", &results.by_playbook), table("fault", &results.by_fault)));
    say(&format!("\n{}\n", table("way", &results.by_way)));
    let not_made: usize = results.by_playbook.values().map(|count| count.not_made).sum();
    if not_made > 0 {
        say(&format!(
            "{not_made} times the call was not made, which happens where it hangs on the clock; all ended well."
        ));
    }
    for (how, times) in &results.honest {
        say(&format!("honest report, {times} times: {how}"));
    }
    for failure in &results.failures {
        say(failure);
    }
    say(&format!("{} s in all", begun.elapsed().as_secs()));
    Ok(results.failures.is_empty())
}

fn world_of(arguments: &Arguments, worlds: Option<&Worlds>) -> Result<String> {
    match (arguments.world.as_str(), worlds) {
        ("least", Some(worlds)) => Ok(worlds.least.clone()),
        ("largest", Some(worlds)) => Ok(worlds.largest.clone()),
        ("least" | "largest", None) => bail!("no world is planned over"),
        (named, _) => Ok(named.to_owned()),
    }
}

async fn try_row(arguments: &Arguments, row: &Row, servers: &mut Servers, results: &mut Results) -> Result<()> {
    let begun = Instant::now();
    let servers = match servers.entry(row.permits()) {
        Entry::Occupied(held) => held.into_mut(),
        Entry::Vacant(free) => free.insert(Security::on_each_server(row.permits()).await?),
    };
    let first = servers.first().context("there is no server")?;
    let undisturbed = row.undisturbed(first).await?;
    if arguments.list {
        say(&format!("{} {} over {}: {} calls", row.way, row.playbook.id(), row.world, undisturbed.calls.len()));
        for call in &undisturbed.calls {
            say(&format!("    {call}"));
        }
        return Ok(());
    }
    let points = row.points(&undisturbed);
    let mut count = Count { points: points.len(), ..Count::default() };
    for trial in Trial::ALL {
        results.by_fault.entry(trial.to_string()).or_default().points += undisturbed.calls.len();
    }
    let (nth, of) = arguments.shard.unwrap_or((0, 1));
    let wanted = |point: &Point| {
        let fault = arguments.fault.is_empty() || arguments.fault.contains(&point.trial);
        fault && arguments.call.as_ref().is_none_or(|call| point.call.contains(call.as_str()))
    };
    let points: Vec<Point> = share(points, nth, of).into_iter().filter(wanted).collect();
    let noted = |tried: &Tried| {
        count.note(tried);
        results.by_fault.entry(tried.point.trial.to_string()).or_default().note(tried);
        match &tried.verdict {
            Ok(Verdict::Same) => {}
            Ok(Verdict::Honest(how)) => {
                let how = match arguments.explain {
                    true => format!(
                        "{how}: {} at {}, {}, {}",
                        tried.point.trial,
                        tried.point.call,
                        row.way,
                        row.playbook.id()
                    ),
                    false => how.clone(),
                };
                *results.honest.entry(how).or_default() += 1;
            }
            Err(error) => {
                let failure = format!("FAILED {error:#}\n    {}", reproduction(row, &tried.point));
                say(&failure);
                results.failures.push(failure);
            }
        }
    };
    row.try_all(servers, &undisturbed, points, arguments.jobs, noted).await;
    let Count { tried, same, honest, failed, not_made, .. } = count;
    say(&format!(
        "{} {} over {}: {} calls, {} points, {tried} tried: {same} same end state, {honest} honest report, \
         {failed} FAILED, {not_made} not made ({} s)",
        row.way,
        row.playbook.id(),
        row.world,
        undisturbed.calls.len(),
        count.points,
        begun.elapsed().as_secs()
    ));
    results.by_playbook.entry(row.playbook.id().to_owned()).or_default().add(&count);
    results.by_way.entry(row.way.to_string()).or_default().add(&count);
    Ok(())
}

/// The same with the built function.
async fn killed(arguments: &Arguments) -> Result<bool> {
    let begun = Instant::now();
    let emulator = Emulator::start().await?;
    let binary = Binary::build(CONTAIN_COMPUTE, "dev").await?;
    let undisturbed = killed::contain(&emulator, &binary, None).await.context("undisturbed")?;
    let number = undisturbed.calls.len();
    let points: Vec<(End, usize)> = (0..number).flat_map(|call| End::ALL.map(|end| (end, call))).collect();
    let (nth, of) = arguments.shard.unwrap_or((0, 1));
    let its = share(points, nth, of);
    let tries = its.into_iter().map(|(end, call)| {
        let (emulator, binary) = (&emulator, &binary);
        async move { (end, call, Box::pin(killed::contain(emulator, binary, Some((end, call)))).await) }
    });
    let mut trying = futures_util::stream::iter(tries).buffer_unordered(arguments.jobs);
    let mut counts = Counts::new();
    let mut failed = 0;
    while let Some((end, call, gone)) = trying.next().await {
        let count = counts.entry(format!("{end:?}")).or_default();
        let verdict = match gone {
            Ok(gone) if !gone.struck => {
                count.not_made += 1;
                continue;
            }
            Ok(gone) if gone.ended == undisturbed.ended => Ok(()),
            Ok(gone) => Err(format!("ended otherwise: {:?}", gone.ended.runs)),
            Err(error) => Err(format!("{error:#}")),
        };
        count.tried += 1;
        match verdict {
            Ok(()) => count.same += 1,
            Err(why) => {
                count.failed += 1;
                failed += 1;
                let name = undisturbed.calls.get(call).map_or("", String::as_str);
                say(&format!("FAILED {end:?} at call {call} ({name} when undisturbed): {why}"));
            }
        }
    }
    for end in End::ALL {
        counts.entry(format!("{end:?}")).or_default().points = number;
    }
    let seconds = begun.elapsed().as_secs();
    say(&format!("\n{}\n\n{number} calls; {seconds} s in all", table("contain-compute, built", &counts)));
    Ok(failed == 0)
}

/// The command that tries one point again.
fn reproduction(row: &Row, point: &Point) -> String {
    format!(
        "cargo faults -- --way {} --playbook {} --world {} --fault {} --call '{}'{}",
        row.way,
        row.playbook.id(),
        row.world,
        point.trial,
        point.call,
        if row.with_leave { " --with-leave" } else { "" }
    )
}
