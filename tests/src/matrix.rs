//! The fault matrix: every call that a function makes on its way, with every fault, one at a time.
//!
//! A [`Point`] is one fault at one call of one playbook's way over one world. It is tried in an account of its own: the
//! fault strikes, Lambda delivers again what failed, time passes and the schedule works until nothing is due. Then the
//! independent client says what stands, and `verdict` whether that is the end of an undisturbed run, or honestly said
//! to be less. `cargo faults` tries all of them, the laws some.

mod calls;
pub mod killed;
pub mod tally;
mod trial;
mod verdict;
mod way;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use firebreak::playbook::Playbook;
use futures_util::StreamExt;
use serde_json::Value;

use crate::emulator::world;
use crate::facts::reopen;
use crate::in_process::{Case, Permits, Security, Settings, Traced};
use crate::judgement::in_shared_terms;
pub use trial::Trial;
pub use verdict::Verdict;
pub use way::Way;

/// What is asked of the matrix: a way of a playbook over a world, under what the policies permit.
#[derive(Clone)]
pub struct Row {
    /// The playbook.
    pub playbook: &'static Traced,
    /// The world in the member account.
    pub world: String,
    /// What the function is at.
    pub way: Way,
    /// Whether steps are permitted that need a leave by name.
    pub with_leave: bool,
}

/// A row's way when nothing disturbs it.
#[derive(Debug)]
pub struct Undisturbed {
    /// The calls on it, each once, in the order in which they were made.
    pub calls: Vec<String>,
    /// How it ends, in terms that every account shares.
    state: Value,
}

/// One fault at one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The call, as [`Undisturbed::calls`] names it.
    pub call: String,
    /// The fault.
    pub trial: Trial,
}

/// What came of a point.
#[derive(Debug)]
pub struct Tried {
    /// The point.
    pub point: Point,
    /// Whether the call was made, so that the fault struck.
    pub struck: bool,
    /// How it ended, or why that will not do.
    pub verdict: Result<Verdict>,
}

impl Row {
    /// What the policies of its security account permit.
    #[must_use]
    pub fn permits(&self) -> Permits {
        match self.way {
            Way::Proposed | Way::Approved | Way::Rejected => Permits::Default,
            Way::Found | Way::Undone if self.with_leave => Permits::Everything,
            Way::Found | Way::Undone => Permits::Enforce,
        }
    }

    /// Goes the way without a fault.
    pub async fn undisturbed(&self, security: &Arc<Security>) -> Result<Undisturbed> {
        let mut case = self.case(security).await?;
        let before = case.state().await?;
        let event = self.way.begin(&mut case).await?;
        way::go(&mut case, &event, &trial::Armed::never()).await?;
        let calls = calls::made(&case)?;
        ensure!(!calls.is_empty(), "no call was made");
        let run = case.the_run().await?;
        let state = in_shared_terms(&case, &case.state().await?, &run);
        let undisturbed = Undisturbed { calls, state };
        let verdict = verdict::of(self.way, &case, &before, &undisturbed, None).await?;
        ensure!(verdict == Verdict::Same, "undisturbed it ends as {verdict:?}");
        Ok(undisturbed)
    }

    /// Goes the way without a fault, lets somebody take back what was done, and judges that as if Firebreak had left it so:
    /// whether the judge sees it.
    pub async fn judged_when_reopened(
        &self,
        security: &Arc<Security>,
        undisturbed: &Undisturbed,
    ) -> Result<Result<Verdict>> {
        let mut case = self.case(security).await?;
        let before = case.state().await?;
        let event = self.way.begin(&mut case).await?;
        way::go(&mut case, &event, &trial::Armed::never()).await?;
        reopen(&case).await?;
        Ok(verdict::of(self.way, &case, &before, undisturbed, None).await)
    }

    /// Every point of it.
    #[must_use]
    pub fn points(&self, undisturbed: &Undisturbed) -> Vec<Point> {
        let of = |call: &String| {
            let call = call.clone();
            Trial::ALL.into_iter().map(move |trial| Point { call: call.clone(), trial })
        };
        undisturbed.calls.iter().flat_map(of).collect()
    }

    /// Tries points, so many side by side. `seen` hears of each when it is done.
    pub async fn try_all(
        &self,
        servers: &[Arc<Security>],
        undisturbed: &Undisturbed,
        points: Vec<Point>,
        jobs: usize,
        mut seen: impl FnMut(&Tried),
    ) -> Vec<Tried> {
        let tries = points.into_iter().enumerate().map(|(n, point)| {
            let security = &servers[n % servers.len()];
            async move {
                let mut struck = false;
                let verdict = Box::pin(self.try_one(security, undisturbed, &point, &mut struck)).await;
                Tried { point, struck, verdict }
            }
        });
        let mut trying = futures_util::stream::iter(tries).buffer_unordered(jobs);
        let mut tried = Vec::new();
        while let Some(one) = trying.next().await {
            seen(&one);
            tried.push(one);
        }
        tried
    }

    async fn try_one(
        &self,
        security: &Arc<Security>,
        undisturbed: &Undisturbed,
        point: &Point,
        struck: &mut bool,
    ) -> Result<Verdict> {
        let mut case = self.case(security).await?;
        let before = case.state().await?;
        let event = self.way.begin(&mut case).await?;
        // The process that the fault strikes is set up for it.
        case.settings = point.trial.settings();
        case.restart()?;
        let armed = trial::arm(&case, point)?;
        let went = way::go(&mut case, &event, &armed).await;
        *struck = armed.has_struck();
        went?;
        verdict::of(self.way, &case, &before, undisturbed, Some(point.trial)).await
    }

    async fn case(&self, security: &Arc<Security>) -> Result<Case> {
        let world = world(&self.world)?;
        let made = Case::of(security, self.playbook, &world, Settings::default()).await;
        made.with_context(|| format!("{} over {}", self.playbook.meta().id, self.world))
    }
}

/// A share of points, in which calls and faults are mixed: the same at each time.
#[must_use]
pub fn share<T>(points: Vec<T>, nth: usize, of: usize) -> Vec<T> {
    // Multiples of the golden ratio lie evenly between whole numbers, whatever stride they are taken in (Knuth, The Art of
    // Computer Programming, 6.4).
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut mixed: Vec<(u64, T)> = (1_u64..).map(|n| n.wrapping_mul(GOLDEN)).zip(points).collect();
    mixed.sort_by_key(|(place, _)| *place);
    mixed.into_iter().map(|(_, point)| point).skip(nth % of).step_by(of).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn points(calls: usize) -> Vec<Point> {
        let of = |call: usize| Trial::ALL.into_iter().map(move |trial| Point { call: call.to_string(), trial });
        (0..calls).flat_map(of).collect()
    }

    #[test]
    fn shares_are_everything_and_do_not_overlap() {
        for of in [1, 2, 7, 14, 100] {
            let all: Vec<Point> = (0..of).flat_map(|nth| share(points(30), nth, of)).collect();
            assert_eq!(all.len(), points(30).len());
            assert!(points(30).iter().all(|point| all.contains(point)));
        }
    }

    #[test]
    fn a_share_has_most_of_the_faults_and_calls() {
        for nth in 0..14 {
            let its = share(points(30), nth, 14);
            let faults: BTreeSet<Trial> = its.iter().map(|point| point.trial).collect();
            let calls: BTreeSet<&str> = its.iter().map(|point| point.call.as_str()).collect();
            assert!(faults.len() >= 10 && calls.len() >= 20, "{nth}: {faults:?} {calls:?}");
        }
    }
}
