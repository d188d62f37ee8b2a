//! The deployment, rehearsed: `sam build` and `sam deploy` of the template to ministack, which runs the functions under
//! their roles and enforces IAM. `tests/deployed/` does it, in Python; here it is started, and what it finds is told.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use owo_colors::OwoColorize;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::emulator::{Emulator, workspace};
use crate::lab::{Binary, forget_own_package};
use crate::python;

/// The profile of the drills, for which the functions are built quickly here.
const QUICK: &str = "dev";
/// The profile of what ships.
const SHIPS: &str = "ship";

/// One thing that has to be so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// What it is about, as a heading.
    pub topic: String,
    /// What has to be so.
    pub what: String,
    /// Whether it is.
    pub ok: bool,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rehearsal {
    /// What has to be so.
    pub facts: Vec<Found>,
    /// What was measured: of what, and how much.
    pub figures: Vec<(String, String)>,
    /// What is not as on AWS.
    pub notes: Vec<String>,
}

/// One line of the Python process; it has one of these parts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    say: Option<String>,
    fact: Option<Found>,
    figure: Option<String>,
    value: Option<String>,
    note: Option<String>,
}

impl Rehearsal {
    /// The facts that are not as they should be.
    pub fn wrong(&self) -> impl Iterator<Item = &Found> {
        self.facts.iter().filter(|fact| !fact.ok)
    }

    /// Tells people.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, out: &mut impl Write, width: usize) -> std::io::Result<()> {
        writeln!(out, "{}", "Firebreak deployed, each fact read back".bold())?;
        let mut topics: Vec<(&str, Vec<&Found>)> = Vec::new();
        for fact in &self.facts {
            match topics.iter_mut().find(|(topic, _)| *topic == fact.topic) {
                Some((_, facts)) => facts.push(fact),
                None => topics.push((&fact.topic, vec![fact])),
            }
        }
        for (topic, facts) in topics {
            writeln!(out, "  {}", topic.bold())?;
            for fact in facts {
                let mark = if fact.ok { "✓".green().to_string() } else { "✗".red().to_string() };
                writeln!(out, "    {mark} {}", fact.what)?;
                if !fact.ok {
                    writeln!(out, "        expected {}", fact.expected)?;
                    writeln!(out, "        found    {}", fact.found.red())?;
                }
            }
        }
        writeln!(out, "\n{}", "Measured".bold())?;
        for (what, value) in &self.figures {
            writeln!(out, "  {what}: {value}")?;
        }
        writeln!(out, "\n{}", "Not as on AWS (docs/limits.md has more)".bold())?;
        for note in &self.notes {
            writeln!(out, "  · {}", note.chars().take(width.saturating_mul(3)).collect::<String>())?;
        }
        let wrong = self.wrong().count();
        let score = format!("{} of {} facts", self.facts.len() - wrong, self.facts.len());
        let score = if wrong == 0 { score.green().bold().to_string() } else { score.red().bold().to_string() };
        writeln!(out, "\n{} {score}", "deployed".bold())
    }
}

/// The directory of its virtual environments, logs and the built template.
fn state_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from).join("deployed")
}

/// Rehearses the deployment; `tell` hears what is being done. With the profile `ship` the functions are built as they ship
/// (tens of minutes, the first time), with `dev` quickly (minutes).
///
/// # Errors
/// When it cannot be held: something is missing, the build fails, or the emulators cannot be used. What is not as it should
/// be is a fact of the answer, not an error.
pub async fn rehearse(profile: &str, tell: impl Fn(&str) + Send + Clone + 'static) -> Result<Rehearsal> {
    let quick = match profile {
        QUICK => true,
        SHIPS => false,
        other => bail!("the deployment is rehearsed with the profile `{QUICK}` or `{SHIPS}`, not `{other}`"),
    };
    tell("building the command");
    let command = Binary::command().await?;
    tell("starting the emulator of AWS");
    let emulator = Emulator::start_telling(tell.clone()).await?;
    tokio::task::spawn_blocking(move || run(&emulator, &command, quick, &tell)).await.context("it broke off")?
}

