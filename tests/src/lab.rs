//! The lab: a hub account, a member account with a world in it, and the real function between them.
//!
//! Drills and integration tests stand on it. Everything that is read back is read by the observer; Firebreak
//! is met only as Lambda and people meet it: events to the built binary, decisions in their table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use firebreak::action::{GroupPurpose, KnownGroup};
use firebreak::aws::{Aws, Connection};
use firebreak::evidence::Stored;
use firebreak::guard::Policies;
use firebreak::ids::RunId;
use firebreak::ledger::Ledger;
use firebreak::ledger::decisions::{Decision, Verb};
use jiff::Timestamp;
use lambda_simulator::{InvocationBuilder, InvocationStatus, Simulator, SimulatorPhase};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::deployment::{self, ORGANIZATION, REGION};
use crate::door::Door;
use crate::emulator::{self, Credentials, Emulator, Ids, Observer, Stack, fresh_account, workspace};
use crate::enrolment::enrol;
use crate::outcomes;

/// A function may take this long to start on a machine that is busy compiling, or counted instruction by instruction.
const STARTS_WITHIN: Duration = Duration::from_secs(180);

/// A built function.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The executable.
    pub path: PathBuf,
    /// The Cargo profile that it was built with.
    pub profile: String,
}

/// Cargo in the directory of the workspace, for a build from inside `cargo run` or `cargo test`.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    forget_own_package(&mut command);
    command.current_dir(workspace());
    command
}

/// What `cargo run` and `cargo test` tell this process about its own package is kept from a build that it starts: `ring`
/// watches these variables, and would be built again with everything above it.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name.as_ref());
        }
    }
}

impl Binary {
    /// A function built with a Cargo profile, from the directory of the workspace and
    /// without choosing packages: another choice would be other features, and AWS's crates built again.
    pub async fn build(function: deployment::Function, profile: &str) -> Result<Self> {
        Self::built(function.name, profile).await
    }

    /// The command `firebreak`, built like the function.
    pub async fn command() -> Result<Self> {
        Self::of("firebreak").await
    }

    /// A binary of the workspace, built like the function.
    pub async fn of(name: &'static str) -> Result<Self> {
        Self::built(name, "dev").await
    }

    async fn built(name: &'static str, profile: &str) -> Result<Self> {
        let profile = profile.to_owned();
        tokio::task::spawn_blocking(move || Self::build_blocking(name, profile)).await.context("building failed")?
    }

    /// The one of `contain-compute` that the tests of this process share.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Binary> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::build(deployment::CONTAIN_COMPUTE, "dev")).await
    }

    /// A function as it ships: the package alone, with no feature that only another package asks for. Minutes the first time.
    ///
    /// # Errors
    /// When it does not build.
    pub async fn shipped(function: deployment::Function) -> Result<Self> {
        const PROFILE: &str = "ship";
        let status = tokio::process::Command::from(cargo())
            .args(["build", "--profile", PROFILE, "--package", function.name])
            .status()
            .await
            .context("cannot run cargo")?;
        if !status.success() {
            bail!("{} does not build", function.name);
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
        Ok(Self { path: target.join(PROFILE).join(function.name), profile: PROFILE.to_owned() })
    }

    fn build_blocking(name: &str, profile: String) -> Result<Self> {
        let output = cargo()
            .args(["build", "--bin", name, "--message-format=json-render-diagnostics"])
            .args(["--profile", &profile])
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = said.lines().collect();
            bail!("{name} does not build:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        let path = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or_else(|| anyhow!("cargo did not say where {name} is"))?;
        Ok(Self { path, profile })
    }
}

/// What Lambda starts: a program that speaks the Runtime API.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it is started, the folder of the function's code; `None` for where this process is.
    pub directory: Option<PathBuf>,
}

impl Program {
    /// An executable that is all of a function.
    #[must_use]
    pub fn alone(path: &Path) -> Self {
        Self { path: path.to_owned(), arguments: Vec::new(), directory: None }
    }
}

/// This moment, in seconds of the machine's monotonic clock, on which the emulator's record of calls is too.
#[must_use]
pub fn monotonic_secs() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// A function's process, with the Runtime API that it is connected to.
#[derive(Debug)]
pub struct Function {
    runtime: Runtime,
    process: Child,
    log: PathBuf,
    timeout: Duration,
    arn: String,
    /// When the process was started ([`monotonic_secs`]).
    pub started_at: f64,
    /// From the start of the process to its first request for an event.
    pub ready_after: Duration,
}

