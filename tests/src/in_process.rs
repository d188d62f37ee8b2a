//! The loop in this process, against the emulator, through an HTTP client that can fail: what the laws are tested on.
//!
//! A [`Security`] is a security account made from `template.yaml`; a [`Case`] is a member account with a world in it,
//! one playbook, a genuine finding about the world's victim, and a function of its own whose process can die.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use firebreak::action::{AnyAction, Applied, Boxed, Context as ActionContext, KnownGroup, Undone};
use firebreak::authenticate::Authenticity;
use firebreak::aws::{Aws, Connection};
use firebreak::config::Config;
use firebreak::engine::Engine;
use firebreak::failure::Failure;
use firebreak::finding::{Finding, Resource, Source};
use firebreak::hub::{Answer, DECISION_EVENT, EVENT_SOURCE, Hub, OUTCOME_EVENT, Playbooks};
use firebreak::ids::{AccountId, Region, RunId};
use firebreak::ledger::Ledger;
use firebreak::ledger::decisions::{Decision, Verb};
use firebreak::permission::{Grant, Permission};
use firebreak::plan::{Leave, Plan, Step, Undo};
use firebreak::playbook::{Custody, Meta, PlanContext, Planned, Playbook};
use firebreak::run::Run;
use firebreak::target::{Target, TargetKind};
use firebreak::write_back::Note;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compare::list;
use crate::deployment::{self, ORGANIZATION};
pub use crate::deployment::{FUNCTIONS, Function, REGION};
use crate::emulator::{
    Credentials, Emulator, Ids, Observer, Stack, fresh_account, kind_of_victim, workspace, world, worlds,
};
use crate::enrolment::enrol;
use crate::faults::{Doing, Faults, while_doing};
use crate::outcomes;

/// A principal that is never touched: without one nobody's identity is contained by itself.
const BREAK_GLASS: &str = "arn:aws:iam::*:user/break-glass/admin";

/// Every playbook of every function, recorded as it plans and acts.
pub fn playbooks() -> &'static [(&'static Function, &'static Traced)] {
    static ALL: OnceLock<Vec<(&'static Function, &'static Traced)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = FUNCTIONS.iter().flat_map(|f| f.playbooks.iter().map(move |playbook| (f, *playbook)));
        all.map(|(function, playbook)| (function, Traced::of(playbook))).collect()
    })
}

/// A playbook whose calls are recorded with the step that they are made for.
pub struct Traced {
    inner: &'static dyn Playbook,
    actions: &'static [&'static dyn AnyAction],
}

impl Traced {
    fn of(inner: &'static dyn Playbook) -> &'static Self {
        // Made once for each playbook of the process.
        let traced =
            |action: &&'static dyn AnyAction| -> &'static dyn AnyAction { Box::leak(Box::new(TracedAction(*action))) };
        let actions: Vec<&'static dyn AnyAction> = inner.actions().iter().map(traced).collect();
        Box::leak(Box::new(Self { inner, actions: Box::leak(actions.into_boxed_slice()) }))
    }

    /// The playbook alone, as a function's list.
    #[must_use]
    pub fn alone(&'static self) -> Playbooks {
        let list: Vec<&'static dyn Playbook> = vec![self];
        Box::leak(list.into_boxed_slice())
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.inner.meta().id
    }

    /// The action of this name.
    pub fn action(&self, name: &str) -> Result<&'static dyn AnyAction> {
        let found = self.actions.iter().copied().find(|action| action.name() == name);
        found.ok_or_else(|| anyhow!("{} has no action {name}", self.id()))
    }
}

impl Playbook for Traced {
    fn meta(&self) -> &'static Meta {
        self.inner.meta()
    }
    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        self.actions
    }
    fn custody<'a>(&'a self, cx: &'a PlanContext<'a>, run: &'a Run) -> Boxed<'a, Result<Option<Custody>, Failure>> {
        while_doing(Doing::Planning, self.inner.custody(cx, run))
    }
    fn targets(&self, finding: &Finding) -> Vec<Target> {
        self.inner.targets(finding)
    }
    fn is_about(&self, finding: &Finding, target: &Target) -> bool {
        self.inner.is_about(finding, target)
    }
    fn may_answer(&self, finding: &Finding) -> bool {
        self.inner.may_answer(finding)
    }
    fn authenticate<'a>(&'a self, hub: &'a Aws, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Authenticity> {
        while_doing(Doing::Planning, self.inner.authenticate(hub, member, finding))
    }
    fn looks_up(&self, finding: &Finding) -> bool {
        self.inner.looks_up(finding)
    }
    fn look_up<'a>(&'a self, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Result<Vec<Resource>, Failure>> {
        while_doing(Doing::Planning, self.inner.look_up(member, finding))
    }
    fn write_back<'a>(&'a self, hub: &'a Aws, finding: &'a Finding, note: Note) -> Boxed<'a, Result<(), Failure>> {
        self.inner.write_back(hub, finding, note)
    }
    fn takes_requests_about(&self, kind: TargetKind) -> bool {
        self.inner.takes_requests_about(kind)
    }
    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>> {
        while_doing(Doing::Planning, self.inner.plan(cx, target, finding))
    }
}