fn run(emulator: &Emulator, command: &Binary, quick: bool, tell: &dyn Fn(&str)) -> Result<Rehearsal> {
    let (state, sources) = (state_directory(), workspace().join("tests").join("deployed"));
    let ministack = python::environment("ministack", &state, "ministack", &[sources.join("requirements.txt")], tell)?;
    let sam = python::environment("sam and cargo-lambda", &state, "sam", &[sources.join("sam.txt")], tell)?;
    let settings = json!({
        "state": state, "ministack": ministack.python(), "sam": sam.commands(), "command": command.path, "quick": quick,
    });
    let mut python = emulator.python();
    forget_own_package(&mut python);
    // `sam` finds Cargo as a shell does.
    python.env_remove("CARGO");
    python.arg(sources.join("rehearsal.py")).arg(settings.to_string());
    let mut child = python
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start Python")?;
    let (Some(output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("Python has no pipes");
    };
    let said = std::thread::spawn(move || std::io::read_to_string(&mut errors).unwrap_or_default());
    let read = read(BufReader::new(output), tell);
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().context("cannot wait for Python")?;
    let said = said.join().unwrap_or_default();
    let rehearsal = read?;
    match status.success() {
        true => Ok(rehearsal),
        // The last fact that is not so is likely why.
        false => Err(rehearsal.wrong().last().map_or_else(
            || anyhow!("{}", python::last_line(&said)),
            |fact| anyhow!("{}; before it: {}, but found {}", python::last_line(&said), fact.what, fact.found),
        )),
    }
}

fn read(output: impl BufRead, tell: &dyn Fn(&str)) -> Result<Rehearsal> {
    let mut rehearsal = Rehearsal::default();
    for line in output.lines() {
        let line: Line = serde_json::from_str(&line?).context("a line is not what was expected")?;
        if let Some(what) = line.say {
            tell(&what);
        }
        rehearsal.facts.extend(line.fact);
        rehearsal.figures.extend(line.figure.zip(line.value));
        rehearsal.notes.extend(line.note);
    }
    Ok(rehearsal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LINES: &str = r#"{"say": "sam build"}
{"fact": {"topic": "Trust", "what": "nobody else does", "ok": false, "expected": "AccessDenied", "found": "allowed"}}
{"fact": {"topic": "Trust", "what": "the function's role does", "ok": true, "expected": "allowed", "found": "allowed"}}
{"figure": "operate", "value": "5 MB"}
{"note": "no name service"}
"#;

    #[test]
    fn what_is_not_so_is_told_with_what_was_found() {
        let heard = std::sync::Mutex::new(Vec::new());
        let rehearsal = read(LINES.as_bytes(), &|what| heard.lock().unwrap().push(what.to_owned())).unwrap();
        assert_eq!(*heard.lock().unwrap(), ["sam build"]);
        assert_eq!(rehearsal.wrong().count(), 1);
        let mut out = Vec::new();
        rehearsal.tell(&mut out, 80).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in ["nobody else does", "expected AccessDenied", "1 of 2 facts", "operate: 5 MB", "no name service"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    /// cargo-lambda, which `sam build` calls, sets each of these that the profile `release` does not, and lets a panic abort.
    #[test]
    fn what_sam_build_makes_is_what_ships() {
        let text = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
        let section = |name: &str| -> Vec<String> {
            let rest = text.lines().skip_while(|line| *line != format!("[profile.{name}]")).skip(1);
            let lines = rest.take_while(|line| !line.starts_with('[')).filter(|line| line.contains(" = "));
            lines.map(str::to_owned).collect()
        };
        let release = section("release");
        for key in ["codegen-units", "lto", "panic", "strip"] {
            assert!(release.iter().any(|line| line.starts_with(key)), "{key}: {release:?}");
        }
        assert!(release.contains(&r#"panic = "unwind""#.to_owned()), "{release:?}");
        assert_eq!(section("ship"), [r#"inherits = "release""#]);
    }

    #[test]
    fn a_line_that_is_no_json_is_an_error() {
        assert!(read("Traceback\n".as_bytes(), &|_| ()).is_err());
    }
}
