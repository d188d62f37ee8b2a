//! What came of how many points.

use std::collections::BTreeMap;

use super::{Tried, Verdict};

/// Counts of points.
#[derive(Debug, Default, Clone)]
pub struct Count {
    /// Fault points that there are.
    pub points: usize,
    /// Of those the ones that were tried, and at which the fault struck.
    pub tried: usize,
    /// Ended as an undisturbed run.
    pub same: usize,
    /// Ended with less, which was said.
    pub honest: usize,
    /// Neither.
    pub failed: usize,
    /// The call was not made this time, so that nothing struck; all ended well.
    pub not_made: usize,
}

impl Count {
    /// Takes in one.
    pub fn note(&mut self, tried: &Tried) {
        match (&tried.verdict, tried.struck) {
            (Err(_), _) => self.failed += 1,
            (Ok(_), false) => {
                self.not_made += 1;
                return;
            }
            (Ok(Verdict::Same), true) => self.same += 1,
            (Ok(Verdict::Honest(_)), true) => self.honest += 1,
        }
        self.tried += 1;
    }

    /// Takes in others.
    pub fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.tried += other.tried;
        self.same += other.same;
        self.honest += other.honest;
        self.failed += other.failed;
        self.not_made += other.not_made;
    }
}

/// Counts by name.
pub type Counts = BTreeMap<String, Count>;

/// A table of counts as Markdown, with their sum.
#[must_use]
pub fn table(what: &str, counts: &Counts) -> String {
    let mut sum = Count::default();
    let mut lines = vec![
        format!("| {what} | fault points | tried | same end state | honest report | FAILED |"),
        "|---|--:|--:|--:|--:|--:|".to_owned(),
    ];
    let line = |name: &str, c: &Count| {
        format!("| {name} | {} | {} | {} | {} | {} |", c.points, c.tried, c.same, c.honest, c.failed)
    };
    for (name, count) in counts {
        lines.push(line(name, count));
        sum.add(count);
    }
    lines.push(line("all", &sum));
    lines.join("\n")
}