struct TracedAction(&'static dyn AnyAction);

impl AnyAction for TracedAction {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn permissions(&self) -> &'static [Permission] {
        self.0.permissions()
    }
    fn undo_kind(&self) -> Undo {
        self.0.undo_kind()
    }
    fn leave(&self) -> Option<Leave> {
        self.0.leave()
    }
    fn makes_group(&self) -> bool {
        self.0.makes_group()
    }
    fn grants_of(&self, aws: &Aws, step: &Step, groups: &[KnownGroup]) -> Result<Vec<Grant>, Failure> {
        self.0.grants_of(aws, step, groups)
    }
    fn read_state<'a>(
        &'a self,
        cx: &'a ActionContext<'a>,
        step: &'a Step,
    ) -> Boxed<'a, Result<Option<Value>, Failure>> {
        while_doing(Doing::Reading(step.id.clone()), self.0.read_state(cx, step))
    }
    fn holds<'a>(&'a self, cx: &'a ActionContext<'a>, step: &'a Step) -> Boxed<'a, Result<Option<bool>, Failure>> {
        while_doing(Doing::Reading(step.id.clone()), self.0.holds(cx, step))
    }
    fn apply<'a>(
        &'a self,
        cx: &'a ActionContext<'a>,
        step: &'a Step,
        fresh: bool,
    ) -> Boxed<'a, Result<Applied, Failure>> {
        while_doing(Doing::Applying(step.id.clone()), self.0.apply(cx, step, fresh))
    }
    fn undo<'a>(&'a self, cx: &'a ActionContext<'a>, step: &'a Step) -> Boxed<'a, Result<Undone, Failure>> {
        while_doing(Doing::Undoing(step.id.clone()), self.0.undo(cx, step))
    }
}

/// What the policy set of a security account permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permits {
    /// What is compiled in: propose.
    Default,
    /// Observe, and nothing more.
    Observe,
    /// Enforce, without any leave beyond it.
    Enforce,
    /// Enforce with every leave, so that every action is reached.
    Everything,
}

impl Permits {
    fn policies(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Observe => Some(r#"@id("observe") permit (principal, action == Action::"observe", resource);"#),
            Self::Enforce => Some(
                r#"@id("enforce") permit (principal, action in [Action::"enforce", Action::"propose"], resource);"#,
            ),
            Self::Everything => Some(r#"@id("everything") permit (principal, action, resource);"#),
        }
    }
}

/// A security account with what `template.yaml` puts into it.
#[derive(Debug)]
pub struct Security {
    /// The emulator.
    pub emulator: &'static Emulator,
    /// The independent client.
    pub observer: Observer,
    /// The account.
    pub account: String,
    /// What its policies permit to begin with.
    pub permits: Permits,
    /// What came of the template.
    pub stack: Stack,
    /// Sessions of the functions' own roles, by the functions' names.
    functions: BTreeMap<&'static str, Credentials>,
    plain: Aws,
    /// A queue that gets everything that people are told.
    told: String,
    /// What was taken out of it.
    taken: tokio::sync::Mutex<Vec<String>>,
    /// A queue that gets every outcome event.
    outcomes: String,
}

impl Security {
    /// A fresh one, on one of the servers.
    pub async fn fresh(permits: Permits) -> Result<Arc<Self>> {
        Self::on(one_of_the_servers().await?, permits).await
    }

    /// A fresh one on each server: what has many cases uses all.
    pub async fn on_each_server(permits: Permits) -> Result<Vec<Arc<Self>>> {
        let fresh = (0..SERVERS).map(|n| async move { Self::on(server(n).await?, permits).await });
        futures_util::future::try_join_all(fresh).await
    }

    /// A fresh one that can reach the same member accounts: each server has its own.
    pub async fn beside(&self, permits: Permits) -> Result<Arc<Self>> {
        Self::on(self.emulator, permits).await
    }

