//! The emulator: moto's server with our extension (`tests/emulator/`), and the observer.
//!
//! [`Emulator`] sets up Python's virtual environment once under `target/emulator/`, starts the server on a free
//! loopback port and ends it with this process. [`Observer`] is a second Python process that speaks to the server
//! by boto3: it seeds the worlds and reads AWS back, and shares no code with Firebreak.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use firebreak::target::TargetKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::python::{self, last_line};

/// How long the server may take to listen. It takes about two seconds; a machine that compiles takes longer.
const START_WITHIN: Duration = Duration::from_secs(120);
/// What would lead a client to another account, profile or server than the emulator's.
const FOREIGN_VARIABLES: &[&str] = &[
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_CA_BUNDLE",
    "MOTO_ACCOUNT_ID",
    "PYTHONHOME",
    "PYTHONPATH",
];

/// The directory of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// The directory that holds the virtual environments and logs.
#[must_use]
pub fn state_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from).join("emulator")
}

fn source_directory() -> PathBuf {
    workspace().join("tests").join("emulator")
}

/// A 12-digit account id that no other caller in this process has been given.
#[must_use]
pub fn fresh_account() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(300_000_000_001);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

/// A world of `tests/worlds/`, by its name.
pub fn world(name: &str) -> Result<Value> {
    let path = workspace().join("tests").join("worlds").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read the world {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// The kind of what is named `victim` in a world.
pub fn kind_of_victim(world: &Value) -> Result<TargetKind> {
    serde_json::from_value(world["target"].clone()).context("the world does not say what kind of target its victim is")
}

/// The names of all worlds, sorted.
pub fn worlds() -> Result<Vec<String>> {
    let directory = workspace().join("tests").join("worlds");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Credentials for one account (or role) of the emulator.
#[derive(Clone, Deserialize)]
pub struct Credentials {
    /// The access key id; calls are recorded with it.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The session token.
    pub session_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A running server. Dropping it ends the server; so does the end of this process, however it comes.
#[derive(Debug)]
pub struct Emulator {
    endpoint: String,
    python: PathBuf,
    log: PathBuf,
    server: Child,
    observer: OnceCell<Observer>,
}

impl Emulator {
    /// Start a server of its own.
    pub async fn start() -> Result<Self> {
        Self::start_telling(|_| ()).await
    }

    /// Start a server of its own, and `tell` what takes long.
    pub async fn start_telling(tell: impl Fn(&str) + Send + 'static) -> Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&tell))
            .await
            .context("starting the emulator failed")?
    }

    /// The one server that the tests of this process share. Each test takes accounts of its own.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Emulator> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    fn start_blocking(tell: &dyn Fn(&str)) -> Result<Self> {
        let state = state_directory();
        let requirements = ["requirements.txt", "evaluator.txt"].map(|name| source_directory().join(name));
        let python = python::environment("the emulator", &state, "venv", &requirements, tell)?.python();
        let log = state.join(format!("server-{}-{}.log", std::process::id(), fresh_account()));
        let mut command = python_command(&python);
        command.arg(source_directory().join("server.py"));
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
            .spawn()
            .context("cannot start the emulator's server")?;
        let started = read_ready_line(&mut server);
        let line = match started {
            Ok(line) => line,
            Err(error) => {
                // It may hang rather than have ended.
                let _ = server.kill();
                let _ = server.wait();
                bail!("the emulator did not start ({error}); it wrote: {}", last_lines(&log, 5));
            }
        };
        #[derive(Deserialize)]
        struct Ready {
            port: u16,
        }
        let ready: Ready = serde_json::from_str(&line).context("the emulator's first line is not what was expected")?;
        let endpoint = format!("http://127.0.0.1:{}", ready.port);
        Ok(Self { endpoint, python, log, server, observer: OnceCell::new() })
    }

    /// Where the server listens, for example `http://127.0.0.1:41234`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What the server wrote to its standard error: the traceback of an answer with status 500 is here.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The observer of this emulator, started at its first use and shared by all callers.
    pub async fn observer(&self) -> Result<Observer> {
        self.observer.get_or_try_init(|| Observer::start(self)).await.cloned()
    }

    /// The environment of a process that is to act with `credentials` in `region` of the emulator.
    ///
    /// Add it to a cleared environment, or also remove what [`Emulator::foreign_variables`] names.
    #[must_use]
    pub fn environment(&self, region: &str, credentials: &Credentials) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_REGION", region),
            ("AWS_DEFAULT_REGION", region),
            ("AWS_ACCESS_KEY_ID", &credentials.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key),
            ("AWS_SESSION_TOKEN", &credentials.session_token),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("NO_PROXY", "127.0.0.1"),
            ("no_proxy", "127.0.0.1"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    /// Variables of the user's that would lead a process elsewhere than to the emulator.
    #[must_use]
    pub fn foreign_variables() -> &'static [&'static str] {
        FOREIGN_VARIABLES
    }

    /// A command of the emulator's Python in the directory of its sources, led to this server.
    #[must_use]
    pub fn python(&self) -> Command {
        let mut command = python_command(&self.python);
        command.env("AWS_ENDPOINT_URL", &self.endpoint);
        command
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Nothing can be done about a server that is gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
        if fs::metadata(&self.log).is_ok_and(|log| log.len() == 0) {
            let _ = fs::remove_file(&self.log);
        }
    }
}

/// The server's first line. A thread reads it, so that a server which hangs is noticed.
fn read_ready_line(server: &mut Child) -> Result<String> {
    let output = server.stdout.take().ok_or_else(|| anyhow!("it has no output"))?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = String::new();
        let read = reader.read_line(&mut line).map(|_| line);
        // The receiver is gone after the time-out; there is nobody to tell then.
        let _ = sender.send(read);
        // The pipe stays open and empty for as long as the server runs.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    match receiver.recv_timeout(START_WITHIN) {
        Ok(Ok(line)) if !line.is_empty() => Ok(line),
        Ok(Ok(_)) => bail!("it ended"),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => bail!("not ready after {} s", START_WITHIN.as_secs()),
    }
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

fn python_command(python: &Path) -> Command {
    let mut command = Command::new(python);
    for name in FOREIGN_VARIABLES {
        command.env_remove(name);
    }
    command
        .current_dir(source_directory())
        .env("PYTHONPYCACHEPREFIX", state_directory().join("pycache"))
        .env("PYTHONUNBUFFERED", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1");
    command
}

/// An error that AWS (or the observer itself) answered with. `anyhow` errors of [`Observer`] can be downcast to it.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// The error code, such as `InvalidInstanceID.NotFound`.
    pub code: String,
    /// The message.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// The ids of a seeded world, by its symbolic names.
#[derive(Debug, Clone, Deserialize)]
pub struct Ids {
    ids: BTreeMap<String, String>,
    #[serde(skip)]
    kind: Option<TargetKind>,
}

impl Ids {
    /// The id of `name`.
    pub fn get(&self, name: &str) -> Result<&str> {
        self.ids.get(name).map(String::as_str).ok_or_else(|| anyhow!("the world has nothing named {name}"))
    }

    /// What kind of target the world's victim is.
    #[must_use]
    pub fn kind(&self) -> Option<TargetKind> {
        self.kind
    }

    /// The symbolic name of an id, if it has one.
    #[must_use]
    pub fn name_of(&self, id: &str) -> Option<&str> {
        self.ids.iter().find(|(_, known)| *known == id).map(|(name, _)| name.as_str())
    }

    /// All names and ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ids.iter().map(|(name, id)| (name.as_str(), id.as_str()))
    }
}

/// What came of a template.
#[derive(Debug, Clone, Deserialize)]
pub struct Stack {
    /// Physical names by logical ids.
    pub resources: BTreeMap<String, String>,
    /// The outputs.
    pub outputs: BTreeMap<String, String>,
    /// The functions by logical ids.
    pub functions: BTreeMap<String, Function>,
}

impl Stack {
    /// The function with this logical id.
    pub fn function(&self, logical: &str) -> Result<&Function> {
        self.functions.get(logical).ok_or_else(|| anyhow!("the template has no function {logical}"))
    }

    /// The output with this name.
    pub fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).ok_or_else(|| anyhow!("the template has no output {name}"))
    }
}

/// A function of a template: what Lambda would give it, and the queue into which its rules deliver.
#[derive(Debug, Clone, Deserialize)]
pub struct Function {
    /// The function's name.
    pub name: String,
    /// The ARN of its execution role, where the template names one.
    pub role: Option<String>,
    /// Its variables, with every reference resolved.
    pub environment: BTreeMap<String, String>,
    /// Seconds.
    pub timeout: u32,
    /// Megabytes.
    pub memory: u32,
    /// The queue that stands for the function as the target of its rules.
    pub queue_url: String,
    /// The queues that Lambda takes its events from, several at once.
    pub batches: Vec<String>,
    /// The names of its EventBridge rules.
    pub rules: Vec<String>,
    /// Its schedules: `name`, `expression`, `input`. The emulator does not fire them.
    pub schedules: Vec<Value>,
}

/// One call that the server received.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    /// Its place in the record.
    pub index: u64,
    /// Arrival, in seconds of the machine's monotonic clock.
    pub start: f64,
    /// Answer, in seconds of the machine's monotonic clock.
    pub end: f64,
    /// The account in which it acted.
    pub account: String,
    /// The Region of its signature.
    pub region: String,
    /// The service of its signature, such as `ec2`.
    pub service: String,
    /// The operation, such as `DescribeInstances`.
    pub operation: String,
    /// The access key id that signed it.
    pub access_key: String,
    /// The ARN of the role whose session signed it; empty where it is no role's.
    pub role: String,
    /// The caller's user agent.
    pub agent: String,
    /// What it is about: parameters, keys of items, or the path.
    pub about: Vec<String>,
    /// The round in which it was answered, where a pace is set (see [`Observer::pace`]); else 0.
    pub round: u32,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// The record of calls from some index on.
#[derive(Debug, Clone, Deserialize)]
pub struct Calls {
    /// The calls, in the order in which they were answered.
    pub calls: Vec<Call>,
    /// The index of the next call.
    pub next: u64,
}

/// The independent client. Cheap to clone; commands of all clones are carried out one after another.
#[derive(Debug, Clone)]
pub struct Observer {
    process: Arc<Mutex<Process>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn ask(&mut self, command: &Value) -> Result<Value> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.input.write_all(&line).and_then(|()| self.input.flush()).context("the observer has ended")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).context("the observer cannot be read")?;
        if answer.is_empty() {
            let mut said = String::new();
            if let Some(errors) = self.child.stderr.as_mut() {
                let _ = errors.read_to_string(&mut said);
            }
            bail!("the observer has ended: {}", last_line(&said));
        }
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            ok: Value,
            error: Option<Refusal>,
        }
        let answer: Answer = serde_json::from_str(&answer).context("the observer's answer is not what was expected")?;
        answer.error.map_or(Ok(answer.ok), |refusal| Err(refusal.into()))
    }
}

