//! `cargo flood`: thousands of findings through several processes of the function, and what came of them.
//!
//! Ends with 1 where a fact is not so or memory has grown.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anstream::{eprintln, println};
use anyhow::{Context, Result, bail};
use clap::Parser;
use firebreak_tests::deployment::CONTAIN_COMPUTE;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::flood::{Kind, Score, Size, flood};
use firebreak_tests::lab::Binary;
use jiff::Timestamp;

/// Flood the function that contains instances, in an emulator of AWS.
#[derive(Debug, Parser)]
#[command(name = "flood", bin_name = "cargo flood --", version)]
struct Arguments {
    /// How many findings are delivered, duplicates included
    #[arg(long, default_value_t = 10_000)]
    findings: usize,
    /// How many instances they are about
    #[arg(long, default_value_t = 1_000)]
    targets: usize,
    /// How many processes of the function answer side by side
    #[arg(long, default_value_t = 4)]
    processes: usize,
    /// Every duplicate is the same event, byte by byte; else updates, other findings and Security Hub's copies are among them
    #[arg(long)]
    same: bool,
    /// A built function; by default it is built with the profile `dev`
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How much more a process may hold at the end than after the first tenth
    #[arg(long, default_value_t = 1.25)]
    growth: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let Arguments { findings, targets, processes, same, .. } = arguments;
    if targets == 0 || processes == 0 || findings < targets {
        bail!("give at least one instance, one process, and as many findings as instances");
    }
    let binary = match &arguments.binary {
        // It is started in a folder of its own.
        Some(path) => Binary {
            path: std::fs::canonicalize(path).with_context(|| format!("no function at {}", path.display()))?,
            profile: "built before".to_owned(),
        },
        None => Binary::build(CONTAIN_COMPUTE, "dev").await?,
    };
    let emulator = Emulator::start_telling(|text| eprintln!("{text}")).await?;
    let begun = Instant::now();
    let tell = |text: &str| eprintln!("{:>6.0} s  {text}", begun.elapsed().as_secs_f64());
    let score = flood(&emulator, &binary, Size { findings, targets, processes, same }, &tell).await?;
    print(&score, &binary);
    let flat = score.growth().is_none_or(|growth| growth <= arguments.growth);
    if !flat {
        println!("✗ a process holds more than {} times what it held after the first tenth", arguments.growth);
    }
    Ok(if flat && score.wrong().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(score: &Score, binary: &Binary) {
    let Size { findings, targets, processes, .. } = score.size;
    println!("\n{findings} findings about {targets} instances in {} accounts, {processes} processes", score.accounts);
    println!("{}, function: profile {}\n", Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"), binary.profile);
    println!("took        {:.0} s, {:.1} findings a second", score.took.as_secs_f64(), score.a_second());
    let each = score.calls as f64 / findings as f64;
    println!("AWS calls   {}, {each:.1} a finding, the schedule's among them", score.calls);
    println!("schedule    came {} times; {} deliveries failed and were made again", score.schedules, score.again);
    println!("\nanswers");
    for ((kind, said), times) in &score.answers {
        println!("  {times:>6}  {kind:<20} {said}");
    }
    println!("\none alone              AWS calls  in the security account  in the member's      ms");
    for alone in &score.alone {
        let [hub, member] = alone.by_operation.each_ref().map(|calls| calls.values().sum::<usize>());
        let kind = alone.kind.to_string();
        println!("  {kind:<20} {:>9} {hub:>24} {member:>16} {:>7}", alone.calls, alone.took.as_millis());
    }
    for alone in score.alone.iter().filter(|alone| matches!(alone.kind, Kind::First | Kind::Again)) {
        for (place, calls) in ["security", "member"].into_iter().zip(&alone.by_operation) {
            let each = calls.iter().map(|(operation, calls)| format!("{calls} {operation}")).collect::<Vec<_>>();
            println!("  {}, {place} account: {}", alone.kind, each.join(", "));
        }
    }
    println!("\ncalls by operation");
    let mut by_operation: Vec<_> = score.by_operation.iter().collect();
    by_operation.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
    for (operation, calls) in by_operation.iter().take(16) {
        println!("  {calls:>7}  {operation}");
    }
    println!("\nmemory of each process, MB (and its peak)");
    for lap in &score.laps {
        let mb = |kb: &u64| *kb as f64 / 1024.0;
        let each =
            lap.memory_kb.iter().zip(&lap.peak_kb).map(|(now, peak)| format!("{:.1} ({:.1})", mb(now), mb(peak)));
        let each = each.collect::<Vec<_>>().join("  ");
        println!("  after {:>6} findings, {:>5.0} s: {each}", lap.answered, lap.after.as_secs_f64());
    }
    if let Some(growth) = score.growth() {
        println!("  last to first: {growth:.3} at most");
    }
    println!("\nread back from AWS and from the ledger");
    for fact in &score.facts {
        match fact.ok {
            true => println!("  ✓ {}", fact.what),
            false => println!("  ✗ {}\n      {}", fact.what, fact.found),
        }
    }
}
