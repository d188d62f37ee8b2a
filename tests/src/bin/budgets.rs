//! `cargo budgets`: holds the function that ships against its budgets, by medians over many starts and runs.
//!
//! Builds it with the profile `ship` (minutes the first time), or takes a built one (`--binary`). With `--quota` it
//! also runs under the share of a processor that Lambda gives to each memory size (1,769 MB are one vCPU), where
//! this machine lets it (Linux, cgroup v1 or v2, root).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use comfy_table::{Table, presets};
use firebreak_tests::deployment::CONTAIN_COMPUTE;
use firebreak_tests::emulator::{Emulator, workspace};
use firebreak_tests::lab::{Binary, Lab, Setup};
use firebreak_tests::quota::Quota;
use serde_json::Value;

#[derive(Debug, Parser)]
struct Arguments {
    /// A built function; by default it is built with the profile `ship`
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How many starts, and how many turned-away findings, are counted
    #[arg(long, default_value_t = 21)]
    times: usize,
    /// Also measure under the processor share of each Lambda memory size
    #[arg(long)]
    quota: bool,
}

/// What a figure may be at most.
struct Budget {
    what: &'static str,
    unit: &'static str,
    measured: Vec<f64>,
    most: f64,
}

/// Lambda memory sizes to choose from, in MB.
const SIZES: [u32; 5] = [128, 256, 512, 1024, 1769];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<std::process::ExitCode> {
    let arguments = Arguments::parse();
    let path = match &arguments.binary {
        // It is started in a folder of its own.
        Some(path) => fs::canonicalize(path).with_context(|| format!("no function at {}", path.display()))?,
        None => Binary::shipped(CONTAIN_COMPUTE).await?.path,
    };
    let binary = Binary { path: path.clone(), profile: "ship".to_owned() };
    let emulator = Emulator::start().await?;
    let mut budgets = vec![Budget { what: "zip", unit: "MB", measured: vec![zip_mb(&emulator, &path)?], most: 8.0 }];

    let lab = Lab::new(&emulator, &binary, &Setup::default()).await?;
    let mut starts = Vec::new();
    for _ in 0..arguments.times {
        starts.push(millis(lab.start().await?.ready_after));
    }
    budgets.push(Budget { what: "start to ready", unit: "ms", measured: starts, most: 10.0 });

    let (turned_away, calls) = turned_away(&lab, arguments.times).await?;
    if calls != 0 {
        bail!("{calls} calls were made for findings that are not ours: there must be none");
    }
    budgets.push(Budget { what: "a finding that is not ours", unit: "ms", measured: turned_away, most: 1.0 });

    let mut peaks = Vec::new();
    for _ in 0..3 {
        peaks.push(full_run(&emulator, &binary, None).await?.1);
    }
    budgets.push(Budget { what: "peak memory in a full run", unit: "MB", measured: peaks, most: 32.0 });
    let kept = print(&mut budgets)?;
    if arguments.quota {
        quotas(&emulator, &binary).await?;
    }
    Ok(if kept { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The size of the deployment package: the function alone, named `bootstrap`, deflated.
fn zip_mb(emulator: &Emulator, path: &Path) -> Result<f64> {
    let code = "import io,sys,zipfile\nb=io.BytesIO()\nz=zipfile.ZipFile(b,'w',zipfile.ZIP_DEFLATED,compresslevel=9)\n\
                z.write(sys.argv[1],'bootstrap')\nz.close()\nprint(len(b.getvalue()))";
    let output = emulator.python().arg("-c").arg(code).arg(path).output().context("cannot zip the function")?;
    let bytes: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("cannot zip the function")?;
    Ok(bytes / 1e6)
}

/// How long findings that are not ours take, after the first, and how many AWS calls they made.
async fn turned_away(lab: &Lab<'_>, times: usize) -> Result<(Vec<f64>, usize)> {
    let mut function = lab.start().await?;
    let event: Value =
        serde_json::from_slice(&fs::read(workspace().join("events/guardduty/iam-user.json")).context("no event")?)?;
    function.invoke(event.clone()).await?;
    // What the start asks for in the background is over by then.
    tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_millis(500))).await?;
    let since = lab.observer.calls(u64::MAX, &[]).await?.next;
    let mut took = Vec::new();
    for _ in 0..times {
        took.push(millis(function.invoke(event.clone()).await?.took));
    }
    let calls = lab.observer.calls(since, &[]).await?.calls;
    let ours = calls.iter().filter(|call| !call.agent.contains("app/observer")).count();
    Ok((took, ours))
}

/// Contains the victim of the web-server world once: milliseconds to the last cut as the function counts them, and
/// its peak memory in MB.
async fn full_run(emulator: &Emulator, binary: &Binary, quota: Option<&Quota>) -> Result<(f64, f64)> {
    let lab = Lab::new(emulator, binary, &Setup::default()).await?;
    let mut function = lab.start().await?;
    if let Some(quota) = quota {
        quota.take(&function)?;
    }
    let finding = lab.finding("command-and-control", "victim").await?;
    lab.deliver(&mut function, &finding).await?;
    let cut = lab
        .outcome_events()
        .await?
        .iter()
        .find_map(|event| {
            event["detail"]["contained_after_ms"].as_f64().or_else(|| event["contained_after_ms"].as_f64())
        })
        .ok_or_else(|| anyhow!("the victim was not contained; the function's log is {}", function.log().display()))?;
    let peak = function.peak_memory_kb().ok_or_else(|| anyhow!("peak memory is known on Linux only"))?;
    Ok((cut, peak as f64 / 1024.0))
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(budgets: &mut [Budget]) -> Result<bool> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "WHAT", "MEDIAN", "MOST", "BUDGET", "OF"]);
    let mut kept = true;
    for budget in budgets {
        let median = median(&mut budget.measured);
        let most = budget.measured.last().copied().unwrap_or(f64::NAN);
        let good = median <= budget.most;
        kept &= good;
        table.add_row([
            if good { "ok" } else { "NO" }.to_owned(),
            budget.what.to_owned(),
            format!("{median:.2} {}", budget.unit),
            format!("{most:.2} {}", budget.unit),
            format!("≤ {} {}", budget.most, budget.unit),
            budget.measured.len().to_string(),
        ]);
    }
    writeln!(anstream::stdout(), "{table}")?;
    Ok(kept)
}

async fn quotas(emulator: &Emulator, binary: &Binary) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["LAMBDA MEMORY", "CUT AFTER (median of 5)", "COST OF A RUN, RELATIVE"]);
    let mut first = None;
    for size in SIZES {
        let mut cuts = Vec::new();
        for _ in 0..5 {
            let quota = Quota::of(size)?;
            cuts.push(full_run(emulator, binary, Some(&quota)).await?.0);
        }
        let cut = median(&mut cuts);
        let cost = cut * f64::from(size);
        let relative = cost / *first.get_or_insert(cost);
        table.add_row([format!("{size} MB"), format!("{cut:.0} ms"), format!("{relative:.2}")]);
    }
    writeln!(anstream::stdout(), "\n{table}")?;
    writeln!(anstream::stdout(), "(the emulator shares this machine: compare the rows, not the milliseconds)")?;
    Ok(())
}