/// The simulator, which has no `Debug` of its own.
struct Runtime(Simulator);

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.runtime_api_url())
    }
}

/// How an invocation ended.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// What the function answered.
    pub answer: Result<Value, String>,
    /// When the event was handed over ([`monotonic_secs`]).
    pub begun_at: f64,
    /// From handing the event over to the answer.
    pub took: Duration,
}

impl Invoked {
    /// The `outcome`s in the answer.
    #[must_use]
    pub fn outcomes(&self) -> Vec<String> {
        let list = self.answer.as_ref().ok().and_then(|answer| answer["outcomes"].as_array());
        list.into_iter().flatten().filter_map(|one| one["outcome"].as_str().map(str::to_owned)).collect()
    }
}

impl Function {
    /// Starts a program as Lambda would, with nothing of this process's environment.
    ///
    /// # Errors
    /// When it does not start, or ends before it asks for an event; with what it wrote.
    pub async fn start(
        program: &Program,
        spec: &emulator::Function,
        account: &str,
        env: &[(String, String)],
    ) -> Result<Self> {
        let simulator = Simulator::builder()
            .function_name(&spec.name)
            .memory_size_mb(spec.memory)
            .region(REGION)
            .account_id(account)
            .handler("bootstrap")
            .build()
            .await
            .context("cannot start the Lambda Runtime API")?;
        let directory = emulator::state_directory();
        fs::create_dir_all(&directory)?;
        let log = directory.join(format!("function-{}-{}.log", std::process::id(), fresh_account()));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let of_lambda = simulator.lambda_env_vars().into_iter().filter(|(name, _)| name.starts_with("AWS_"));
        let mut command = Command::new(&program.path);
        if let Some(directory) = &program.directory {
            command.current_dir(directory).env("PWD", directory);
        }
        let (begun, started_at) = (Instant::now(), monotonic_secs());
        let process = command
            .args(&program.arguments)
            .env_clear()
            .envs(of_lambda)
            .envs(env.iter().cloned())
            .envs(&spec.environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.path.display()))?;
        let mut function = Self {
            arn: format!("arn:aws:lambda:{REGION}:{account}:function:{}", spec.name),
            timeout: Duration::from_secs(spec.timeout.into()),
            runtime: Runtime(simulator),
            process,
            log,
            started_at,
            ready_after: Duration::ZERO,
        };
        while !matches!(
            function.runtime.0.wait_for_phase(SimulatorPhase::Ready, Duration::from_millis(100)).await,
            Ok(()) | Err(lambda_simulator::SimulatorError::ServerStart(_))
        ) {
            if begun.elapsed() > STARTS_WITHIN || !function.runs()? {
                bail!("the function did not start; it wrote: {}", function.last_words());
            }
        }
        function.ready_after = begun.elapsed();
        Ok(function)
    }

    /// Gives it an event and waits for the answer, at most as long as Lambda would.
    pub async fn invoke(&mut self, event: Value) -> Result<Invoked> {
        let timeout_ms = u64::try_from(self.timeout.as_millis())?;
        let invocation = InvocationBuilder::new()
            .payload(event)
            .timeout_ms(timeout_ms)
            .function_arn(&self.arn)
            .build()
            .map_err(|error| anyhow!("{error}"))?;
        let (begun, begun_at) = (Instant::now(), monotonic_secs());
        let id = self.runtime.0.enqueue(invocation).await;
        loop {
            // In short turns: the simulator can miss the moment, and the process can end.
            let waited = self.runtime.0.wait_for_invocation_complete(&id, Duration::from_millis(50)).await;
            if let Ok(state) = waited {
                let took = begun.elapsed();
                let answer = match (state.status, state.response, state.error) {
                    (InvocationStatus::Success, Some(response), _) => Ok(response.payload),
                    (_, _, Some(error)) => Err(format!("{}: {}", error.error_type, error.error_message)),
                    (status, ..) => Err(format!("{status:?}")),
                };
                return Ok(Invoked { answer, begun_at, took });
            }
            if begun.elapsed() > self.timeout {
                self.kill();
                return Ok(Invoked { answer: Err("timed out".to_owned()), begun_at, took: begun.elapsed() });
            }
            if !self.runs()? {
                return Ok(Invoked { answer: Err("the process ended".to_owned()), begun_at, took: begun.elapsed() });
            }
        }
    }

    /// Gives it another time-out than the template's, from the next event on.
    pub fn times_out_after(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Whether the process runs.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.process.try_wait().context("cannot look at the function")?.is_none())
    }

    /// Ends the process at once, as Lambda may.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Asks the process to end, and waits until it has: what runs it may have something to say at the end.
    ///
    /// # Errors
    /// When it cannot be asked or waited for.
    pub fn terminate(&mut self) -> Result<()> {
        let id = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        let id = id.ok_or_else(|| anyhow!("the function has no process id"))?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM).context("cannot end the function")?;
        self.process.wait().context("cannot wait for the function")?;
        Ok(())
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that the process has held, in kilobytes; known on Linux only.
    #[must_use]
    pub fn peak_memory_kb(&self) -> Option<u64> {
        self.status_kb("VmHWM:")
    }

    /// The memory that the process holds, in kilobytes; known on Linux only.
    #[must_use]
    pub fn memory_kb(&self) -> Option<u64> {
        self.status_kb("VmRSS:")
    }

    fn status_kb(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Where its log is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a lab begins with.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// The name of the world in the member account.
    pub world: &'a str,
    /// A policy set of `policies/`, published and accepted; without one the compiled-in set proposes everything.
    pub policy: Option<&'a str>,
    /// The function that the lab is about.
    pub function: deployment::Function,
    /// Parameters of `template.yaml` that differ from their defaults.
    pub parameters: Value,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            world: "web-server",
            policy: Some("starter"),
            function: deployment::CONTAIN_COMPUTE,
            parameters: json!({}),
        }
    }
}

