//! `cargo drill`: a whole incident against the emulator of AWS, scored.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anstream::{eprintln, stdout};
use anyhow::{Context, Result, bail};
use clap::Parser;
use comfy_table::{ContentArrangement, Table, presets};
use firebreak_tests::deployed::{self, Rehearsal};
use firebreak_tests::deployment::REGION;
use firebreak_tests::door::Door;
use firebreak_tests::drill::facts::{Fact, Topic};
use firebreak_tests::drill::{Drill, Scenario, Stage, Style, page, play};
use firebreak_tests::emulator::{Emulator, workspace};
use firebreak_tests::lab::Binary;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use owo_colors::OwoColorize;

/// How wide the output is, unless `COLUMNS` says otherwise.
const WIDTH: u16 = 110;

/// Rehearse an incident against an emulator of AWS: find, contain, prove, report, undo.
#[derive(Debug, Parser)]
#[command(name = "drill", bin_name = "cargo drill --", version)]
struct Arguments {
    /// The scenario, or `all`
    #[arg(default_value = "compromised-instance")]
    scenario: String,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Stop before the undo, and leave the emulator and the function running for the command `firebreak`
    #[arg(long)]
    keep: bool,
    /// Rehearse the deployment instead: `sam build`, `sam deploy` to an emulator that enforces IAM, an incident, its undo
    #[arg(long, conflicts_with_all = ["scenario", "list", "keep"])]
    deployed: bool,
    /// Print one JSON document instead of text for people
    #[arg(long)]
    json: bool,
    /// The Cargo profile of the function (`ship` is what is deployed)
    #[arg(long, default_value = "dev")]
    profile: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever reads has seen enough.
        Err(error) if error.root_cause().downcast_ref::<std::io::Error>().is_some_and(is_closed_pipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{} {error:#}", "The drill could not be held:".red().bold());
            ExitCode::from(2)
        }
    }
}

fn is_closed_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

async fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        return list(arguments.json).map(|()| true);
    }
    if arguments.deployed {
        return rehearse(arguments).await;
    }
    let scenarios = match Scenario::named(&arguments.scenario) {
        Some(scenario) => vec![scenario],
        None if arguments.scenario == "all" => Scenario::ALL.to_vec(),
        None => bail!("there is no scenario `{}`; `cargo drill -- --list` lists them", arguments.scenario),
    };
    if arguments.keep && scenarios.len() > 1 {
        bail!("--keep keeps one scenario: name it");
    }
    let begun = Instant::now();
    let progress = Progress::new(arguments.json);
    let tell = |what: &str| progress.say(what);
    let mut binaries: BTreeMap<&str, Binary> = BTreeMap::new();
    for function in scenarios.iter().map(|scenario| scenario.setup().function) {
        if !binaries.contains_key(function.name) {
            tell(&format!("building {}", function.name));
            binaries.insert(function.name, Binary::build(function, &arguments.profile).await?);
        }
    }
    tell("starting the emulator of AWS");
    let emulator = {
        let bar = progress.clone();
        Emulator::start_telling(move |what| bar.say(what)).await?
    };
    let style = Style { undo: !arguments.keep, ..Style::default() };
    let mut stages: Vec<Stage<'_>> = Vec::new();
    for scenario in scenarios {
        let prefix = scenario.name();
        progress.title(prefix);
        let name = scenario.setup().function.name;
        let binary = binaries.get(name).with_context(|| format!("{name} was not built"))?;
        stages.push(play(scenario, &emulator, binary, style, &tell).await?);
    }
    progress.end();
    let drills: Vec<&Drill> = stages.iter().map(|stage| &stage.drill).collect();
    let report = write_page(&drills)?;
    let good = drills.iter().all(|drill| drill.wrong().is_empty());
    if arguments.json {
        serde_json::to_writer_pretty(stdout().lock(), &drills)?;
        writeln!(stdout().lock())?;
    } else {
        for stage in &stages {
            if stages.len() == 1 { tell_all(&stage.drill)? } else { tell_score(&stage.drill)? }
        }
        let mut out = stdout().lock();
        let report = report.strip_prefix(workspace()).unwrap_or(&report);
        writeln!(out, "Report page: {}   ({:.0} s in all)", report.display(), begun.elapsed().as_secs_f64())?;
    }
    if let (true, Some(stage)) = (arguments.keep, stages.pop()) {
        keep(stage).await?;
    }
    Ok(good)
}

/// The deployment, rehearsed.
async fn rehearse(arguments: &Arguments) -> Result<bool> {
    let begun = Instant::now();
    let progress = Progress::new(arguments.json);
    let told = progress.clone();
    let done: Result<Rehearsal> = deployed::rehearse(&arguments.profile, move |what| told.say(what)).await;
    progress.end();
    let rehearsal = done?;
    let mut out = stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &rehearsal)?;
        writeln!(out)?;
    } else {
        rehearsal.tell(&mut out, usize::from(width()))?;
        writeln!(out, "{}", format!("{:.0} s in all", begun.elapsed().as_secs_f64()).dimmed())?;
    }
    Ok(rehearsal.wrong().next().is_none())
}