    async fn on(emulator: &'static Emulator, permits: Permits) -> Result<Arc<Self>> {
        let observer = emulator.observer().await?;
        let account = fresh_account();
        let parameters = json!({
            "OrganizationId": ORGANIZATION, "BudgetTotalPerHour": 100_000, "BreakGlassPrincipals": BREAK_GLASS,
        });
        // Events are handed to the functions here, not routed.
        let template = workspace().join("template.yaml");
        let stack = observer.hub(&account, REGION, &template, parameters, &["AWS::Events::Rule"]).await?;
        let credentials = observer.credentials(&account).await?;
        let plain = deployment::account(emulator, &account, &credentials, &connection(http(), Settings::default()))?;
        let mut functions = BTreeMap::new();
        for function in FUNCTIONS {
            let role = stack.function(function.logical)?.role.as_deref().context("a function has no role")?;
            functions.insert(function.name, observer.role_credentials(&account, role).await?);
        }
        // From here on its functions may do what their roles say, and no more.
        observer.enforce(&[&account], Some(ORGANIZATION)).await?;
        let mut security = Self {
            emulator,
            observer,
            account,
            permits,
            stack,
            functions,
            plain,
            told: String::new(),
            taken: tokio::sync::Mutex::default(),
            outcomes: String::new(),
        };
        security.subscribe().await?;
        if let Some(policies) = permits.policies() {
            security.publish(policies).await?;
        }
        Ok(Arc::new(security))
    }

    /// Queues for what Firebreak tells people and machines.
    async fn subscribe(&mut self) -> Result<()> {
        for (name, url) in [("told", &mut self.told), ("outcomes", &mut self.outcomes)] {
            let params = json!({"QueueName": name});
            let made = self.observer.call(&self.account, REGION, "sqs", "create_queue", params).await?;
            *url = made["QueueUrl"].as_str().context("a queue has no URL")?.to_owned();
        }
        let queue = |name: &str| format!("arn:aws:sqs:{REGION}:{}:{name}", self.account);
        let subscription = json!({
            "TopicArn": self.stack.output("TopicArn")?, "Protocol": "sqs", "Endpoint": queue("told"),
            "Attributes": {"RawMessageDelivery": "true"},
        });
        self.call("sns", "subscribe", subscription).await?;
        let pattern = json!({"source": [EVENT_SOURCE], "detail-type": [OUTCOME_EVENT]}).to_string();
        self.call("events", "put_rule", json!({"Name": "outcomes", "EventPattern": pattern})).await?;
        let targets = json!({"Rule": "outcomes", "Targets": [{"Id": "queue", "Arn": queue("outcomes")}]});
        self.call("events", "put_targets", targets).await.map(|_| ())
    }

    /// Calls AWS in the account with the independent client.
    pub async fn call(&self, service: &str, operation: &str, params: Value) -> Result<Value> {
        self.observer.call(&self.account, REGION, service, operation, params).await
    }

    /// Publishes a policy set and accepts its hash.
    pub async fn publish(&self, policies: &str) -> Result<()> {
        self.put_policy_object(policies).await?;
        let set = firebreak::guard::Policies::parse(policies)?;
        self.ledger()?.accept_policy(&set.sha256, "tester", Timestamp::now()).await?;
        Ok(())
    }

    /// Puts a policy set into its bucket, and no more.
    pub async fn put_policy_object(&self, policies: &str) -> Result<()> {
        let config = self.config()?;
        let (bucket, key) = config.policy_object.context("the template names no policy object")?;
        self.call("s3", "put_object", json!({"Bucket": bucket, "Key": key, "Body": policies})).await.map(|_| ())
    }

    /// The settings that the template gives the first function; all have the same.
    pub fn config(&self) -> Result<Config> {
        let function = FUNCTIONS.first().context("there is no function")?;
        Ok(Config::from_vars(&self.stack.function(function.logical)?.environment)?)
    }

    /// The security account, reached over this HTTP client with the role of a playbook's function.
    pub fn aws(&self, playbook: &Traced, http: SharedHttpClient, settings: Settings) -> Result<Aws> {
        let function = function_of(playbook)?;
        let credentials = self.functions.get(function.name).context("the function has no session")?;
        deployment::account(self.emulator, &self.account, credentials, &connection(http, settings))
    }

    /// Its ledger, without faults.
    pub fn ledger(&self) -> Result<Ledger> {
        let config = self.config()?;
        Ok(Ledger::new(self.plain.dynamodb().clone(), &config.ledger_table, &config.decisions_table))
    }

    /// A client with faults for the account.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(http(), self.functions.values().map(|held| held.access_key_id.clone()).collect())
    }

    /// Takes every message that people were told since the last call.
    pub async fn messages(&self) -> Result<Vec<String>> {
        self.take_messages(&mut *self.taken.lock().await).await
    }

    /// Whoever looks at what was taken waits for those who are taking.
    async fn take_messages(&self, taken: &mut Vec<String>) -> Result<Vec<String>> {
        let mut new = Vec::new();
        // A hundred at a time.
        loop {
            let some = self.observer.receive(&self.account, REGION, &self.told).await?;
            if some.is_empty() {
                break;
            }
            new.extend(some);
        }
        taken.extend(new.iter().cloned());
        Ok(new)
    }

