//! The short form of the fault matrix: some calls of every run with every fault. `cargo faults` tries all of them.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use firebreak_tests::in_process::{Permits, Security, Traced, playbooks, run_to_end};
use firebreak_tests::matrix::{Row, Way, share};

use crate::support::{all, all_of, named, preserves, worlds};

/// Fault points of each row that are tried. There are hundreds of each.
const OF_EACH: usize = 3;

/// How many rows stand side by side, and how many points of each: most of what hangs waits.
const ROWS: usize = 4;
const POINTS: usize = 3;

async fn row(playbook: &'static Traced, way: Way) -> Row {
    Row { playbook, world: worlds(playbook).await.least.clone(), way, with_leave: false }
}

async fn some_points(servers: &[Arc<Security>], playbook: &'static Traced, n: usize, way: Way) -> Result<()> {
    let row = row(playbook, way).await;
    let security = &servers[n % servers.len()];
    let undisturbed = row.undisturbed(security).await?;
    let points = row.points(&undisturbed);
    // Other calls and faults of each playbook.
    let shares = (points.len() / OF_EACH).max(1);
    let its = share(points, n * 97, shares);
    let tried = row.try_all(&servers[n % servers.len()..], &undisturbed, its, POINTS, |_| ()).await;
    for one in &tried {
        let point = || format!("{} at {}, {way}", one.point.trial, one.point.call);
        if let Err(error) = &one.verdict {
            bail!("{}: {error:#}", point());
        }
    }
    ensure!(tried.iter().any(|one| one.struck), "nothing struck");
    Ok(())
}

#[test]
fn whatever_fails_at_a_call_ends_as_undisturbed_or_is_said() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Enforce).await.context("no servers").unwrap();
        let mut cases = Vec::new();
        for (n, (_, playbook)) in playbooks().iter().enumerate() {
            for way in [Way::Found, Way::Undone] {
                let servers = &servers;
                let name = format!("{} {way}", playbook.id());
                cases.push(named(name, async move { some_points(servers, playbook, 2 * n + way as usize, way).await }));
            }
        }
        all_of("a fault at some call of every run", cases, ROWS).await;
    });
}

/// A judge that lets everything pass would make every number of the matrix good.
#[test]
fn the_judge_sees_what_stands_open() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Enforce).await.context("no servers").unwrap();
        let mut cases = Vec::new();
        let closes = playbooks().iter().map(|(_, playbook)| *playbook).filter(|playbook| !preserves(*playbook));
        for (n, playbook) in closes.enumerate() {
            let security = &servers[n % servers.len()];
            cases.push(named(playbook.id(), async move {
                let row = row(playbook, Way::Found).await;
                let undisturbed = row.undisturbed(security).await?;
                let judged = row.judged_when_reopened(security, &undisturbed).await?;
                let error = judged.err().context("it passes")?;
                ensure!(format!("{error:#}").contains("this is open"), "seen for another reason: {error:#}");
                Ok(())
            }));
        }
        all("the judge sees what stands open", cases).await;
    });
}