fn list(json: bool) -> Result<()> {
    let mut out = stdout().lock();
    if json {
        let all: BTreeMap<&str, &str> = Scenario::ALL.iter().map(|one| (one.name(), one.about())).collect();
        serde_json::to_writer_pretty(&mut out, &all)?;
        return Ok(writeln!(out)?);
    }
    let width = Scenario::ALL.iter().map(|one| one.name().len()).max().unwrap_or(0);
    for scenario in Scenario::ALL {
        writeln!(out, "{:width$}  {}", scenario.name().bold(), scenario.about())?;
    }
    writeln!(out, "{:width$}  each of them", "all".bold())?;
    Ok(())
}

/// What is being done: a line that moves on a terminal, plain lines elsewhere, nothing with `--json`.
#[derive(Clone)]
struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self { bar: None, quiet };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}{msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar), quiet }
    }

    fn title(&self, scenario: &str) {
        match &self.bar {
            Some(bar) => bar.set_prefix(format!("{scenario}: ")),
            None if !self.quiet => eprintln!("{scenario}:"),
            None => {}
        }
    }

    fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if !self.quiet => eprintln!("  {what}"),
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from).join("drill")
}

fn write_page(drills: &[&Drill]) -> Result<PathBuf> {
    let directory = target_directory();
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join("report.html");
    let now = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    fs::write(&path, page::render(drills, &now)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn width() -> u16 {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(WIDTH).clamp(60, 160)
}

fn tell_all(drill: &Drill) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{} {}", "Drill".bold(), drill.scenario.bold())?;
    writeln!(out, "{}", drill.about.dimmed())?;
    writeln!(out, "{} about {} in account {}\n", drill.finding, drill.victim, drill.member)?;
    if !drill.timeline.rounds.is_empty() {
        let title = format!("From the event to {}: AWS calls one after another", drill.cut());
        writeln!(out, "{}", title.bold())?;
        let room = usize::from(width()).saturating_sub(22);
        for (index, round) in drill.timeline.rounds.iter().enumerate() {
            let calls = match round.size() {
                1 => "1 call".to_owned(),
                n => format!("{n} calls"),
            };
            let calls = format!("{calls:<8}");
            let last = index + 1 == drill.timeline.rounds.len();
            let sentence = cut_short(&round.sentence(), room);
            let sentence = if last { sentence.red().to_string() } else { sentence };
            writeln!(out, "{:>6.0} ms  {}  {sentence}", round.end_ms, calls.dimmed())?;
        }
        writeln!(out)?;
    }
    tell_moments(&mut out, drill)?;
    tell_list(&mut out, "Not contained, by Firebreak's own report", &drill.remains)?;
    tell_list(&mut out, "Not given back by undo, as the actions declare", &drill.declared)?;
    tell_facts(&mut out, drill)?;
    drop(out);
    tell_score(drill)
}

/// The lines of the before/after table in which something changed.
fn tell_moments(out: &mut impl Write, drill: &Drill) -> Result<()> {
    let Some(first) = drill.moments.first().filter(|_| drill.moments.len() > 1) else { return Ok(()) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width());
    table.set_header(std::iter::once("").chain(drill.moments.iter().map(|moment| moment.title.as_str())));
    let mut unchanged = 0;
    for (index, (what, before)) in first.lines.iter().enumerate() {
        let cells: Vec<&str> =
            drill.moments.iter().filter_map(|moment| Some(moment.lines.get(index)?.1.as_str())).collect();
        if cells.iter().all(|cell| cell == before) {
            unchanged += 1;
            continue;
        }
        table.add_row(std::iter::once(what.as_str()).chain(cells));
    }
    writeln!(out, "{}", format!("The {}, as the observer reads it", drill.kind()).bold())?;
    writeln!(out, "{}", table.trim_fmt())?;
    if unchanged > 0 {
        let lines = if unchanged == 1 { "line" } else { "lines" };
        writeln!(out, "{}", format!(" {unchanged} more {lines}: as before throughout").dimmed())?;
    }
    Ok(writeln!(out)?)
}

fn tell_list(out: &mut impl Write, title: &str, items: &[String]) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", title.bold())?;
    for item in items {
        for (index, line) in wrapped(item, usize::from(width()).saturating_sub(4)).iter().enumerate() {
            writeln!(out, "  {} {line}", if index == 0 { "·" } else { " " })?;
        }
    }
    Ok(writeln!(out)?)
}