    /// Every message so far that holds a text, such as a run's id.
    pub async fn told_about(&self, what: &str) -> Result<Vec<String>> {
        let mut taken = self.taken.lock().await;
        self.take_messages(&mut taken).await?;
        Ok(taken.iter().filter(|text| text.contains(what)).cloned().collect())
    }

    /// Takes every outcome event since the last call: their `detail`s.
    pub async fn outcomes(&self) -> Result<Vec<Value>> {
        let bodies = self.observer.receive(&self.account, REGION, &self.outcomes).await?;
        bodies.iter().map(|body| outcomes::detail_of(body)).collect()
    }
}

/// How many emulators stand side by side: each works on one request at a time, and a test waits for its own.
const SERVERS: usize = 3;

/// The tests of a process go round the servers: accounts on one are not on another.
async fn one_of_the_servers() -> Result<&'static Emulator> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    server(NEXT.fetch_add(1, Ordering::Relaxed) % SERVERS).await
}

/// The first is the one that all tests share.
async fn server(n: usize) -> Result<&'static Emulator> {
    static OTHERS: [tokio::sync::OnceCell<Emulator>; SERVERS - 1] =
        [const { tokio::sync::OnceCell::const_new() }; SERVERS - 1];
    match n.checked_sub(1) {
        None => Emulator::shared().await,
        Some(n) => OTHERS[n].get_or_try_init(Emulator::start).await,
    }
}

/// A connection pool belongs to the runtime that made it, and every test has a thread and a runtime of its own.
fn http() -> SharedHttpClient {
    thread_local! {
        static OF_THE_TEST: SharedHttpClient = firebreak::aws::http_client();
    }
    OF_THE_TEST.with(Clone::clone)
}

/// As the function is connected, but without waiting between two attempts.
fn connection(http: SharedHttpClient, settings: Settings) -> Connection {
    let Settings { attempts, attempt_timeout, .. } = settings;
    Connection { attempts, backoff: Duration::ZERO, attempt_timeout, http }
}

/// How a case's function is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The longest one attempt may take.
    pub attempt_timeout: Duration,
    /// Attempts of one call, the first included.
    pub attempts: u32,
    /// What is left of the function's time when an event arrives.
    pub time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { attempt_timeout: Duration::from_secs(20), attempts: 3, time: Duration::from_secs(43) }
    }
}

/// How the delivery of an event ended.
#[derive(Debug)]
pub enum Delivered {
    /// The function answered.
    Answered(Answer),
    /// The function failed: Lambda would deliver again.
    Failed(Failure),
    /// The process died.
    Died,
}

impl Delivered {
    /// The answer.
    pub fn answer(self) -> Result<Answer> {
        match self {
            Self::Answered(answer) => Ok(answer),
            Self::Failed(failure) => bail!("the function failed: {}", failure.brief()),
            Self::Died => bail!("the process died"),
        }
    }
}

/// A member account with a world, a playbook and a genuine finding about the world's victim.
pub struct Case {
    /// The security account.
    pub security: Arc<Security>,
    /// The playbook.
    pub playbook: &'static Traced,
    /// The member account.
    pub member: String,
    /// The world's ids.
    pub ids: Ids,
    /// What the finding is about.
    pub target: Target,
    /// The finding.
    pub finding: Finding,
    /// The event that reports it.
    pub event: Value,
    /// The function, as it runs now.
    pub hub: Hub,
    /// Its HTTP client.
    pub faults: Faults,
    /// How it is set up.
    pub settings: Settings,
    function: &'static str,
}

impl Case {
    /// Seeds `world` into a fresh account and reports its victim.
    pub async fn new(security: &Arc<Security>, playbook: &'static Traced, world_name: &str) -> Result<Self> {
        Self::of(security, playbook, &world(world_name)?, Settings::default()).await
    }

    /// The same with a world that is not a file, and settings.
    pub async fn of(
        security: &Arc<Security>,
        playbook: &'static Traced,
        world: &Value,
        settings: Settings,
    ) -> Result<Self> {
        let member = fresh_account();
        let ids = security.observer.seed(&member, REGION, world).await?;
        Self::about(security, playbook, member, ids, settings).await
    }

    /// A case in an account that is seeded already.
    pub async fn about(
        security: &Arc<Security>,
        playbook: &'static Traced,
        member: String,
        ids: Ids,
        settings: Settings,
    ) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        enrol(&security.observer, &security.account, &member, function_of(playbook)?).await?;
        let event = event_about(playbook, &security.account, &member, &ids, ids.get("victim")?)?;
        security.observer.put_finding(&security.account, REGION, &event["detail"]).await?;
        let finding = finding_in(&event)?;
        let target = target_of(playbook, &finding, ids.get("victim")?)?;
        // Due rows are a function's: each case has a schedule of its own.
        let function = format!("{}-{}", playbook.id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let function: &'static str = Box::leak(function.into_boxed_str());
        let faults = security.faults();
        let hub = process(security, function, playbook, &faults, settings)?;
        let security = Arc::clone(security);
        Ok(Self { security, playbook, member, ids, target, finding, event, hub, faults, settings, function })
    }

