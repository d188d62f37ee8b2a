//! `cargo peers`: measures Firebreak and its peers side by side, in turns, on the same emulator and the same Runtime API.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use firebreak_bench::instructions::{count, valgrind};
use firebreak_bench::kit::{Incident, Kit, Peer};
use firebreak_bench::page::{self, Condition, Documented, Results};
use firebreak_bench::sample::{Answered, sample, turned_away_first};
use firebreak_bench::stage::Stage;
use firebreak_tests::quota::Quota;

#[derive(Debug, Parser)]
#[command(name = "cargo peers --")]
struct Arguments {
    /// A folder with the built functions; by default they are built with the profile `ship` (minutes the first time)
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// How many processes of each peer are measured under each condition
    #[arg(long, default_value_t = 11)]
    times: usize,
    /// How many starts of each peer are measured
    #[arg(long, default_value_t = 21)]
    starts: usize,
    /// Milliseconds that every AWS call takes longer
    #[arg(long, value_delimiter = ',', default_value = "0,40")]
    delays: Vec<u64>,
    /// Leave the instruction counts out, which take minutes
    #[arg(long)]
    no_counts: bool,
    /// Write the tables into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// How many events the instruction count of one is taken from.
const COUNTED: usize = 40;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kit = Kit::new(arguments.binaries.as_deref(), &|what| tell(what)).await?;
    let mut results = Results { circumstances: circumstances(&kit)?, ..Results::default() };
    for incident in Incident::ALL {
        for peer in Peer::ALL {
            results.bytes.insert((incident, peer), kit.bytes_shipped(peer, incident)?);
        }
    }
    starts(&kit, &arguments, &mut results).await?;
    for incident in Incident::ALL {
        samples(&kit, &arguments, incident, &mut results).await?;
    }
    for incident in Incident::ALL {
        let policy = incident.policies()[1];
        tell(&format!("Cloud Custodian's {policy}"));
        let mut stage = Stage::new(&kit, Peer::Custodian, incident, policy).await?;
        results.documented.push(Documented { policy, sample: sample(&mut stage, None).await? });
    }
    let tables = results.tables()?;
    writeln!(anstream::stdout(), "{tables}")?;
    if arguments.write {
        page::write(&tables)?;
    }
    Ok(())
}

fn tell(what: &str) {
    // Nobody is there to read it where it cannot be written.
    let _ = writeln!(anstream::stderr(), "{what}");
}

/// Starts in turns, each with one event that is not for it; then the counts.
async fn starts(kit: &Kit, arguments: &Arguments, results: &mut Results) -> Result<()> {
    let mut stages = Vec::new();
    for peer in Peer::ALL {
        let mut stage = Stage::new(kit, peer, Incident::Instance, Incident::Instance.policies()[0]).await?;
        stage.enter_another_account().await?;
        let event = stage.event().await?;
        let foreign = stage.foreign_event(&event).await?;
        // What a machine does once for a program, such as to read it from disk, is no part of this.
        turned_away_first(&stage, &foreign).await?;
        stages.push((stage, foreign));
    }
    tell(&format!("{} starts of each", arguments.starts));
    for _ in 0..arguments.starts {
        for (stage, foreign) in &stages {
            let (ready, took) = turned_away_first(stage, foreign).await?;
            results.starts.entry(stage.peer).or_default().push(ready);
            results.turned_away_first.entry(stage.peer).or_default().push(took);
        }
    }
    match valgrind() {
        _ if arguments.no_counts => results.not_measured.push("instructions, which were left out".to_owned()),
        None => results.not_measured.push("instructions, for this machine has no valgrind".to_owned()),
        Some(valgrind) => {
            for (stage, foreign) in &stages {
                tell(&format!("instructions of {}", stage.peer.name()));
                let counted = count(stage, foreign, &valgrind, COUNTED).await?;
                results.instructions.insert(stage.peer, counted);
            }
        }
    }
    Ok(())
}

/// Samples in turns, under each condition.
async fn samples(kit: &Kit, arguments: &Arguments, incident: Incident, results: &mut Results) -> Result<()> {
    let mut stages = Vec::new();
    for peer in Peer::ALL {
        stages.push(Stage::new(kit, peer, incident, incident.policies()[0]).await?);
    }
    let memory = stages.first().map(Stage::memory_mb);
    let mut shares = vec![None];
    match memory.map(Quota::of).transpose() {
        Ok(_) => shares.push(memory),
        Err(why) => results.not_measured.push(format!("{incident:?} under Lambda's share of a processor: {why:#}")),
    }
    for memory_mb in shares {
        for &delay_ms in &arguments.delays {
            let condition = Condition { delay_ms, memory_mb };
            tell(&format!("{incident:?}, {condition:?}: {} of each", arguments.times));
            for _ in 0..arguments.times {
                for stage in &mut stages {
                    stage.lab.observer.delay(Duration::from_millis(delay_ms)).await?;
                    let taken = sample(stage, memory_mb).await;
                    let taken = taken.with_context(|| format!("{} at {condition:?}", stage.peer.name()))?;
                    for failed in [Some(&taken.cold), taken.warm.as_ref()].into_iter().flatten() {
                        complain(stage, failed);
                    }
                    results.samples.push((incident, condition, stage.peer, taken));
                }
            }
        }
    }
    if let Some(stage) = stages.first() {
        stage.lab.observer.delay(Duration::ZERO).await?;
    }
    Ok(())
}

fn complain(stage: &Stage<'_>, answered: &Answered) {
    if let Some(error) = &answered.error {
        tell(&format!("{}: {error}", stage.peer.name()));
    }
}

/// When, on what, with which versions.
fn circumstances(kit: &Kit) -> Result<Vec<String>> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    // What else the machine had to do.
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("not known").to_owned();
    let date = jiff::Timestamp::now().strftime("%-d %B %Y").to_string();
    Ok(vec![
        format!(
            "Measured on {date}: {cores} cores of {}, Linux {kernel}, load average {load} when it began.",
            model.unwrap_or("a processor that is not named")
        ),
        format!("{}. Firebreak {}, profile `ship`.", kit.versions()?, env!("CARGO_PKG_VERSION")),
    ])
}