/// A hub account and a member account in the emulator.
#[derive(Debug)]
pub struct Lab<'e> {
    /// The emulator that they are in.
    pub emulator: &'e Emulator,
    /// The observer.
    pub observer: Observer,
    /// The security account.
    pub hub: String,
    /// The account in which the world is.
    pub member: String,
    /// What `template.yaml` made.
    pub stack: Stack,
    /// The ids of the world.
    pub ids: Ids,
    /// The queue in which our own events arrive, put there by a rule of the lab's.
    pub outcomes: String,
    /// The queue that is subscribed to the topic.
    pub messages: String,
    /// The function that it is about.
    pub function: deployment::Function,
    binary: Binary,
    aws: Aws,
}

impl<'e> Lab<'e> {
    /// Makes both accounts. The function is not started.
    pub async fn new(emulator: &'e Emulator, binary: &Binary, setup: &Setup<'_>) -> Result<Self> {
        let observer = emulator.observer().await?;
        let (hub, member) = (fresh_account(), fresh_account());
        let mut parameters = setup.parameters.clone();
        parameters["OrganizationId"] = json!(ORGANIZATION);
        if parameters.get("BreakGlassPrincipals").is_none() {
            parameters["BreakGlassPrincipals"] = json!(format!("arn:aws:iam::{hub}:role/break-glass"));
        }
        for people in ["OperatorPrincipals", "PublisherPrincipals"] {
            parameters[people] = json!(format!("arn:aws:iam::{hub}:role/{RESPONDER}"));
        }
        let root = workspace();
        let stack = observer.hub(&hub, REGION, &root.join("template.yaml"), parameters, &[]).await?;
        let ids = member_account(&observer, &hub, &member, setup.world).await?;
        responder(&observer, &hub).await?;
        // From here on every role may do what its policies say, and no more.
        observer.enforce(&[&hub, &member], Some(ORGANIZATION)).await?;
        let aws = deployment::account(emulator, &hub, &observer.credentials(&hub).await?, &Connection::default())?;
        let mut lab = Self {
            emulator,
            observer,
            hub,
            member,
            stack,
            ids,
            outcomes: String::new(),
            messages: String::new(),
            function: setup.function,
            binary: binary.clone(),
            aws,
        };
        lab.subscribe().await?;
        lab.turn_guardduty_on().await?;
        if let Some(policy) = setup.policy {
            lab.publish(&fs::read_to_string(root.join("policies").join(format!("{policy}.cedar")))?).await?;
        }
        Ok(lab)
    }