    /// A new process of the function: nothing in memory, no faults.
    pub fn restart(&mut self) -> Result<()> {
        self.faults = self.security.faults();
        self.hub = process(&self.security, self.function, self.playbook, &self.faults, self.settings)?;
        Ok(())
    }

    /// Another process of the same function, beside the first.
    pub fn another_process(&self) -> Result<(Hub, Faults)> {
        self.process_with(|_| ())
    }

    /// Another process of the same function, with other settings.
    pub fn process_with(&self, change: impl FnOnce(&mut Config)) -> Result<(Hub, Faults)> {
        let faults = self.security.faults();
        let mut config = self.security.config()?;
        change(&mut config);
        let aws = self.security.aws(self.playbook, SharedHttpClient::new(faults.clone()), self.settings)?;
        Ok((Hub::new(self.function, self.playbook.alone(), config, aws), faults))
    }

    /// An event that another process of the same function answers, some time: what comes in between.
    pub fn elsewhere(&self, event: &Value) -> Result<Boxed<'static, Result<Answer>>> {
        let (hub, _) = self.another_process()?;
        let (bytes, time) = (event.to_string().into_bytes(), self.settings.time);
        Ok(Box::pin(async move {
            let answered = hub.receive(&bytes, Instant::now() + time).await;
            answered.map_err(|failure| anyhow!("another process failed: {}", failure.brief()))
        }))
    }

    /// The lease of the case's runs ends and another process goes on with them, some time: while the first one is slow.
    pub fn overtaking(&self) -> Result<Boxed<'static, Result<()>>> {
        let goes_on = self.elsewhere(&schedule_event())?;
        let (security, function) = (Arc::clone(&self.security), self.function);
        let table = self.hub.config.ledger_table.clone();
        Ok(Box::pin(async move {
            security.observer.time_passes(&security.account, REGION, &table, Some(function)).await?;
            goes_on.await.map(|_| ())
        }))
    }

    /// The whole function that the playbook belongs to, with its settings changed.
    pub fn whole_function(&self, change: impl FnOnce(&mut Config)) -> Result<Hub> {
        let function = function_of(self.playbook)?;
        let mut config = self.security.config()?;
        change(&mut config);
        let aws = self.security.aws(self.playbook, SharedHttpClient::new(self.security.faults()), self.settings)?;
        Ok(Hub::new(function.name, function.playbooks, config, aws))
    }

    /// Delivers bytes to the function.
    pub async fn deliver_bytes(&self, bytes: &[u8]) -> Delivered {
        tokio::select! {
            answered = self.hub.receive(bytes, Instant::now() + self.settings.time) => match answered {
                Ok(answer) => Delivered::Answered(answer),
                Err(failure) => Delivered::Failed(failure),
            },
            () = self.faults.died() => Delivered::Died,
        }
    }

    /// Delivers an event to the function.
    pub async fn deliver_event(&self, event: &Value) -> Delivered {
        self.deliver_bytes(event.to_string().as_bytes()).await
    }

    /// Delivers the finding's event.
    pub async fn deliver(&self) -> Delivered {
        self.deliver_event(&self.event).await
    }

    /// Delivers the schedule's event.
    pub async fn tick(&self) -> Delivered {
        self.deliver_event(&schedule_event()).await
    }

    /// Lets time pass and the schedule work until nothing is due any more. Answers with how often it worked.
    pub async fn settle(&self) -> Result<usize> {
        for round in 0..8 {
            if self.let_time_pass().await? == 0 {
                return Ok(round);
            }
            match self.tick().await {
                Delivered::Answered(_) => {}
                Delivered::Failed(failure) => bail!("the schedule failed: {}", failure.brief()),
                Delivered::Died => return Ok(round + 1),
            }
        }
        bail!("after eight minutes something is still due: {:?}", self.due().await?)
    }

    /// What is due, now or later: sort keys.
    pub async fn due(&self) -> Result<Vec<String>> {
        let params = json!({
            "TableName": self.hub.config.ledger_table, "ConsistentRead": true,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": format!("DUE#{}", self.function)}},
        });
        let found = self.security.call("dynamodb", "query", params).await?;
        let key = |row: &Value| row["sk"]["S"].as_str().map(str::to_owned);
        Ok(list(&found["Items"]).filter_map(key).collect())
    }

    /// Makes everything due now, as if its time had come: due rows and leases. Answers with how many rows there are.
    pub async fn let_time_pass(&self) -> Result<usize> {
        let (security, table) = (&self.security, &self.hub.config.ledger_table);
        let due = security.observer.time_passes(&security.account, REGION, table, Some(self.function)).await?;
        Ok(due.len())
    }

    /// The target's run, as the ledger has it.
    pub async fn run(&self) -> Result<Option<Run>> {
        let key = format!("HOLD#{}#{}", self.playbook.meta().hold, self.target);
        let params = json!({
            "TableName": self.hub.config.ledger_table, "ConsistentRead": true,
            "Key": {"pk": {"S": key}, "sk": {"S": "HOLD"}},
        });
        let hold = self.security.call("dynamodb", "get_item", params).await?;
        match hold["Item"]["run"]["S"].as_str() {
            None => Ok(None),
            Some(run) => Ok(self.security.ledger()?.run(&run.parse()?).await?),
        }
    }

    /// The target's run, which must be there.
    pub async fn the_run(&self) -> Result<Run> {
        self.run().await?.context("there is no run")
    }

    /// Decides about the run, as a person's command does. The event is what the function gets of it.
    pub async fn decision(&self, verb: Verb) -> Result<Value> {
        self.decision_with(verb, |_| ()).await
    }

    /// The same with a decision that is not quite as the command makes it.
    pub async fn decision_with(&self, verb: Verb, change: impl FnOnce(&mut Decision)) -> Result<Value> {
        let mut decision = Decision::new(&self.the_run().await?, verb, "tester", Timestamp::now());
        change(&mut decision);
        self.security.ledger()?.decide(&decision).await?;
        Ok(json!({
            "source": EVENT_SOURCE, "detail-type": DECISION_EVENT, "account": self.security.account,
            "detail": {"id": decision.id},
        }))
    }

    /// Decides about the run and delivers the decision's event.
    pub async fn decide(&self, verb: Verb) -> Result<Delivered> {
        let event = self.decision(verb).await?;
        Ok(self.deliver_event(&event).await)
    }

    /// Calls AWS in the member account with the independent client.
    pub async fn call(&self, service: &str, operation: &str, params: Value) -> Result<Value> {
        self.security.observer.call(&self.member, REGION, service, operation, params).await
    }

    /// Another finding about a resource of the account, which GuardDuty has: its event.
    pub async fn report(&self, id: &str) -> Result<Value> {
        let event = event_about(self.playbook, &self.security.account, &self.member, &self.ids, id)?;
        self.security.observer.put_finding(&self.security.account, REGION, &event["detail"]).await?;
        Ok(event)
    }

    /// What a rule of AWS Config has found about the target: its event. The rule is put into the account under this name,
    /// one of AWS's own by its identifier.
    pub async fn found_by_config(&self, name: &str, identifier: &str) -> Result<Value> {
        // Config takes a rule of this kind with its parameters alone.
        let parameters = match identifier {
            "ACCESS_KEYS_ROTATED" => json!({"maxAccessKeyAge": "90"}),
            "IAM_USER_UNUSED_CREDENTIALS_CHECK" => json!({"maxCredentialUsageAge": "90"}),
            _ => json!({}),
        };
        let rule = json!({
            "ConfigRuleName": name, "Source": {"Owner": "AWS", "SourceIdentifier": identifier},
            "InputParameters": parameters.to_string(),
        });
        self.call("config", "put_config_rule", json!({"ConfigRule": rule})).await?;
        let found = self.call("config", "describe_config_rules", json!({"ConfigRuleNames": [name]})).await?;
        let arn = found["ConfigRules"][0]["ConfigRuleArn"].clone();
        let (kind, resource) = self.as_config_names();
        Ok(json!({
            "version": "0", "source": "aws.config", "detail-type": "Config Rules Compliance Change", "account": self.member,
            "region": REGION, "resources": [], "detail": {
                "awsAccountId": self.member, "awsRegion": REGION, "configRuleName": name, "configRuleARN": arn,
                "messageType": "ComplianceChangeNotification", "resourceType": kind, "resourceId": resource,
                "newEvaluationResult": {"complianceType": "NON_COMPLIANT", "resultRecordedTime": Timestamp::now().to_string()},
            },
        }))
    }

    /// What a rule of AWS Config names that has found something about the target: its kind and id.
    #[must_use]
    pub fn as_config_names(&self) -> (&'static str, &str) {
        if self.playbook.looks_up(&self.finding) {
            return ("AWS::::Account", &self.member);
        }
        let kind = match self.target.kind {
            TargetKind::Ec2Instance => "AWS::EC2::Instance",
            TargetKind::IamUser => "AWS::IAM::User",
            TargetKind::IamRole | TargetKind::IamRoleSession => "AWS::IAM::Role",
            TargetKind::Ec2SecurityGroup => "AWS::EC2::SecurityGroup",
            TargetKind::S3Bucket => "AWS::S3::Bucket",
            TargetKind::Ec2Snapshot => "AWS::EC2::Snapshot",
            TargetKind::RdsSnapshot => "AWS::RDS::DBSnapshot",
            TargetKind::RdsClusterSnapshot => "AWS::RDS::DBClusterSnapshot",
            TargetKind::CloudTrailTrail => "AWS::CloudTrail::Trail",
        };
        let id = self.target.id.as_str();
        (kind, if self.target.kind.is_identity() { id.split(':').next().unwrap_or_default() } else { id })
    }

    /// The member account as the independent client sees it.
    pub async fn state(&self) -> Result<Value> {
        self.security.observer.state(&self.member, REGION).await
    }

    /// A session that can only read, of a run that is or is not.
    pub async fn reading(&self, run: &RunId) -> Result<Aws> {
        Ok(self.engine().reading(run, &self.target.account, self.target.region.as_ref()).await?)
    }

    /// An engine over the function's parts.
    #[must_use]
    pub fn engine(&self) -> Engine<'_> {
        Engine {
            hub: &self.hub.aws,
            ledger: &self.hub.ledger,
            playbook: self.playbook,
            deadline: Instant::now() + self.settings.time,
            snapshot_lock_days: self.hub.config.snapshot_lock_days,
            recheck: false,
        }
    }

    /// The groups that the ledger knows.
    pub async fn groups(&self) -> Result<Vec<KnownGroup>> {
        Ok(self.security.ledger()?.groups(&self.target.account, self.target.region.as_ref()).await?)
    }

    /// Plans, as the loop would before a run.
    pub async fn plan(&self) -> Result<Planned> {
        let (reading, groups) = (self.reading(&RunId::new()).await?, self.groups().await?);
        let cx = PlanContext {
            aws: &reading,
            groups: &groups,
            run: None,
            snapshots: BTreeMap::new(),
            hurried: false,
            snapshot_lock_days: self.hub.config.snapshot_lock_days,
            recheck: false,
        };
        Ok(self.playbook.plan(&cx, &self.target, &self.finding).await?)
    }

    /// Plans, and must find something to do.
    pub async fn the_plan(&self) -> Result<Plan> {
        match self.plan().await? {
            Planned::Plan(plan) => Ok(plan),
            Planned::Gone(why) | Planned::Refused(why) => bail!("there is no plan: {why}"),
        }
    }
}

