//! The report page: one file that needs no other, every text in it escaped.

use askama::Template;

use super::Drill;
use super::facts::{Fact, Topic};
use super::timeline::{Lane, Timeline};

/// The picture's width and what of it is left for the lanes' titles, in its own units.
const WIDTH: f64 = 1080.0;
const MARGIN: f64 = 128.0;
/// The height of a call's bar with its gap, and of the gap between lanes.
const BAR: f64 = 9.0;
const GAP: f64 = 10.0;
/// Above the lanes: the numbers of the rounds.
const TOP: f64 = 26.0;
/// The narrowest bar that can be pointed at.
const NARROWEST: f64 = 2.0;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    drills: Vec<Shown<'a>>,
    made_at: String,
}

/// A drill with what the page makes of it.
struct Shown<'a> {
    drill: &'a Drill,
    topics: Vec<(&'static str, usize, Vec<&'a Fact>)>,
    picture: Picture,
    rows: Vec<Row<'a>>,
    rounds: Vec<RoundRow<'a>>,
}

impl Shown<'_> {
    fn all_good(&self) -> bool {
        self.drill.wrong().is_empty()
    }

    fn cut(&self) -> String {
        self.drill.numbers.cut_ms.map_or("–".to_owned(), |ms| format!("{:.2} s", ms / 1000.0))
    }

    fn memory(&self) -> String {
        self.drill.numbers.peak_mb.map_or("–".to_owned(), |mb| format!("{mb:.0} MB"))
    }

    fn ready(&self) -> String {
        format!("{:.0} ms", self.drill.numbers.ready_ms)
    }
}

/// A line of the before/after table.
struct Row<'a> {
    what: &'a str,
    cells: Vec<Cell<'a>>,
}

struct Cell<'a> {
    text: &'a str,
    changed: bool,
}

struct RoundRow<'a> {
    number: usize,
    end_ms: String,
    calls: Vec<(&'a str, &'static str, usize)>,
}

struct Picture {
    width: f64,
    height: f64,
    bottom: f64,
    lanes: Vec<LaneTitle>,
    bands: Vec<Band>,
    bars: Vec<Bar>,
    ticks: Vec<(f64, String)>,
    cut: Option<(f64, String)>,
}

struct LaneTitle {
    y: f64,
    top: f64,
    title: &'static str,
}

struct Band {
    x: f64,
    width: f64,
    number: usize,
    odd: bool,
}

struct Bar {
    x: f64,
    y: f64,
    width: f64,
    class: &'static str,
    title: String,
}

/// The page of these drills.
pub fn render(drills: &[&Drill], made_at: &str) -> anyhow::Result<String> {
    let drills = drills.iter().map(|drill| show(drill)).collect();
    Ok(Page { drills, made_at: made_at.to_owned() }.render()?)
}

fn show(drill: &Drill) -> Shown<'_> {
    let mut topics: Vec<(Topic, Vec<&Fact>)> = Vec::new();
    for fact in &drill.facts {
        match topics.last_mut() {
            Some((topic, facts)) if *topic == fact.topic => facts.push(fact),
            _ => topics.push((fact.topic, vec![fact])),
        }
    }
    let topics = topics.into_iter().map(|(topic, facts)| {
        let good = facts.iter().filter(|fact| fact.ok).count();
        (topic.title(), good, facts)
    });
    let rounds = drill.timeline.rounds.iter().enumerate().map(|(index, round)| RoundRow {
        number: index + 1,
        end_ms: format!("{:.0}", round.end_ms),
        calls: round.calls.iter().map(|call| (call.call.as_str(), call.reason, call.count)).collect(),
    });
    Shown {
        drill,
        topics: topics.collect(),
        picture: paint(&drill.timeline),
        rows: rows(drill),
        rounds: rounds.collect(),
    }
}

fn rows(drill: &Drill) -> Vec<Row<'_>> {
    let Some(first) = drill.moments.first() else { return Vec::new() };
    let line = |(index, (what, before)): (usize, &'_ (String, String))| {
        let texts: Vec<&str> = drill.moments.iter().filter_map(|m| Some(m.lines.get(index)?.1.as_str())).collect();
        let before = before.clone();
        let cells = texts.into_iter().map(|text| Cell { text, changed: text != before });
        (what.clone(), cells.collect::<Vec<_>>())
    };
    first
        .lines
        .iter()
        .enumerate()
        .map(line)
        .zip(&first.lines)
        .map(|((_, cells), (what, _))| Row { what, cells })
        .collect()
}