fn tell_facts(out: &mut impl Write, drill: &Drill) -> Result<()> {
    let mut topics: Vec<(Topic, Vec<&Fact>)> = Vec::new();
    for fact in &drill.facts {
        match topics.last_mut() {
            Some((topic, facts)) if *topic == fact.topic => facts.push(fact),
            _ => topics.push((fact.topic, vec![fact])),
        }
    }
    writeln!(out, "{}", "Facts, each read back from AWS".bold())?;
    for (topic, facts) in topics {
        let good = facts.iter().filter(|fact| fact.ok).count();
        let mark = if good == facts.len() { "✓".green().to_string() } else { "✗".red().to_string() };
        writeln!(out, "  {mark} {:<22} {good} of {}", topic.title(), facts.len())?;
        for fact in facts.iter().filter(|fact| !fact.ok) {
            writeln!(out, "      {} {}", "✗".red(), fact.what)?;
            writeln!(out, "        expected {}, found {}", fact.expected, fact.found.red())?;
        }
    }
    Ok(writeln!(out)?)
}

fn tell_score(drill: &Drill) -> Result<()> {
    let mut out = stdout().lock();
    let score = format!("{} of {} facts", drill.good(), drill.facts.len());
    let score =
        if drill.wrong().is_empty() { score.green().bold().to_string() } else { score.red().bold().to_string() };
    let numbers = &drill.numbers;
    write!(out, "{} {score}", drill.scenario.bold())?;
    if let Some(ms) = numbers.cut_ms {
        let (rounds, pace) = (numbers.rounds, numbers.pace_ms);
        let s = ms / 1000.0;
        let cut = drill.cut();
        write!(
            out,
            " · {cut} {s:.1} s after the event: {rounds} rounds of calls, each held {pace} ms by the emulator"
        )?;
    }
    let memory = numbers.peak_mb.map_or(String::new(), |mb| format!(", {mb:.0} MB at most"));
    let profile = match numbers.profile.as_str() {
        "dev" => "dev profile: no measure of what ships".to_owned(),
        other => format!("{other} profile"),
    };
    let (calls, ready) = (numbers.calls, numbers.ready_ms);
    let about = format!("  {calls} AWS calls in all · ready in {ready:.0} ms{memory} ({profile})");
    writeln!(out, "\n{}", about.dimmed())?;
    Ok(())
}

fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn cut_short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Plays Lambda for as long as people want to try the command: events from the bus, and the schedule.
async fn keep(mut stage: Stage<'_>) -> Result<()> {
    let door = Door::open(&stage.lab).await?;
    let (path, event) = (target_directory().join("env.sh"), target_directory().join("event.json"));
    let mut text = format!(
        "# Leads the command `firebreak` to the drill that is kept.\n\
         if ! kill -0 {} 2>/dev/null; then echo 'this drill is over' >&2; return 1 2>/dev/null || exit 1; fi\n",
        std::process::id()
    );
    for (name, value) in stage.lab.operator_environment(Some(&door)).await? {
        text.push_str(&format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let written = serde_json::to_vec_pretty(&stage.drill.event)?;
    fs::write(&event, written).with_context(|| format!("cannot write {}", event.display()))?;
    let shown = |path: &Path| path.strip_prefix(workspace()).unwrap_or(path).display().to_string();
    {
        let mut out = stdout().lock();
        writeln!(out, "\n{}", "Everything is left running. In another terminal, from this directory:".bold())?;
        writeln!(out, "  . {}", shown(&path))?;
        for command in commands(&stage, &shown(&event)).await? {
            writeln!(out, "  cargo run --quiet --bin firebreak -- {command}")?;
        }
        writeln!(out, "The schedule comes each minute. Ctrl-C ends it.")?;
    }
    let mut minute = Instant::now();
    let mut turns = tokio::time::interval(Duration::from_millis(300));
    loop {
        turns.tick().await;
        for event in stage.lab.delivered().await? {
            if !stage.function.runs()? {
                stage.function = stage.lab.start().await?;
            }
            let invoked = stage.function.invoke(event).await?;
            match &invoked.answer {
                Ok(_) => eprintln!("  the function was given an event: {}", invoked.outcomes().join(", ")),
                Err(why) => eprintln!("  the function was given an event and failed: {why}"),
            }
        }
        if minute.elapsed() > Duration::from_secs(60) {
            minute = Instant::now();
            stage.lab.schedule(&mut stage.function).await?;
        }
    }
}

/// What can be tried now.
async fn commands(stage: &Stage<'_>, event: &str) -> Result<Vec<String>> {
    let mut commands = vec!["runs".to_owned()];
    for (run, playbook) in &stage.drill.runs {
        commands.push(format!("show {run}   # {playbook}"));
    }
    for (run, playbook) in &stage.drill.runs {
        match stage.state_of_run(playbook).await?.as_str() {
            "proposed" => commands.push(format!("approve {run}   # or reject: {playbook}")),
            "held" if playbook != firebreak_tests::drill::SNAPSHOT => commands.push(format!("undo {run}")),
            _ => {}
        }
    }
    if !stage.drill.event.is_null() {
        commands.push(format!("explain {event}"));
        commands.push(format!("plan --event {event}"));
    }
    commands.push(format!("preflight --accounts {} --regions {REGION}", stage.drill.member));
    Ok(commands)
}
