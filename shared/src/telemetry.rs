//! Logs as JSON lines, metrics in CloudWatch's embedded metric format. Neither ever holds a finding's
//! text or a secret: ids, types, outcomes and counts only.

use std::io::Write;

use metrics_cloudwatch_embedded::Collector;
use tracing::Instrument;
use tracing::instrument::Instrumented;
use tracing_subscriber::filter::LevelFilter;

use crate::drill::{Drill, Score};
use crate::ids::RunId;
use crate::report::Report;

/// The namespace of the metrics.
pub const NAMESPACE: &str = "Firebreak";

/// Every alarm, sorted by what somebody does about it. The alarms of `template.yaml` watch kinds, since one of CloudWatch's
/// can ask for one value of a dimension; `docs/alarms.md` says of each what it means.
const KINDS: &[(&str, &[&str])] = &[
    ("budget", &["budget-spent"]),
    ("decision", &["decision-refused", "decision-used"]),
    ("forged", &["drill-refused", "finding-put-aside", "finding-refused"]),
    ("guard", &["guard-failed", "policy-unusable", "unit-unknown"]),
    (
        "interrupted",
        &[
            "copy-unnoted",
            "decision-interrupted",
            "due-row-stays",
            "due-work-failed",
            "group-unrecorded",
            "join-unwritten",
            "joined-row-stays",
            "joined-unread",
            "journal-unwritten",
            "ledger-unreachable",
            "proposals-unread",
            "run-interrupted",
            "switch-unread",
            "telling-unnoted",
            "unit-unrecorded",
        ],
    ),
    (
        "unplanned",
        &["finding-unauthenticated", "looked-up-many", "plan-failed", "plan-incomplete", "recheck-impossible"],
    ),
    ("stuck", &["due-rows-unknown", "joined-unanswered", "joined-unreadable"]),
    ("taken-back", &["containment-taken-back"]),
    ("unreadable", &["unreadable-event"]),
    (
        "untold",
        &[
            "custody-unread",
            "decision-unsent",
            "door-failed",
            "drill-untold",
            "evidence-unwritten",
            "report-row-stays",
            "report-undelivered",
            "second-person-untold",
            "switch-untold",
            "write-back-failed",
        ],
    ),
];

/// The kind of an alarm. That each has one is checked by `.ci/alarms.py`.
fn kind(what: &str) -> &'static str {
    KINDS.iter().find(|(_, whats)| whats.contains(&what)).map_or("unsorted", |(kind, _)| *kind)
}

/// Starts logging to standard output, at the level of `FIREBREAK_LOG` (default `info`), and metrics.
/// Answers with the collector to flush after each invocation; `None` when metrics are started already.
pub fn start(function: &'static str) -> Option<&'static Collector> {
    let level = std::env::var("FIREBREAK_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    // Only the first start of a process counts; a second is no fault.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        // The run: every line that is written while one is worked on says which.
        .with_current_span(true)
        .with_span_list(false)
        .with_max_level(level)
        .with_writer(std::io::stdout)
        .try_init();
    metrics_cloudwatch_embedded::Builder::new()
        .cloudwatch_namespace(NAMESPACE)
        .with_dimension("function", function)
        .init()
        .ok()
}

/// Writes the collected metrics out.
pub fn flush(collector: Option<&'static Collector>) {
    if let Some(collector) = collector {
        let mut out = std::io::stdout().lock();
        // Metrics are worth less than the answer: a full or closed pipe must not fail the invocation.
        let _ = collector.flush(&mut out);
        let _ = out.flush();
    }
}

/// What a future logs while it works on a run says which run that is.
pub fn of_run<F: Future>(run: &RunId, future: F) -> Instrumented<F> {
    future.instrument(tracing::info_span!("run", id = run.as_str()))
}

/// Counts and logs how a finding was answered.
pub fn answered(report: &Report) {
    metrics::counter!("findings_answered_total", "playbook" => report.playbook.clone(), "outcome" => report.outcome.as_str())
        .increment(1);
    if let Some(ms) = report.contained_after_ms {
        metrics::histogram!("time_to_contain_ms", "playbook" => report.playbook.clone()).record(ms as f64);
    }
    tracing::info!(
        playbook = report.playbook,
        target_id = report.target.id,
        account = report.target.account.as_str(),
        outcome = report.outcome.as_str(),
        run = report.run.as_ref().map(|run| run.as_str()),
        finding = report.finding,
        contained_after_ms = report.contained_after_ms,
        not_done = report.not_done.len(),
        "answered"
    );
}

/// Counts and logs a finding that nothing here answers.
pub fn turned_away(reason: &'static str) {
    metrics::counter!("findings_turned_away_total", "reason" => reason).increment(1);
    tracing::info!(reason, "turned away");
}

/// Counts and logs how a drill went.
pub fn drilled(drill: &Drill, score: &Score) {
    let name = if score.passed { "drills_passed_total" } else { "drills_failed_total" };
    metrics::counter!(name).increment(1);
    for (playbook, ms) in &score.contained_after_ms {
        metrics::histogram!("drill_time_to_contain_ms", "playbook" => *playbook).record(*ms as f64);
    }
    let canary = drill.canary.to_string();
    tracing::info!(drill = drill.id, canary, passed = score.passed, score = score.to_string(), "drilled");
}

/// Counts and logs what a preflight found.
pub fn preflight(problems: &[String]) {
    metrics::histogram!("preflight_problems").record(problems.len() as f64);
    for problem in problems {
        tracing::error!(problem, "preflight");
    }
}

/// What a function's schedule finds: whether everything is stopped, how many due rows are late, and how many of all wait
/// for the stop to be taken back. What waits is not late by any fault.
pub fn standing(stopped: bool, late: usize, waits: usize) {
    // Not as gauges: those are written out at each flush again, by every instance of a function with what it saw last.
    metrics::histogram!("stopped").record(f64::from(u8::from(stopped)));
    let late = if stopped { late.saturating_sub(waits) } else { late };
    metrics::histogram!("runs_overdue").record(late as f64);
    if late > 0 || stopped {
        tracing::warn!(stopped, late, waits, "due rows");
    }
}

/// How long the oldest proposal of a function has been waiting; zero where none is.
pub fn oldest_proposal(age: jiff::SignedDuration) {
    metrics::histogram!("oldest_proposal_seconds").record(age.as_secs_f64());
}

/// Counts and logs something that somebody must look at.
pub fn alarm(what: &'static str, detail: &str) {
    let kind = kind(what);
    metrics::counter!("alarms_total", "kind" => kind, "what" => what).increment(1);
    tracing::error!(kind, what, detail, "alarm");
}