impl Observer {
    /// Start an observer of its own, for commands that are to run beside another's.
    pub async fn start(emulator: &Emulator) -> Result<Self> {
        let mut child = emulator
            .python()
            .arg("client.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the observer")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the observer has no pipes");
        };
        Ok(Self { process: Arc::new(Mutex::new(Process { child, input, output: BufReader::new(output) })) })
    }

    /// Send one command (`tests/emulator/README.md` lists them) and wait for its answer.
    pub async fn ask(&self, command: Value) -> Result<Value> {
        // Blocking pipes in a thread, not Tokio's: those belong to the runtime of the test that opened them.
        let process = Arc::clone(&self.process);
        tokio::task::spawn_blocking(move || process.lock().unwrap_or_else(PoisonError::into_inner).ask(&command))
            .await
            .context("asking the observer failed")?
    }

    async fn ask_for<T: DeserializeOwned>(&self, command: Value) -> Result<T> {
        serde_json::from_value(self.ask(command).await?).context("the observer's answer is not what was expected")
    }

    /// Call AWS as `account`: `service` and `operation` as boto3 names them (`ec2`, `describe_instances`).
    pub async fn call(
        &self,
        account: &str,
        region: &str,
        service: &str,
        operation: &str,
        params: Value,
    ) -> Result<Value> {
        self.ask(json!({
            "do": "call", "account": account, "region": region,
            "service": service, "operation": operation, "params": params,
        }))
        .await
        .with_context(|| format!("{service} {operation}"))
    }

    /// Make a world (see [`world`]) in an account and Region.
    pub async fn seed(&self, account: &str, region: &str, world: &Value) -> Result<Ids> {
        let seeded = self.ask_for(json!({"do": "seed", "account": account, "region": region, "world": world})).await;
        seeded.map(|ids: Ids| Ids { kind: kind_of_victim(world).ok(), ..ids })
    }

    /// Everything relevant in an account and Region; equal states give equal values.
    pub async fn state(&self, account: &str, region: &str) -> Result<Value> {
        self.ask(json!({"do": "state", "account": account, "region": region})).await
    }

    /// Make the hub's resources out of a template, but for what `without` names by type or name.
    pub async fn hub(
        &self,
        account: &str,
        region: &str,
        template: &Path,
        parameters: Value,
        without: &[&str],
    ) -> Result<Stack> {
        self.ask_for(json!({
            "do": "hub", "account": account, "region": region, "template": template, "parameters": parameters,
            "without": without,
        }))
        .await
    }

    /// Make a member account's roles out of a template, but for what `without` names by type or name.
    pub async fn member(&self, account: &str, template: &Path, parameters: Value, without: &[&str]) -> Result<Stack> {
        self.ask_for(json!({
            "do": "member", "account": account, "template": template, "parameters": parameters, "without": without,
        }))
        .await
    }

    /// A template as JSON, short tags in their long form.
    pub async fn template(&self, name: &str) -> Result<Value> {
        self.ask(json!({"do": "template", "template": workspace().join(name)})).await
    }

    /// Let time pass for a ledger, or for one function in it: everything that waits is due, and every lease has
    /// ended. Answers with what waited, by its sort keys as they were.
    pub async fn time_passes(
        &self,
        account: &str,
        region: &str,
        table: &str,
        function: Option<&str>,
    ) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Waited {
            due: Vec<String>,
        }
        let command = json!({
            "do": "time_passes", "account": account, "region": region, "table": table, "function": function,
        });
        Ok(self.ask_for::<Waited>(command).await?.due)
    }

    /// Put a finding (an event's `detail`) where its service would: into the hub's GuardDuty detector, which is made if there
    /// is none, or into the hub's Security Hub.
    pub async fn put_finding(&self, hub_account: &str, region: &str, detail: &Value) -> Result<Value> {
        if let Some(finding) = detail["findings"].get(0) {
            let command = json!({"do": "control", "hub_account": hub_account, "region": region, "finding": finding});
            return self.ask(command).await;
        }
        self.ask(json!({"do": "finding", "hub_account": hub_account, "region": region, "detail": detail})).await
    }

    /// Put a snapshot into a state that only EC2 brings about: `pending`, `completed`, or `error` with its reason.
    pub async fn snapshot_state(
        &self,
        account: &str,
        region: &str,
        snapshot: &str,
        state: &str,
        message: Option<&str>,
    ) -> Result<()> {
        let command = json!({
            "do": "snapshot", "account": account, "region": region, "snapshot": snapshot, "state": state, "message": message,
        });
        self.ask(command).await.map(|_| ())
    }

    /// Make an organization with a delegated administrator and accounts, each in the unit of a path of names such
    /// as `prod/web`; the answer is the id of each path, the root's for the empty one.
    pub async fn organization(
        &self,
        management: &str,
        administrator: &str,
        accounts: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Made {
            units: BTreeMap<String, String>,
        }
        let accounts: BTreeMap<&str, &str> = accounts.iter().copied().collect();
        let made: Made = self
            .ask_for(json!({
                "do": "organization", "management": management, "administrator": administrator, "accounts": accounts,
            }))
            .await?;
        Ok(made.units)
    }

    /// From now on every session of a role may do in these accounts what its policies say, and no more, and a role of
    /// them is taken on by whom it trusts. They are in this organization. Without one: no more.
    pub async fn enforce(&self, accounts: &[&str], organization: Option<&str>) -> Result<()> {
        self.ask(json!({"do": "enforce", "accounts": accounts, "organization": organization})).await.map(|_| ())
    }

    /// Put an event: `Source`, `DetailType`, `Detail` (an object or its text), and what else `PutEvents` takes.
    pub async fn put_event(&self, account: &str, region: &str, entry: &Value) -> Result<Value> {
        self.ask(json!({"do": "event", "account": account, "region": region, "entry": entry})).await
    }

    /// Take all messages out of a queue; the answer is their bodies.
    pub async fn receive(&self, account: &str, region: &str, queue_url: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Received {
            bodies: Vec<String>,
        }
        let received: Received = self
            .ask_for(json!({"do": "receive", "account": account, "region": region, "queue_url": queue_url}))
            .await?;
        Ok(received.bodies)
    }

    /// Credentials of the organization's access role in an account.
    pub async fn credentials(&self, account: &str) -> Result<Credentials> {
        self.ask_for(json!({"do": "credentials", "account": account})).await
    }

    /// Credentials of a role, such as a function's execution role.
    pub async fn role_credentials(&self, account: &str, role: &str) -> Result<Credentials> {
        self.ask_for(json!({"do": "credentials", "account": account, "role": role})).await
    }

    /// The calls from index `since` on. `filters` may hold `account`, `access_key`, `agent` and `service`, each a
    /// text that the call's value contains. The observer's own calls have `observer` in their `agent`.
    pub async fn calls(&self, since: u64, filters: &[(&str, &str)]) -> Result<Calls> {
        let mut command = json!({"do": "calls", "since": since});
        for (name, value) in filters {
            command[*name] = json!(value);
        }
        self.ask_for(command).await
    }

    /// Answer the calls in these accounts in rounds from now on, or no more when `quiet` is zero: each call waits
    /// until for this long none has come and none is being answered.
    pub async fn pace(&self, accounts: &[&str], quiet: Duration) -> Result<()> {
        self.ask(json!({"do": "pace", "accounts": accounts, "quiet": quiet.as_secs_f64()})).await.map(|_| ())
    }

    /// Hold every call but the observers' for this long from now on, each by itself, as the way to AWS would; or no more when
    /// it is zero.
    pub async fn delay(&self, each: Duration) -> Result<()> {
        self.ask(json!({"do": "delay", "seconds": each.as_secs_f64()})).await.map(|_| ())
    }

    /// Forget the calls before an index: a long record takes memory. Indexes go on.
    pub async fn clear_calls_before(&self, index: u64) -> Result<()> {
        self.ask(json!({"do": "clear_calls", "before": index})).await.map(|_| ())
    }

    /// Forget the calls so far. Indexes go on.
    pub async fn clear_calls(&self) -> Result<()> {
        self.ask(json!({"do": "clear_calls"})).await.map(|_| ())
    }
}