/// The schedule's event.
fn schedule_event() -> Value {
    json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
}

fn function_of(playbook: &Traced) -> Result<&'static Function> {
    let found = playbooks().iter().find(|(_, one)| one.id() == playbook.id());
    found.map(|(function, _)| *function).context("no function has the playbook")
}

fn process(
    security: &Arc<Security>,
    function: &'static str,
    playbook: &'static Traced,
    faults: &Faults,
    settings: Settings,
) -> Result<Hub> {
    let aws = security.aws(playbook, SharedHttpClient::new(faults.clone()), settings)?;
    Ok(Hub::new(function, playbook.alone(), security.config()?, aws))
}

/// Runs a future to its end in a thread of its own: an unoptimised run of the loop needs more stack than a test has.
///
/// # Panics
/// When the future does.
#[expect(clippy::panic, reason = "a test's harness fails the test")]
pub fn run_to_end<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) {
    const STACK: usize = 64 * 1024 * 1024;
    let runs = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(make()),
        Err(error) => std::panic::panic_any(format!("no runtime: {error}")),
    };
    match std::thread::Builder::new().stack_size(STACK).spawn(runs).map(std::thread::JoinHandle::join) {
        Ok(Ok(())) => {}
        // The test's own message was printed; this lets the test fail with it.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => std::panic::panic_any(format!("no thread: {error}")),
    }
}