    /// Queues for what Firebreak tells the world.
    async fn subscribe(&mut self) -> Result<()> {
        let (events, messages) = ("lab-outcomes", "lab-messages");
        let queue = |name: &str| format!("arn:aws:sqs:{REGION}:{}:{name}", self.hub);
        for name in [events, messages] {
            let made = self.at_hub("sqs", "create_queue", json!({"QueueName": name})).await?;
            let url = made["QueueUrl"].as_str().ok_or_else(|| anyhow!("a queue without a URL"))?.to_owned();
            *(if name == events { &mut self.outcomes } else { &mut self.messages }) = url;
        }
        let pattern = json!({"source": ["firebreak"], "detail-type": [firebreak::hub::OUTCOME_EVENT]}).to_string();
        self.at_hub("events", "put_rule", json!({"Name": events, "EventPattern": pattern})).await?;
        let targets = json!({"Rule": events, "Targets": [{"Id": "queue", "Arn": queue(events)}]});
        self.at_hub("events", "put_targets", targets).await?;
        let subscription = json!({
            "TopicArn": self.stack.output("TopicArn")?, "Protocol": "sqs", "Endpoint": queue(messages),
        });
        self.at_hub("sns", "subscribe", subscription).await?;
        Ok(())
    }

    /// Another member account of the same hub, with a world of its own in it: from now on the lab is about that one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn enter_another_account(&mut self, world: &str) -> Result<()> {
        self.member = fresh_account();
        self.ids = member_account(&self.observer, &self.hub, &self.member, world).await?;
        self.observer.enforce(&[&self.hub, &self.member], Some(ORGANIZATION)).await?;
        let listed = self.at_hub("guardduty", "list_detectors", json!({})).await?;
        let member = json!({"AccountId": self.member, "Email": "member@example.com"});
        let members = json!({"DetectorId": listed["DetectorIds"][0], "AccountDetails": [member]});
        self.at_hub("guardduty", "create_members", members).await.map(|_| ())
    }

    /// GuardDuty as an organization has it: the security account administers it, and has the member in it.
    async fn turn_guardduty_on(&self) -> Result<()> {
        let management = fresh_account();
        let named = json!({"AdminAccountId": self.hub});
        self.observer.call(&management, REGION, "guardduty", "enable_organization_admin_account", named).await?;
        let detector = self.at_hub("guardduty", "create_detector", json!({"Enable": true})).await?;
        let member = json!({"AccountId": self.member, "Email": "member@example.com"});
        let members = json!({"DetectorId": detector["DetectorId"], "AccountDetails": [member]});
        self.at_hub("guardduty", "create_members", members).await.map(|_| ())
    }

    /// Another member account with a world in it, whose findings the security account has.
    pub async fn another_member(&self, world: &Value) -> Result<(String, Ids)> {
        let member = fresh_account();
        enrol(&self.observer, &self.hub, &member, &self.function).await?;
        let ids = self.observer.seed(&member, REGION, world).await?;
        let detectors = self.at_hub("guardduty", "list_detectors", json!({})).await?;
        let account = json!({"AccountId": member, "Email": "member@example.com"});
        let members = json!({"DetectorId": detectors["DetectorIds"][0], "AccountDetails": [account]});
        self.at_hub("guardduty", "create_members", members).await?;
        Ok((member, ids))
    }

    /// Puts a policy set into its bucket and accepts its hash.
    pub async fn publish(&self, text: &str) -> Result<()> {
        let set = Policies::parse(text)?;
        let key = self.setting("FIREBREAK_POLICY_KEY")?;
        let object = json!({"Bucket": self.stack.output("PolicyBucket")?, "Key": key, "Body": text});
        self.at_hub("s3", "put_object", object).await?;
        self.ledger()?.accept_policy(&set.sha256, "lab", Timestamp::now()).await?;
        Ok(())
    }

    /// A variable of the function.
    pub fn setting(&self, name: &str) -> Result<&str> {
        let function = self.stack.function(self.function.logical)?;
        function.environment.get(name).map(String::as_str).ok_or_else(|| anyhow!("{name} is not set"))
    }

    /// Calls AWS in the hub account, as the observer.
    pub async fn at_hub(&self, service: &str, operation: &str, params: Value) -> Result<Value> {
        self.observer.call(&self.hub, REGION, service, operation, params).await
    }

    /// Calls AWS in the member account, as the observer.
    pub async fn at_member(&self, service: &str, operation: &str, params: Value) -> Result<Value> {
        self.observer.call(&self.member, REGION, service, operation, params).await
    }

    /// The ledger as an operator reaches it: for decisions and policies, never to read facts back.
    pub fn ledger(&self) -> Result<Ledger> {
        let tables = (self.stack.output("LedgerTable")?, self.stack.output("DecisionsTable")?);
        Ok(Ledger::new(self.aws.dynamodb().clone(), tables.0, tables.1))
    }

    /// Starts a process of the function.
    pub async fn start(&self) -> Result<Function> {
        self.start_function(&self.function, &self.binary).await
    }

    /// Starts a process of another function, under its own role.
    pub async fn start_function(&self, function: &deployment::Function, binary: &Binary) -> Result<Function> {
        self.start_with(function, binary, &[], None).await
    }

    /// The same with other settings than the stack gave it, and known at people's door, where it goes there.
    pub async fn start_with(
        &self,
        function: &deployment::Function,
        binary: &Binary,
        settings: &[(&str, &str)],
        door: Option<&Door>,
    ) -> Result<Function> {
        let mut spec = self.stack.function(function.logical)?.clone();
        spec.environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let role = spec.role.as_deref().ok_or_else(|| anyhow!("the function has no role"))?;
        let credentials = self.observer.role_credentials(&self.hub, role).await?;
        let env = self.emulator.environment(REGION, &credentials);
        if let Some(door) = door {
            door.knows(self, credentials).await?;
        }
        Function::start(&Program::alone(&binary.path), &spec, &self.hub, &env).await
    }

    /// The profile that the function was built with.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.binary.profile
    }

    /// The variables with which a person's commands reach this lab; at people's door, where it is open.
    pub async fn operator_environment(&self, door: Option<&Door>) -> Result<BTreeMap<String, String>> {
        self.environment_of(&self.person().await?, door)
    }

    /// A session of the responders' role: one of the operators and publishers.
    pub async fn person(&self) -> Result<Credentials> {
        self.observer.role_credentials(&self.hub, &format!("arn:aws:iam::{}:role/{RESPONDER}", self.hub)).await
    }

    /// The same for somebody in particular.
    pub fn environment_of(&self, who: &Credentials, door: Option<&Door>) -> Result<BTreeMap<String, String>> {
        let mut env: BTreeMap<String, String> = self.emulator.environment(REGION, who).into_iter().collect();
        env.extend(self.stack.function(self.function.logical)?.environment.clone());
        env.extend(door.map(|door| ("FIREBREAK_OPERATE_URL".to_owned(), door.url.clone())));
        env.retain(|name, value| name != "AWS_SESSION_TOKEN" || !value.is_empty());
        Ok(env)
    }

    /// Answers the function's calls in rounds, so that those it makes one after another can be counted.
    pub async fn pace(&self, quiet: Duration) -> Result<()> {
        self.observer.pace(&[&self.hub, &self.member], quiet).await
    }

    /// Everything relevant in the member account.
    pub async fn state(&self) -> Result<Value> {
        self.observer.state(&self.member, REGION).await
    }

    /// A finding of `events/guardduty/` about an instance, a user or a role's session of the world, as GuardDuty would make it now.
    pub async fn finding(&self, file: &str, about: &str) -> Result<Value> {
        let path = workspace().join("events").join("guardduty").join(format!("{file}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let event: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let mut detail = event["detail"].clone();
        let victim = self.ids.get(about)?;
        if let Some(was) = detail["resource"]["instanceDetails"]["instanceId"].as_str().map(str::to_owned) {
            for field in ["title", "description"] {
                if let Some(prose) = detail[field].as_str().map(|prose| prose.replace(&was, victim)) {
                    detail[field] = json!(prose);
                }
            }
        }
        let id = format!("{:032x}", fresh_account().parse::<u128>()?);
        let now = Timestamp::now();
        detail["accountId"] = json!(self.member);
        detail["region"] = json!(REGION);
        detail["arn"] = json!(format!("arn:aws:guardduty:{REGION}:{}:detector/lab/finding/{id}", self.member));
        detail["id"] = json!(id);
        let resource = &mut detail["resource"];
        if resource["accessKeyDetails"].is_object() {
            let details = &mut resource["accessKeyDetails"];
            details["principalId"] = json!(victim);
            details["userName"] = json!(self.ids.get(&format!("{about}.name"))?);
            if let Ok(key) = self.ids.get(&format!("{about}.key")) {
                details["accessKeyId"] = json!(key);
            }
            if let (Some(details), Some((_, session))) = (resource.get_mut("instanceDetails"), victim.split_once(':')) {
                details["instanceId"] = json!(session);
            }
        } else {
            resource["instanceDetails"]["instanceId"] = json!(victim);
            resource["instanceDetails"]["networkInterfaces"] = self.interfaces_as_found(victim).await?;
        }
        detail["createdAt"] = json!(now.to_string());
        detail["updatedAt"] = json!(now.to_string());
        detail["service"]["eventFirstSeen"] = json!((now - Duration::from_secs(600)).to_string());
        detail["service"]["eventLastSeen"] = json!((now - Duration::from_secs(120)).to_string());
        Ok(detail)
    }

    async fn interfaces_as_found(&self, instance: &str) -> Result<Value> {
        let filters = json!([{"Name": "attachment.instance-id", "Values": [instance]}]);
        let seen = self.at_member("ec2", "describe_network_interfaces", json!({"Filters": filters})).await?;
        let found = seen["NetworkInterfaces"].as_array().into_iter().flatten().map(|interface| {
            json!({
                "networkInterfaceId": interface["NetworkInterfaceId"],
                "privateIpAddress": interface["PrivateIpAddress"],
                "subnetId": interface["SubnetId"],
                "vpcId": interface["VpcId"],
                "securityGroups": interface["Groups"].as_array().into_iter().flatten().map(|group| {
                    json!({"groupId": group["GroupId"], "groupName": group["GroupName"]})
                }).collect::<Vec<_>>(),
            })
        });
        Ok(Value::Array(found.collect()))
    }

    /// Puts a finding into the hub's GuardDuty, or Security Hub.
    pub async fn put_in_guardduty(&self, detail: &Value) -> Result<()> {
        self.observer.put_finding(&self.hub, REGION, detail).await.map(|_| ())
    }

    /// Puts a finding on the hub's bus; the answer is what the function's rules delivered.
    pub async fn route(&self, detail: &Value) -> Result<Vec<Value>> {
        match detail["findings"].is_array() {
            true => self.put_on_bus("aws.securityhub", "Security Hub Findings - Imported", detail).await,
            false => self.put_on_bus("aws.guardduty", "GuardDuty Finding", detail).await,
        }
    }

    /// Puts an event on the hub's bus; the answer is what the function's rules delivered.
    pub async fn put_on_bus(&self, source: &str, kind: &str, detail: &Value) -> Result<Vec<Value>> {
        let entry = json!({"Source": source, "DetailType": kind, "Detail": detail});
        self.observer.put_event(&self.hub, REGION, &entry).await?;
        self.delivered().await
    }

    /// What the function's rules have delivered and nobody has taken yet.
    pub async fn delivered(&self) -> Result<Vec<Value>> {
        let function = self.stack.function(self.function.logical)?;
        let bodies = self.observer.receive(&self.hub, REGION, &function.queue_url).await?;
        let read = |body: &String| serde_json::from_str(body).context("a delivered event is not JSON");
        let mut events: Vec<Value> = bodies.iter().map(read).collect::<Result<_>>()?;
        for queue in &function.batches {
            let messages = self.observer.receive(&self.hub, REGION, queue).await?;
            let record = |(n, body)| json!({"messageId": format!("{n}"), "body": body, "eventSource": "aws:sqs"});
            let records: Vec<Value> = messages.iter().enumerate().map(record).collect();
            if !records.is_empty() {
                events.push(json!({"Records": records}));
            }
        }
        Ok(events)
    }

    /// A finding of `events/securityhub/` about a control that failed on something of the world, as Security Hub would make
    /// it now: the `detail` of its event.
    pub fn control(&self, file: &str, about: &str) -> Result<Value> {
        let path = workspace().join("events").join("securityhub").join(format!("{file}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let event: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let finding = &event["detail"]["findings"][0];
        let named = finding["Resources"][0]["Id"].as_str().unwrap_or_default();
        let named = named.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
        let text = finding.to_string().replace(&named, self.ids.get(about)?).replace("222222222222", &self.member);
        let mut finding: Value = serde_json::from_str(&text)?;
        let now = Timestamp::now().to_string();
        finding["Id"] = json!(format!("{}-{}", finding["Id"].as_str().unwrap_or_default(), fresh_account()));
        for field in ["LastObservedAt", "UpdatedAt"] {
            finding[field] = json!(now);
        }
        Ok(json!({"findings": [finding]}))
    }

    /// The whole way of a finding: GuardDuty has it, the bus gets it, the rule lets it through, the function
    /// is invoked.
    pub async fn deliver(&self, function: &mut Function, detail: &Value) -> Result<Invoked> {
        self.put_in_guardduty(detail).await?;
        let event = only(self.route(detail).await?)?;
        function.invoke(event).await
    }

    /// Delivers the schedule's event.
    pub async fn schedule(&self, function: &mut Function) -> Result<Invoked> {
        function.invoke(self.schedule_event()).await
    }

    /// The schedule's event.
    #[must_use]
    pub fn schedule_event(&self) -> Value {
        let rule = format!("arn:aws:events:{REGION}:{}:rule/schedule", self.hub);
        json!({
            "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
            "source": "aws.events", "account": self.hub, "time": Timestamp::now().to_string(), "region": REGION,
            "resources": [rule], "detail": {},
        })
    }

    /// A person's decision about a run, written as the command writes it, and its event on the way to the function.
    pub async fn decide(&self, function: &mut Function, run: &str, verb: Verb) -> Result<Invoked> {
        let event = self.decision(run, verb).await?;
        function.invoke(event).await
    }

    /// The event of a new decision about a run.
    pub async fn decision(&self, run: &str, verb: Verb) -> Result<Value> {
        let ledger = self.ledger()?;
        let id: RunId = run.parse()?;
        let run = ledger.run(&id).await?.ok_or_else(|| anyhow!("there is no run {id}"))?;
        let by = format!("arn:aws:sts::{}:assumed-role/operator/drill", self.hub);
        let decision = Decision::new(&run, verb, &by, Timestamp::now());
        ledger.decide(&decision).await?;
        let detail = json!({"id": decision.id});
        only(self.put_on_bus(firebreak::hub::EVENT_SOURCE, firebreak::hub::DECISION_EVENT, &detail).await?)
    }

    /// Every row of the ledger, as the observer reads them.
    pub async fn rows(&self) -> Result<Vec<Row>> {
        let table = self.stack.output("LedgerTable")?;
        let mut rows = Vec::new();
        let mut from = Value::Null;
        loop {
            let mut params = json!({"TableName": table, "ConsistentRead": true});
            if !from.is_null() {
                params["ExclusiveStartKey"] = from;
            }
            let answer = self.at_hub("dynamodb", "scan", params).await?;
            rows.extend(answer["Items"].as_array().into_iter().flatten().cloned().map(Row));
            from = answer["LastEvaluatedKey"].clone();
            if from.is_null() {
                return Ok(rows);
            }
        }
    }

    /// The runs in the ledger, as the observer reads them.
    pub async fn runs(&self) -> Result<Vec<Row>> {
        Ok(self.rows().await?.into_iter().filter(|row| row.text("sk") == "RUN").collect())
    }

    /// Lets time pass for the ledger: every lease has ended, and everything that waits is due.
    pub async fn let_time_pass(&self) -> Result<()> {
        let table = self.stack.output("LedgerTable")?;
        self.observer.time_passes(&self.hub, REGION, table, None).await.map(|_| ())
    }

    /// Makes a quarantine group in the victim's VPC ahead of any incident, as `firebreak onboard` does.
    pub async fn prepare(&self) -> Result<String> {
        self.prepare_in(&self.member, self.ids.get("vpc")?).await
    }

    /// The same in a VPC of a member account.
    pub async fn prepare_in(&self, member: &str, vpc: &str) -> Result<String> {
        let purpose = GroupPurpose::Quarantine;
        let group = self.empty_group(member, vpc, &format!("{}-prepared", purpose.as_str())).await?;
        let known = KnownGroup { vpc: vpc.parse()?, id: group.parse()?, purpose, run: None };
        self.ledger()?.record_group(&member.parse()?, &REGION.parse()?, &known, Timestamp::now()).await?;
        Ok(group)
    }

    /// Makes a security group without any rule in a VPC of a member account; the answer is its id.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn empty_group(&self, member: &str, vpc: &str, name: &str) -> Result<String> {
        let call = |service, operation, params| self.observer.call(member, REGION, service, operation, params);
        let params = json!({"GroupName": name, "Description": "Firebreak quarantine", "VpcId": vpc});
        let made = call("ec2", "create_security_group", params).await?;
        let group = made["GroupId"].as_str().ok_or_else(|| anyhow!("a group without an id"))?.to_owned();
        let filters = json!([{"Name": "group-id", "Values": [group]}]);
        let rules = call("ec2", "describe_security_group_rules", json!({"Filters": filters})).await?;
        let outward: Vec<&Value> = rules["SecurityGroupRules"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|rule| rule["IsEgress"] == true)
            .map(|rule| &rule["SecurityGroupRuleId"])
            .collect();
        let params = json!({"GroupId": group, "SecurityGroupRuleIds": outward});
        call("ec2", "revoke_security_group_egress", params).await?;
        Ok(group)
    }

    /// The evidence of a case, object by object.
    pub async fn evidence(&self, run: &str) -> Result<Vec<Stored>> {
        let bucket = self.stack.output("EvidenceBucket")?;
        let prefix = format!("cases/{run}/");
        let listed = self.at_hub("s3", "list_objects_v2", json!({"Bucket": bucket, "Prefix": prefix})).await?;
        let mut records = Vec::new();
        for key in listed["Contents"].as_array().into_iter().flatten().filter_map(|object| object["Key"].as_str()) {
            let object = self.at_hub("s3", "get_object", json!({"Bucket": bucket, "Key": key})).await?;
            let text = object["Body"].as_str().ok_or_else(|| anyhow!("{key} has no body"))?;
            let name = key.strip_prefix(&prefix).unwrap_or(key).to_owned();
            records.push(Stored { name, bytes: text.as_bytes().to_vec() });
        }
        Ok(records)
    }

    /// The outcome events since the last look: their `detail`s.
    pub async fn outcome_events(&self) -> Result<Vec<Value>> {
        let bodies = self.observer.receive(&self.hub, REGION, &self.outcomes).await?;
        bodies.iter().map(|body| outcomes::detail_of(body)).collect()
    }

    /// The messages to people since the last look: subject and text.
    pub async fn messages(&self) -> Result<Vec<(String, String)>> {
        let bodies = self.observer.receive(&self.hub, REGION, &self.messages).await?;
        let message = |body: &String| {
            let envelope: Value = serde_json::from_str(body).context("a message's envelope is not JSON")?;
            let part = |name: &str| envelope[name].as_str().unwrap_or_default().to_owned();
            Ok((part("Subject"), part("Message")))
        };
        bodies.iter().map(message).collect()
    }
}

/// A row of a table, with DynamoDB's types.
#[derive(Debug, Clone)]
pub struct Row(pub Value);

impl Row {
    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0[name]["S"].as_str().unwrap_or_default()
    }

    /// A text that holds JSON.
    #[must_use]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_default()
    }

    /// A run's id.
    #[must_use]
    pub fn run(&self) -> &str {
        self.text("pk").trim_start_matches("RUN#")
    }
}

