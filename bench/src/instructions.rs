//! Instruction counts by valgrind's callgrind: times on a shared machine are noisy, these hardly are.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use firebreak_tests::lab::Function;
use serde_json::Value;

use crate::stage::Stage;

/// Instructions that a peer executes, in millions.
#[derive(Debug, Clone, Copy)]
pub struct Instructions {
    /// From its start to its first request for an event.
    pub start: f64,
    /// For an event that is not for it, after the first.
    pub turned_away: f64,
}

/// Valgrind, where this machine has it.
#[must_use]
pub fn valgrind() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("valgrind")).find(|file| file.is_file())
}

/// Counts: a process that is ended once it is ready, whose calls nobody answers; and the difference between processes that get
/// `fewer` and `more` events.
///
/// # Errors
/// When a process fails, or callgrind does not say its count.
pub async fn count(
    stage: &Stage<'_>,
    foreign: &Value,
    valgrind: &std::path::Path,
    more: usize,
) -> Result<Instructions> {
    let under: Vec<String> = [&valgrind.display().to_string(), "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        .map(str::to_owned)
        .into();
    // It takes connections and never answers, so what is done in the background ends at its first call.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let start = total(stage.start_towards(&under, Some(&endpoint)).await?)?;
    let mut totals = Vec::new();
    for events in [1, 1 + more] {
        let mut function = stage.start(&under).await?;
        for _ in 0..events {
            let invoked = function.invoke(foreign.clone()).await?;
            invoked.answer.map_err(|error| anyhow!("an event that is not for it: {error}"))?;
        }
        // What was begun in the background is over by then.
        tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_secs(3))).await?;
        totals.push(total(function)?);
    }
    let turned_away = match totals[..] {
        [few, many] => (many - few) / more as f64,
        _ => f64::NAN,
    };
    Ok(Instructions { start, turned_away })
}

/// Ends a process that is counted; the count, in millions.
fn total(mut function: Function) -> Result<f64> {
    function.terminate()?;
    let said = std::fs::read_to_string(function.log())?;
    let line = said.lines().rev().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.context("callgrind said no count")?;
    let count: f64 = count.trim().parse().context("callgrind's count is no number")?;
    Ok(count / 1e6)
}