/// The finding that an event reports.
pub fn finding_in(event: &Value) -> Result<Finding> {
    let mut reported = firebreak::finding::parse(event).map_err(|error| anyhow!("{error}"))?;
    let first = reported.findings.pop().context("the event reports nothing")?;
    first.map_err(|error| anyhow!("{error}"))
}

/// An event of `events/` that a playbook answers about one target, made to be about the resource `id` in `member`. What
/// the world calls it says what else a finding tells of somebody: the name, the key.
pub fn event_about(playbook: &dyn Playbook, hub: &str, member: &str, ids: &Ids, id: &str) -> Result<Value> {
    let (mut text, about) = example(playbook, ids.kind())?;
    let new_id = RunId::new().to_string().to_lowercase();
    let symbol = ids.name_of(id).unwrap_or_default();
    let known = |what: &str| ids.get(&format!("{symbol}.{what}")).unwrap_or_default();
    // A name may be a word of the prose: only where it stands alone it is the name.
    let alone = |name: &str| if name.is_empty() { String::new() } else { format!("\"{name}\"") };
    for (old, new) in [
        (about.finding.as_str(), new_id.as_str()),
        (about.id.as_str(), id),
        (&alone(&about.name), &alone(known("name"))),
        (&about.key, known("key")),
        (about.account.as_str(), member),
        ("111111111111", hub),
        (about.region.as_ref().map_or("", Region::as_str), REGION),
    ] {
        if !old.is_empty() && !new.is_empty() {
            text = text.replace(old, new);
        }
    }
    serde_json::from_str(&text).context("an event is not JSON any more")
}