/// The one event that was to be delivered.
fn only(mut events: Vec<Value>) -> Result<Value> {
    match (events.pop(), events.is_empty()) {
        (Some(event), true) => Ok(event),
        (Some(_), false) => bail!("the rules delivered {} events instead of one", events.len() + 1),
        (None, _) => bail!("no rule of the template let the event through"),
    }
}

/// A member account with Firebreak's roles, and a world in it.
async fn member_account(observer: &Observer, hub: &str, member: &str, world: &str) -> Result<Ids> {
    let parameters = json!({"HubAccount": hub, "OrganizationId": ORGANIZATION});
    observer.member(member, &workspace().join("template-member.yaml"), parameters, &[]).await?;
    observer.seed(member, REGION, &emulator::world(world)?).await
}

/// The role of people who respond to incidents. It may do what the templates' policies for people say.
const RESPONDER: &str = "responder";

async fn responder(observer: &Observer, hub: &str) -> Result<()> {
    let anybody = json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"});
    let trust = json!({"Version": "2012-10-17", "Statement": [anybody]}).to_string();
    let role = json!({"RoleName": RESPONDER, "AssumeRolePolicyDocument": trust});
    observer.call(hub, REGION, "iam", "create_role", role).await?;
    for policy in ["call-operate", "publish-policies"] {
        let policy = format!("arn:aws:iam::{hub}:policy/firebreak/{policy}");
        let attached = json!({"RoleName": RESPONDER, "PolicyArn": policy});
        observer.call(hub, REGION, "iam", "attach_role_policy", attached).await?;
    }
    Ok(())
}