fn class(lane: Lane) -> &'static str {
    match lane {
        Lane::Hub => "hub",
        Lane::Read => "read",
        Lane::Change => "change",
        Lane::Cut => "cut",
        Lane::Tell => "tell",
    }
}

/// Calls as bars over time, one lane for each purpose; within a lane, calls at the same time stand beneath each other.
fn paint(timeline: &Timeline) -> Picture {
    let span = (timeline.last_ms * 1.02).max(1.0);
    let x = |ms: f64| MARGIN + (WIDTH - MARGIN - 8.0) * ms.max(0.0) / span;
    let mut picture = Picture {
        width: WIDTH,
        height: 0.0,
        bottom: 0.0,
        lanes: Vec::new(),
        bands: Vec::new(),
        bars: Vec::new(),
        ticks: Vec::new(),
        cut: timeline.cut_after_ms.map(|ms| (x(ms), format!("last cut {:.2} s", ms / 1000.0))),
    };
    let mut y = TOP;
    for lane in Lane::ALL {
        let calls: Vec<_> = timeline.calls.iter().filter(|call| call.lane == lane).collect();
        if calls.is_empty() {
            continue;
        }
        let top = y;
        let mut free_from: Vec<f64> = Vec::new();
        for call in calls {
            let (from, to) = (x(call.start_ms), x(call.end_ms));
            let row = free_from.iter().position(|free| *free <= from).unwrap_or_else(|| {
                free_from.push(0.0);
                free_from.len() - 1
            });
            let width = (to - from).max(NARROWEST);
            if let Some(free) = free_from.get_mut(row) {
                *free = from + width;
            }
            picture.bars.push(Bar {
                x: from,
                y: top + BAR * row as f64,
                width,
                class: class(lane),
                title: format!("{}: {} ({:.0}–{:.0} ms)", call.call, call.reason, call.start_ms, call.end_ms),
            });
        }
        y += BAR * free_from.len() as f64;
        picture.lanes.push(LaneTitle { y: (top + y) / 2.0 + 3.0, top, title: lane.title() });
        y += GAP;
    }
    picture.bottom = y;
    picture.height = y + 24.0;
    let mut from = x(0.0);
    for (index, round) in timeline.rounds.iter().enumerate() {
        let to = x(round.end_ms);
        picture.bands.push(Band { x: from, width: (to - from).max(0.0), number: index + 1, odd: index % 2 == 1 });
        from = to;
    }
    let step = tick(span);
    let mut at = 0.0;
    while at <= span {
        picture.ticks.push((x(at), format!("{:.1} s", at / 1000.0)));
        at += step;
    }
    picture
}

/// A round number of milliseconds that divides a span into about eight.
fn tick(span: f64) -> f64 {
    [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0]
        .into_iter()
        .find(|step| span / step <= 9.0)
        .unwrap_or(30_000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::drill::{Numbers, Scenario};

    #[test]
    fn what_an_attacker_wrote_is_text_on_the_page() {
        let hostile = "<script>alert(1)</script>";
        let drill = Drill {
            scenario: Scenario::ALL[0].name(),
            about: Scenario::ALL[0].about(),
            finding: hostile.to_owned(),
            event: serde_json::Value::Null,
            hub: String::new(),
            member: String::new(),
            victim: hostile.to_owned(),
            runs: Vec::new(),
            facts: vec![Fact {
                topic: Topic::Cut,
                what: hostile.to_owned(),
                ok: false,
                expected: hostile.to_owned(),
                found: hostile.to_owned(),
            }],
            moments: Vec::new(),
            steps: Vec::new(),
            remains: vec![hostile.to_owned()],
            declared: vec![hostile.to_owned()],
            messages: vec![hostile.to_owned()],
            timeline: Timeline::default(),
            numbers: Numbers::default(),
        };
        let page = render(&[&drill], "now").unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("alert(1)"));
    }
}