/// The kind of target that a playbook acts on in the events here.
pub fn kind_of_target(playbook: &dyn Playbook) -> Result<TargetKind> {
    Ok(example(playbook, None)?.1.kind)
}

/// The target of a finding that names it, or that stands for what is looked up in the account.
pub fn target_of(playbook: &dyn Playbook, finding: &Finding, id: &str) -> Result<Target> {
    if !playbook.looks_up(finding) {
        return playbook.targets(finding).into_iter().next().context("the finding has no target");
    }
    let kind = kind_of_target(playbook)?;
    let region = if kind.is_identity() { "global" } else { REGION };
    Ok(format!("{}/{}/{region}/{}/{id}", finding.partition, finding.account, kind.as_str()).parse()?)
}

#[derive(Clone)]
struct Example {
    kind: TargetKind,
    id: String,
    name: String,
    key: String,
    account: AccountId,
    region: Option<Region>,
    finding: String,
}

/// The first event of `events/` with an envelope that a playbook answers about exactly one target, or about what it looks
/// up: of this kind, where there is one.
fn example(playbook: &dyn Playbook, kind: Option<TargetKind>) -> Result<(String, Example)> {
    static KNOWN: Mutex<BTreeMap<&'static str, Vec<(String, Example)>>> = Mutex::new(BTreeMap::new());
    let id = playbook.meta().id;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if !known.contains_key(id) {
        known.insert(id, examples(playbook)?);
    }
    let found = known.get(id).map(Vec::as_slice).unwrap_or_default();
    let of_kind = found.iter().find(|(_, about)| kind == Some(about.kind));
    let first = of_kind.or(found.first());
    first.cloned().with_context(|| format!("no event in events/ is answered by {id} about one target"))
}

/// One of each kind.
fn examples(playbook: &dyn Playbook) -> Result<Vec<(String, Example)>> {
    let mut found: Vec<(String, Example)> = Vec::new();
    for path in events()? {
        let text = std::fs::read_to_string(&path)?;
        let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
        if event["detail"].is_null() || event["region"].as_str().is_none_or(|region| region != REGION) {
            continue;
        }
        let Ok(finding) = finding_in(&event) else { continue };
        // What Config says is asked of Config, which has no finding to be put in.
        if finding.source == Source::Config {
            continue;
        }
        if firebreak::screen::screen(&finding, None, None).is_some() {
            continue;
        }
        if playbook.looks_up(&finding) {
            let kind = *playbook.meta().kinds.first().context("it acts on nothing")?;
            let about = Example {
                kind,
                id: String::new(),
                name: String::new(),
                key: String::new(),
                account: finding.account.clone(),
                region: Some(finding.region.clone()),
                finding: finding.id.to_string(),
            };
            found.push((text, about));
            continue;
        }
        if let [target] = playbook.targets(&finding).as_slice()
            && finding.identities.len() <= 1
        {
            let whose = finding.identities.first().filter(|_| target.kind.is_identity());
            // A session's key is nobody's in IAM.
            let key = whose.and_then(|whose| whose.access_key.as_ref()).filter(|key| key.is_long_term());
            let about = Example {
                kind: target.kind,
                id: target.id.clone(),
                name: whose.and_then(|whose| whose.user_name.clone()).unwrap_or_default(),
                key: key.map(ToString::to_string).unwrap_or_default(),
                account: target.account.clone(),
                region: target.region.clone(),
                finding: finding.id.to_string(),
            };
            found.push((text, about));
        }
    }
    let mut kinds = BTreeSet::new();
    found.retain(|(_, about)| kinds.insert(about.kind));
    Ok(found)
}

/// The worlds of `tests/worlds/` in which a playbook has a target, sorted.
pub fn worlds_of(playbook: &dyn Playbook) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in worlds()? {
        if playbook.meta().kinds.contains(&kind_of_victim(&world(&name)?)?) {
            names.push(name);
        }
    }
    ensure!(!names.is_empty(), "no world in tests/worlds/ has a target of {}", playbook.meta().id);
    Ok(names)
}

/// Every event of `events/`, sorted; not the malformed ones.
pub fn events() -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for source in std::fs::read_dir(workspace().join("events"))? {
        let source = source?.path();
        if !source.is_dir() || source.ends_with("malformed") {
            continue;
        }
        for entry in std::fs::read_dir(source)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    Ok(paths)
}
