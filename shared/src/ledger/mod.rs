//! The ledger: holds, runs with their journal, budgets and due rows, in one DynamoDB table.
//!
//! | partition key | sort key | what |
//! |---|---|---|
//! | `HOLD#<word>#<target>` | `HOLD` | which run has the target, and how it stands |
//! | `HOLD#<word>#<target>` | `JOINED#<finding>` | findings that came while it was held |
//! | `RUN#<run>` | `RUN` | the run: finding, plan with every before-state, journal, epoch and lease |
//! | `BUDGET` | `<playbook>#<account or all>#<hour>` | runs begun in that hour |
//! | `BUDGET` | `told#<account or all>#<kind>#<hour>` | how many messages of a kind people got in that hour |
//! | `DUE#<function>` | `<time>#<what>#<run>` | work that waits for its time |
//! | `GROUPS#<account>#<region>` | `<vpc>#<purpose>#<group>` | security groups of ours: the proof that they are |
//! | `USED#<decision>` | `USED` | that a decision was used, and when |
//! | `USED#<drill>` | `<function>` | the same of a drill |
//! | `ACCOUNT#<account>` | `UNITS` | where the account stands in the organization, and when that was read |
//! | `POLICY` | `ACCEPTED` | the hash of the accepted policy set |
//! | `TOLD#<finding>` | `<playbook>#<outcome>` | that people were told this of a finding that began no run |
//! | `TOLD#unreadable` | `<function>` | when people were last told of an event that could not be read |
//!
//! Every write of a run carries its epoch: a function that lost its lease can write no more. The epoch
//! guards the ledger only; AWS calls cannot be fenced, so the remaining lease is looked at before each.

mod budget;
pub mod decisions;
pub(crate) mod items;
mod stop;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use jiff::{SignedDuration, Timestamp};

use crate::action::KnownGroup;
use crate::drill::{Drill, Drills};
use crate::failure::{Class, Failure};
use crate::finding::{Finding, Source};
use crate::ids::{AccountId, FindingId, InvalidId, Region, RunId};
use crate::plan::{Stage, StepId};
use crate::playbook::Meta;
use crate::run::{Outcome, PROPOSAL_STANDS, PastEnd, Run, RunEnd, RunHead, RunState, StepRecord, UndoRecord};
use crate::target::Target;
use crate::units::Units;
pub use budget::Budget;
pub(crate) use budget::hour;
use items::{Item, json, n, read_run, s, tenths, text};
pub use stop::{STOP, STOPPED, Stopped};

/// The most earlier ends that a run's row holds.
const MOST_PAST: usize = 50;

/// How long a run is one hand's: longer than the function's 45 s time-out, shorter than the minute after
/// which Lambda first retries an asynchronous event.
pub const LEASE: Duration = Duration::from_secs(50);

/// Runs are kept in the ledger this long after they are recorded; the evidence bucket keeps them longer.
const KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// Two transactions that met wait a few of these before the next attempt.
const MEETING_PAUSE: Duration = Duration::from_millis(15);

/// People are told of one unreadable event in this time: whoever can send events could else page without end.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(3600);

/// The key of what was told of them.
const TOLD_UNREADABLE: &str = "TOLD#unreadable";

/// The most due rows that one schedule reads. Rows whose work fails stay; they must not hide the ones behind them.
const MOST_DUE: usize = 1000;
/// Where an account stands is forgotten after this long without a finding about it.
const UNITS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The runs of one state are looked for among so many at once, so often: whoever wants more goes on from there.
const MOST_FILTERED: usize = 100;
const MOST_PAGES: usize = 20;

/// The most results in one write of the journal. DynamoDB takes an update expression of 4 KB ("Service, account, and
/// table quotas", expression parameters) and 255 bytes for the name of each step.
const MOST_RESULTS: usize = 50;

/// People are told once more of a proposal this long before it lapses.
const LAST_REMINDER: SignedDuration = SignedDuration::from_hours(24);

/// So many proposals are looked at for the oldest that is still open; those that were decided lose their rows by it.
const MOST_LOOKED_AT: usize = 20;

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
    decisions: String,
}

/// What the ledger knows about a target before a run.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The hold, if there is one.
    pub hold: Option<Hold>,
    /// Groups of ours in the target's account and Region.
    pub groups: Vec<KnownGroup>,
    /// Runs begun this hour in the account by this playbook.
    pub spent_account: u64,
    /// Runs begun this hour in all accounts by this playbook.
    pub spent_total: u64,
    /// The hash of the accepted policy set, when one was published.
    pub accepted_policy: Option<String>,
    /// Where the account stood in the organization when that was last read.
    pub units: Option<KnownUnits>,
    /// Whether everything is stopped.
    pub stopped: Option<Stopped>,
    /// The hour of which it knows what was spent.
    hour: String,
}

/// Where an account stood in the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUnits {
    /// Where.
    pub units: Units,
    /// When that was read.
    pub read_at: Timestamp,
}

/// A hold: a target, the run that has it, and how that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// The run.
    pub run: RunId,
    /// How it stands.
    pub state: RunState,
    /// The finding that began it.
    pub finding: FindingId,
    /// The plan's hash.
    pub plan_hash: Option<String>,
    /// How the run's steps ended, if they have.
    pub outcome: Option<Outcome>,
    /// When a person let the target go, if nobody has said since that it is to be contained.
    pub released_at: Option<Timestamp>,
    /// The findings whose proposals a person rejected, by their keys on the hold, with their severity then.
    rejected: BTreeMap<String, f64>,
}

impl Hold {
    /// Whether a person rejected what was proposed for a finding that was no less grave than it is now.
    pub fn was_rejected(&self, finding: &Finding) -> bool {
        self.rejected.get(&joined_key(finding)).is_some_and(|severity| finding.severity <= *severity)
    }
}

/// A finding that came while its target was held.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The finding.
    pub finding: Finding,
    /// When it came last, in milliseconds since 1970.
    at: u64,
}

/// Which runs are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Which {
    /// Those in this state only.
    pub state: Option<RunState>,
    /// Those whose finding is at least so severe, or of a version that did not write that down.
    pub severity: Option<f64>,
}

/// A place in the list of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlace {
    /// When the run's finding arrived.
    pub arrived_at: Timestamp,
    /// The run.
    pub run: RunId,
}

impl std::fmt::Display for RunPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}", self.arrived_at, self.run)
    }
}

impl std::str::FromStr for RunPlace {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { kind: "place in the list of runs", value: text.to_owned() };
        let (at, run) = text.split_once('~').ok_or_else(invalid)?;
        Ok(Self { arrived_at: at.parse().map_err(|_| invalid())?, run: run.parse()? })
    }
}

/// How a claim ended.
#[derive(Debug)]
pub enum Claim {
    /// The target is ours.
    Won(Box<Run>),
    /// Another has it, or it moved meanwhile; the hold as it is now.
    Lost(Option<Hold>),
    /// A budget is spent.
    OverBudget(String),
}

/// Something that is told, or answered, once in a while, however often it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it is about: a finding or a target.
    pub about: String,
    /// What is told of it.
    pub what: String,
    /// For how long it is not told again.
    pub remembered: Duration,
}

/// The ways that a report goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// A record in the evidence bucket.
    Evidence,
    /// The outcome event.
    Event,
    /// The message to people.
    Message,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 3] = [Self::Evidence, Self::Event, Self::Message];

    fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Event => "event",
            Self::Message => "message",
        }
    }
}

/// The channels by which a report is still to go.
pub type Channels = BTreeSet<Channel>;

/// Work that waits for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The sort key: what to delete when it is done.
    pub key: String,
    /// What.
    pub what: DueKind,
    /// For which run.
    pub run: RunId,
    /// By which channels a report is still to go.
    pub left: Channels,
    /// How often that was tried before.
    pub attempts: u32,
    /// When the row was written, in milliseconds since 1970.
    pub(crate) written: u64,
    /// The account of the run's target; empty in rows that an older version wrote.
    pub account: String,
    /// The severity of the run's finding, in tenths; zero in rows that an older version wrote.
    pub severity: u64,
}

impl Due {
    /// When it fell due.
    pub fn at(&self) -> Option<Timestamp> {
        let (millis, _) = self.key.split_once('#')?;
        Timestamp::from_millisecond(millis.parse().ok()?).ok()
    }
}

/// The kinds of waiting work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DueKind {
    /// The lease has ended: if the run is unfinished, take it over.
    Lease,
    /// Try again what failed.
    Retry,
    /// The report was not known to be delivered: deliver it.
    Report,
    /// Look whether the evidence is complete.
    Evidence,
    /// The hold's time is over: ask whether to undo.
    HoldEnds,
    /// The run ended before it changed anything: the findings that joined it are answered.
    Joined,
    /// Look whether what was done still holds, and for what shows only later.
    Recheck,
    /// Write back into Security Hub what became of the finding.
    WriteBack,
    /// The proposal lapses soon: if nobody has decided, people are told once more.
    ProposalEnds,
}

impl DueKind {
    const ALL: [Self; 9] = [
        Self::Lease,
        Self::Retry,
        Self::Report,
        Self::Evidence,
        Self::HoldEnds,
        Self::Joined,
        Self::Recheck,
        Self::WriteBack,
        Self::ProposalEnds,
    ];

    /// What is taken up first.
    fn rank(self) -> u8 {
        match self {
            Self::Lease => 0,
            Self::Retry | Self::Joined => 1,
            Self::WriteBack => 3,
            Self::Report | Self::Evidence | Self::HoldEnds | Self::Recheck | Self::ProposalEnds => 2,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Retry => "retry",
            Self::Report => "report",
            Self::Evidence => "evidence",
            Self::HoldEnds => "hold-ends",
            Self::Joined => "joined",
            Self::Recheck => "recheck",
            Self::WriteBack => "write-back",
            Self::ProposalEnds => "proposal-ends",
        }
    }
}

/// A due row to be written.
#[derive(Debug, Clone, Copy)]
pub struct DueAt {
    /// What.
    pub what: DueKind,
    /// When.
    pub at: Timestamp,
}

/// How the sort key of a request ends.
const REQUEST: &str = "#request";

/// A request and the finding that was asked about are kept beside each other: what somebody asks for is only proposed,
/// and must not stand in the place of what its source reported.
fn joined_key(finding: &Finding) -> String {
    let request = if finding.request.is_some() { REQUEST } else { "" };
    format!("JOINED#{}{request}", finding.id)
}

fn hold_key(word: &str, target: &Target) -> String {
    format!("HOLD#{word}#{target}")
}

fn account_key(account: &AccountId) -> String {
    format!("ACCOUNT#{account}")
}

fn run_key(run: &RunId) -> String {
    format!("RUN#{run}")
}

/// Whether two due rows are one.
fn same_row(a: DueAt, b: DueAt) -> bool {
    a.what == b.what && a.at.as_millisecond() == b.at.as_millisecond()
}

/// A wait, longer by up to half of it and not by the same for every run: what failed together is not tried again together.
pub(crate) fn apart(wait: Duration, run: &RunId) -> Duration {
    // The end of a run's id is random.
    let spread = run.as_str().bytes().rev().take(4).fold(0_u32, |sum, byte| sum * 31 + u32::from(byte)) % 1000;
    wait + wait * spread / 2000
}

fn due_sort(at: Timestamp, what: DueKind, run: &RunId) -> String {
    // Milliseconds padded to 15 digits sort as text until the year 33658.
    format!("{:015}#{}#{run}", at.as_millisecond(), what.as_str())
}

impl Ledger {
    /// The ledger in `table`, decisions in `decisions`.
    pub fn new(client: Client, table: impl Into<String>, decisions: impl Into<String>) -> Self {
        Self { client, table: table.into(), decisions: decisions.into() }
    }

    /// All that is needed before a run of a playbook, in one round.
    pub async fn view(&self, meta: &Meta, target: &Target, now: Timestamp) -> Result<View, Failure> {
        let hold = hold_key(meta.hold, target);
        let account = account_key(&target.account);
        let (hold, (spent_account, spent_total), policy, units, groups, stopped) = tokio::try_join!(
            self.get(&hold, "HOLD"),
            self.spent(meta.id, &target.account, now),
            self.get("POLICY", "ACCEPTED"),
            self.get(&account, "UNITS"),
            self.groups(&target.account, target.region.as_ref()),
            self.stopped(),
        )?;
        Ok(View {
            hold: hold.as_ref().map(items::read_hold).transpose()?,
            groups,
            spent_account,
            spent_total,
            hour: hour(now),
            accepted_policy: policy.as_ref().and_then(|item| text(item, "sha256")),
            units: units.as_ref().and_then(items::read_units),
            stopped,
        })
    }

    /// Records where an account stands in the organization.
    pub async fn record_units(&self, account: &AccountId, units: &Units, now: Timestamp) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", s(account_key(account)))
            .item("sk", s("UNITS"))
            .item("units", json(units))
            .item("read_at", n(now.as_millisecond()))
            .item("expires_at", n((now + UNITS_KEPT).as_second()))
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("record the organizational unit of", account))
    }

    /// The groups of ours in an account and Region, those recorded first before the others.
    pub async fn groups(&self, account: &AccountId, region: Option<&Region>) -> Result<Vec<KnownGroup>, Failure> {
        let Some(region) = region else { return Ok(Vec::new()) };
        let pk = format!("GROUPS#{account}#{region}");
        let items = self.query(&pk, None).await?;
        Ok(items::read_groups(&items))
    }

    /// Records a group of ours, once. What was recorded before stays, even where AWS does not show it any more: what
    /// was just made is not shown at once, and who has an interface in it must know it as ours.
    pub async fn record_group(
        &self,
        account: &AccountId,
        region: &Region,
        group: &KnownGroup,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", s(format!("GROUPS#{account}#{region}")))
            .item("sk", s(items::group_sort(group)))
            .item("at", n(now.as_millisecond()))
            .condition_expression("attribute_not_exists(pk)");
        if let Some(run) = &group.run {
            put = put.item("run", s(run.as_str()));
        }
        match put.send().await.map_err(Failure::from_sdk("record security group", &group.id)) {
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Takes the target for a run that acts: hold, budgets as far as the finding may spend them, run with its journal and due row, in one
    /// transaction. `seen` is the hold as it was when the run was planned; if it moved, the claim is lost. `earlier`
    /// is the finding of a run that had the target, to be known to the hold.
    pub async fn claim(
        &self,
        head: &RunHead,
        seen: Option<&Hold>,
        earlier: Option<&Finding>,
        budget: Budget,
        now: Timestamp,
    ) -> Result<Claim, Failure> {
        let run = self.new_run(head, RunState::Applying, now);
        let lease = DueAt { what: DueKind::Lease, at: run.lease_until };
        let mut writes = vec![self.put_hold(head, seen, RunState::Applying)];
        writes.extend(self.spend(head, budget.for_finding(&head.finding), now));
        writes.push(self.put_run(&run, now));
        writes.push(self.put_due(head, lease));
        writes.extend(self.supersede(seen));
        writes.extend(earlier.map(|finding| self.put_joined(head.holds_as(), &head.target, finding, now)));
        self.settle_claim(run, Some(budget), writes).await
    }

    fn put_joined(&self, hold: &str, target: &Target, finding: &Finding, now: Timestamp) -> TransactWriteItem {
        items::write_put(
            Put::builder()
                .table_name(&self.table)
                .item("pk", s(hold_key(hold, target)))
                .item("sk", s(joined_key(finding)))
                .item("joined_at", n(now.as_millisecond()))
                .item("finding", json(finding)),
        )
    }

    /// Records a run that does not act: proposed or observed. A proposal's message is due at `told_by` unless
    /// it has arrived by then.
    pub async fn record(
        &self,
        head: &RunHead,
        seen: Option<&Hold>,
        earlier: Option<&Finding>,
        state: RunState,
        told_by: DueAt,
        now: Timestamp,
    ) -> Result<Claim, Failure> {
        let earlier = earlier.map(|finding| self.put_joined(head.holds_as(), &head.target, finding, now));
        self.record_with(head, seen, state, told_by, now, earlier.into_iter().collect()).await
    }

    async fn record_with(
        &self,
        head: &RunHead,
        seen: Option<&Hold>,
        state: RunState,
        told_by: DueAt,
        now: Timestamp,
        besides: Vec<TransactWriteItem>,
    ) -> Result<Claim, Failure> {
        let run = self.new_run(head, state, now);
        let mut writes = vec![self.put_hold(head, seen, state), self.put_run(&run, now)];
        writes.extend(self.supersede(seen));
        if state == RunState::Proposed || head.stopped {
            // Nobody is asked until a message has arrived: the schedule sees to it.
            writes.push(self.put_due(head, told_by));
        }
        if state == RunState::Proposed {
            let at = head.arrived_at + (PROPOSAL_STANDS - LAST_REMINDER);
            writes.push(self.put_due(head, DueAt { what: DueKind::ProposalEnds, at }));
        }
        writes.extend(besides);
        self.settle_claim(run, None, writes).await
    }

    /// Writes all or nothing. A transaction that meets another one on a row (the hour's budget is one row
    /// for all) is cancelled without any condition having failed, and the SDK does not try it again: we do.
    async fn transact(
        &self,
        writes: Vec<TransactWriteItem>,
    ) -> Result<(), SdkError<TransactWriteItemsError, HttpResponse>> {
        const ATTEMPTS: usize = 6;
        let mut pause = tokio::time::interval(MEETING_PAUSE);
        pause.tick().await;
        let mut attempt = 1;
        loop {
            let sent = self.client.transact_write_items().set_transact_items(Some(writes.clone())).send().await;
            match sent {
                Err(error) if attempt < ATTEMPTS && met_another(&error) => {
                    // A longer wait each time, and not the same one for everybody.
                    for _ in 0..attempt + usize::try_from(Timestamp::now().subsec_nanosecond() % 3).unwrap_or(0) {
                        pause.tick().await;
                    }
                    attempt += 1;
                }
                other => return other.map(|_| ()),
            }
        }
    }

    async fn settle_claim(
        &self,
        run: Run,
        budget: Option<Budget>,
        writes: Vec<TransactWriteItem>,
    ) -> Result<Claim, Failure> {
        let result = self.transact(writes).await;
        let error = match result {
            Ok(()) => return Ok(Claim::Won(Box::new(run))),
            Err(error) => error,
        };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() {
            let reasons = cancelled.cancellation_reasons();
            let failed = |n: usize| reasons.get(n).and_then(|r| r.code()) == Some("ConditionalCheckFailed");
            if failed(0) {
                let now = reasons.first().and_then(|r| r.item()).map(items::read_hold).transpose()?;
                return Ok(Claim::Lost(now));
            }
            if let Some(budget) = budget.filter(|_| failed(1)) {
                return Ok(Claim::OverBudget(budget.in_account(&run.head.finding, &run.head.target.account)));
            }
            if let Some(budget) = budget.filter(|_| failed(2)) {
                return Ok(Claim::OverBudget(budget.in_all(&run.head.finding)));
            }
            // A transaction that meets another one is cancelled too: worth another attempt.
            return Err(Failure::new(Class::Transient, "claim", run.head.target.to_string()).because(error));
        }
        Err(Failure::from_sdk("claim", &run.head.target)(error))
    }

    fn new_run(&self, head: &RunHead, state: RunState, now: Timestamp) -> Run {
        Run {
            head: head.clone(),
            state,
            epoch: 1,
            lease_until: now + LEASE,
            added: Vec::new(),
            steps: Default::default(),
            undone: Default::default(),
            earlier: Default::default(),
            end: None,
            past: Vec::new(),
            tries: 0,
            interruptions: 0,
            approved_at: None,
            held_at: None,
            reapplied: 0,
            released_at: None,
            decided: None,
            hold: None,
            latest: None,
            seen_again: Vec::new(),
        }
    }

    fn put_hold(&self, head: &RunHead, seen: Option<&Hold>, state: RunState) -> TransactWriteItem {
        // What people have said of the target stays, whichever run has it.
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(hold_key(head.holds_as(), &head.target)))
            .key("sk", s("HOLD"))
            .update_expression(
                "SET run = :run, #state = :state, finding = :finding, plan_hash = :hash, \
                 rejected = if_not_exists(rejected, :none) REMOVE outcome",
            )
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":run", s(head.id.as_str()))
            .expression_attribute_values(":state", s(state.as_str()))
            .expression_attribute_values(":finding", s(head.finding.id.as_str()))
            .expression_attribute_values(":hash", s(&head.plan_hash))
            .expression_attribute_values(":none", AttributeValue::M(HashMap::new()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = match seen {
            None => update.condition_expression("attribute_not_exists(pk)"),
            Some(hold) => update
                .condition_expression("run = :seen_run AND #state = :seen_state")
                .expression_attribute_values(":seen_run", s(hold.run.as_str()))
                .expression_attribute_values(":seen_state", s(hold.state.as_str())),
        };
        items::write_update(update)
    }

    /// A proposal whose target another run takes can no longer be approved, and says so.
    fn supersede(&self, seen: Option<&Hold>) -> Option<TransactWriteItem> {
        let hold = seen.filter(|hold| hold.state == RunState::Proposed)?;
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(run_key(&hold.run)))
            .key("sk", s("RUN"))
            .update_expression("SET #state = :superseded")
            .condition_expression("#state = :proposed")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":superseded", s(RunState::Superseded.as_str()))
            .expression_attribute_values(":proposed", s(RunState::Proposed.as_str()));
        Some(items::write_update(update))
    }

    fn put_run(&self, run: &Run, now: Timestamp) -> TransactWriteItem {
        let put = Put::builder()
            .table_name(&self.table)
            .item("pk", s(run_key(&run.head.id)))
            .item("sk", s("RUN"))
            .item("listed", s("run"))
            .item("severity", n(tenths(run.head.finding.severity)))
            .item("created_at", s(run.head.arrived_at.to_string()))
            .item("state", s(run.state.as_str()))
            .item("epoch", n(run.epoch))
            .item("lease_until", n(run.lease_until.as_millisecond()))
            .item("head", json(&run.head))
            .item("steps", AttributeValue::M(HashMap::new()))
            .item("undone", AttributeValue::M(HashMap::new()))
            .item("added", AttributeValue::L(Vec::new()))
            .item("tries", n(0))
            .condition_expression("attribute_not_exists(pk)");
        // What is held, or waits for a person, is never forgotten.
        let put =
            if run.state == RunState::Observed { put.item("expires_at", n((now + KEPT).as_second())) } else { put };
        items::write_put(put)
    }

    fn put_due(&self, head: &RunHead, due: DueAt) -> TransactWriteItem {
        items::write_put(Put::builder().table_name(&self.table).set_item(Some(items::due(head, due))))
    }

    /// Writes results into the journal, so many at once as one expression takes. Fails with `Conflict` when the run
    /// is no longer ours.
    pub async fn journal(&self, run: &RunId, epoch: u64, results: &[(StepId, StepRecord)]) -> Result<(), Failure> {
        for piece in results.chunks(MOST_RESULTS) {
            self.journal_piece(run, epoch, piece).await?;
        }
        Ok(())
    }

    async fn journal_piece(&self, run: &RunId, epoch: u64, results: &[(StepId, StepRecord)]) -> Result<(), Failure> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(run_key(run)))
            .key("sk", s("RUN"))
            .condition_expression("epoch = :epoch")
            .expression_attribute_values(":epoch", n(epoch));
        let mut sets = Vec::new();
        for (i, (id, record)) in results.iter().enumerate() {
            sets.push(format!("steps.#s{i} = :s{i}"));
            update = update
                .expression_attribute_names(format!("#s{i}"), &id.0)
                .expression_attribute_values(format!(":s{i}"), json(record));
        }
        update
            .update_expression(format!("SET {}", sets.join(", ")))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| lost_lease(Failure::from_sdk("journal", run)(error)))
    }

    /// Writes the result of undoing one step into the journal.
    pub async fn journal_undo(&self, run: &Run, id: &StepId, record: &UndoRecord) -> Result<(), Failure> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(run_key(&run.head.id)))
            .key("sk", s("RUN"))
            .update_expression("SET undone.#s = :s")
            .condition_expression("epoch = :epoch")
            .expression_attribute_names("#s", &id.0)
            .expression_attribute_values(":s", json(record))
            .expression_attribute_values(":epoch", n(run.epoch))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| lost_lease(Failure::from_sdk("journal the undo of", &run.head.id)(error)))
    }

    /// Adds stages to a run before they are applied.
    pub async fn add_stages(&self, run: &Run, stages: &[Stage]) -> Result<(), Failure> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(run_key(&run.head.id)))
            .key("sk", s("RUN"))
            .update_expression("SET added = list_append(added, :stages)")
            .condition_expression("epoch = :epoch")
            .expression_attribute_values(":stages", AttributeValue::L(stages.iter().map(json).collect()))
            .expression_attribute_values(":epoch", n(run.epoch))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| lost_lease(Failure::from_sdk("add steps to", &run.head.id)(error)))
    }

    /// Ends a run's steps: its outcome, the hold's state, and what is due next, in one transaction.
    pub async fn finish(&self, run: &Run, state: RunState, end: &RunEnd, next: &[DueAt]) -> Result<(), Failure> {
        debug_assert!(run.state.may_become(state), "{:?} cannot become {state:?}", run.state);
        let mut names =
            "SET #state = :state, #end = :end, past = :past, tries = :tries, reapplied = :reapplied".to_owned();
        let mut past = run.past.clone();
        past.extend(run.end.as_ref().map(PastEnd::from));
        // The row is written anew with each end, and people can try again as often as they like.
        past.drain(..past.len().saturating_sub(MOST_PAST));
        let mut hold = "SET #state = :state, outcome = :outcome".to_owned();
        if state == RunState::Released {
            names.push_str(", released_at = :at");
        }
        // A person has let the target go. A drill gives back what it did, and says nothing of what is reported next.
        let let_go = state == RunState::Released && !run.is_given_back_by_drill();
        if let_go {
            hold.push_str(", released_at = :at");
        }
        if state == RunState::Held {
            names.push_str(", held_at = if_not_exists(held_at, :at)");
        }
        names.push_str(if state == RunState::Held { " REMOVE expires_at" } else { ", expires_at = :until" });
        let mut run_update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(run_key(&run.head.id)))
            .key("sk", s("RUN"))
            .update_expression(names)
            .condition_expression("epoch = :epoch")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#end", "end")
            .expression_attribute_values(":state", s(state.as_str()))
            .expression_attribute_values(":end", json(end))
            .expression_attribute_values(":past", json(&past))
            .expression_attribute_values(":tries", n(run.tries))
            .expression_attribute_values(":reapplied", n(run.reapplied))
            .expression_attribute_values(":epoch", n(run.epoch));
        let mut hold_update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(hold_key(run.head.holds_as(), &run.head.target)))
            .key("sk", s("HOLD"))
            .update_expression(hold)
            .condition_expression("run = :run")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", s(state.as_str()))
            .expression_attribute_values(":outcome", s(end.outcome.as_str()))
            .expression_attribute_values(":run", s(run.head.id.as_str()));
        if state != RunState::Held {
            run_update = run_update.expression_attribute_values(":until", n((end.at + KEPT).as_second()));
        }
        if matches!(state, RunState::Held | RunState::Released) {
            run_update = run_update.expression_attribute_values(":at", n(end.at.as_millisecond()));
        }
        if let_go {
            hold_update = hold_update.expression_attribute_values(":at", n(end.at.as_millisecond()));
        }
        let mut writes = vec![items::write_update(run_update), items::write_update(hold_update)];
        writes.push(self.delete_due(run, DueKind::Lease, run.lease_until));
        writes.extend(next.iter().map(|due| self.put_due(&run.head, *due)));
        self.transact(writes).await.map_err(|error| lost_lease(Failure::from_sdk("finish", &run.head.id)(error)))
    }

    fn delete_due(&self, run: &Run, what: DueKind, at: Timestamp) -> TransactWriteItem {
        items::write_delete(
            Delete::builder()
                .table_name(&self.table)
                .key("pk", s(format!("DUE#{}", run.head.function)))
                .key("sk", s(due_sort(at, what, &run.head.id))),
        )
    }

    /// Takes a run into one's hands: the next epoch, a new lease and its due row. `Ok(None)` when another
    /// was faster or the run stands otherwise than it was read.
    pub async fn take(&self, run: &Run, becomes: RunState, now: Timestamp) -> Result<Option<Run>, Failure> {
        self.take_with(run, becomes, now, Vec::new()).await
    }

    async fn take_with(
        &self,
        run: &Run,
        becomes: RunState,
        now: Timestamp,
        besides: Vec<TransactWriteItem>,
    ) -> Result<Option<Run>, Failure> {
        debug_assert!(run.state == becomes || run.state.may_become(becomes), "{:?} → {becomes:?}", run.state);
        let mut taken = run.clone();
        taken.state = becomes;
        taken.epoch += 1;
        taken.lease_until = now + LEASE;
        // Whoever takes what is under way takes it from one who was interrupted.
        taken.interruptions = if run.state == becomes { run.interruptions + 1 } else { 0 };
        let mut taking = "SET #state = :next, epoch = :next_epoch, lease_until = :lease, decided = :decided, \
                          interruptions = :interruptions"
            .to_owned();
        let mut run_update = Update::builder();
        if run.state == RunState::Proposed {
            taken.approved_at = Some(now);
            taking.push_str(", approved_at = :now");
            run_update = run_update.expression_attribute_values(":now", n(now.as_millisecond()));
        }
        let run_update = run_update
            .table_name(&self.table)
            .key("pk", s(run_key(&run.head.id)))
            .key("sk", s("RUN"))
            .update_expression(taking)
            .expression_attribute_values(":interruptions", n(taken.interruptions))
            .condition_expression("epoch = :epoch AND #state = :state")
            .expression_attribute_values(":decided", json(&run.decided))
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", s(run.state.as_str()))
            .expression_attribute_values(":next", s(becomes.as_str()))
            .expression_attribute_values(":epoch", n(run.epoch))
            .expression_attribute_values(":next_epoch", n(taken.epoch))
            .expression_attribute_values(":lease", n(taken.lease_until.as_millisecond()));
        let hold_update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(hold_key(run.head.holds_as(), &run.head.target)))
            .key("sk", s("HOLD"))
            .update_expression(match run.state {
                // A person wants it contained: what was said before is over.
                RunState::Proposed => "SET #state = :next REMOVE released_at",
                _ => "SET #state = :next",
            })
            .condition_expression("run = :run")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":next", s(becomes.as_str()))
            .expression_attribute_values(":run", s(run.head.id.as_str()));
        let lease = DueAt { what: DueKind::Lease, at: taken.lease_until };
        let mut writes = besides;
        writes.push(items::write_update(run_update));
        writes.push(items::write_update(hold_update));
        writes.push(self.put_due(&run.head, lease));
        let result = self.transact(writes).await;
        match result {
            Ok(()) => Ok(Some(taken)),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled))
                    if cancelled.cancellation_reasons().iter().any(|r| r.code() == Some("ConditionalCheckFailed")) =>
                {
                    Ok(None)
                }
                _ => Err(Failure::from_sdk("take over", &run.head.id)(error)),
            },
        }
    }

    /// Moves a run and its hold to a state that nobody works on, as when a proposal is rejected. `said`: whether a
    /// person rejected what the finding proposes, so that it is not proposed again.
    async fn settle(
        &self,
        run: &Run,
        becomes: RunState,
        said: Option<&RunEnd>,
        besides: Vec<TransactWriteItem>,
    ) -> Result<bool, Failure> {
        let mut writes = besides;
        for (pk, sk, condition) in [
            (run_key(&run.head.id), "RUN", "#state = :state AND epoch = :epoch"),
            (hold_key(run.head.holds_as(), &run.head.target), "HOLD", "#state = :state AND run = :run"),
        ] {
            let mut update = Update::builder()
                .table_name(&self.table)
                .key("pk", s(pk))
                .key("sk", s(sk))
                .update_expression("SET #state = :next")
                .condition_expression(condition)
                .expression_attribute_names("#state", "state")
                .expression_attribute_values(":state", s(run.state.as_str()))
                .expression_attribute_values(":next", s(becomes.as_str()));
            update = if sk == "RUN" {
                if let Some(end) = said {
                    update = update
                        .update_expression("SET #state = :next, #end = :end")
                        .expression_attribute_names("#end", "end")
                        .expression_attribute_values(":end", json(end));
                }
                update.expression_attribute_values(":epoch", n(run.epoch))
            } else {
                update.expression_attribute_values(":run", s(run.head.id.as_str()))
            };
            // Of a drill's finding there is no repeat to be turned down.
            if said.is_some() && sk == "HOLD" && run.head.finding.source != Source::Drill {
                update = update
                    .update_expression("SET #state = :next, rejected.#finding = :severity")
                    .expression_attribute_names("#finding", joined_key(&run.head.finding))
                    .expression_attribute_values(":severity", n(run.head.finding.severity));
            }
            writes.push(items::write_update(update));
        }
        let result = self.transact(writes).await;
        match result {
            Ok(()) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(_)) => Ok(false),
                _ => Err(Failure::from_sdk("settle", &run.head.id)(error)),
            },
        }
    }

    /// Records on the hold that another finding came.
    pub async fn join(&self, hold: &str, target: &Target, finding: &Finding, now: Timestamp) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", s(hold_key(hold, target)))
            .item("sk", s(joined_key(finding)))
            .item("joined_at", n(now.as_millisecond()))
            .item("finding", json(finding))
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("join the hold of", target))
    }

    /// Whether a finding is among those that came while its target was held.
    pub async fn has_joined(&self, hold: &str, target: &Target, finding: &Finding) -> Result<bool, Failure> {
        Ok(self.get(&hold_key(hold, target), &joined_key(finding)).await?.is_some())
    }

    /// The findings that joined a hold, oldest first. They stay on it.
    pub async fn joined(&self, hold: &str, target: &Target) -> Result<Vec<Joined>, Failure> {
        let items = self.query(&hold_key(hold, target), Some("JOINED#")).await?;
        let mut joined: Vec<Joined> = Vec::new();
        for item in &items {
            match items::parse(item, "finding") {
                Ok(finding) => joined.push(Joined { finding, at: items::number(item, "joined_at").unwrap_or(0) }),
                // It stays where it is, and does not keep the others from being answered.
                Err(failure) => crate::telemetry::alarm("joined-unreadable", &failure.brief()),
            }
        }
        joined.sort_by_key(|joined| joined.at);
        Ok(joined)
    }

    /// Takes a finding that was answered off the hold, unless it has joined again since it was read.
    pub async fn take_off(&self, hold: &str, target: &Target, joined: &Joined) -> Result<(), Failure> {
        let taken = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(hold_key(hold, target)))
            .key("sk", s(joined_key(&joined.finding)))
            .condition_expression("joined_at = :seen")
            .expression_attribute_values(":seen", n(joined.at))
            .send()
            .await
            .map_err(Failure::from_sdk("take off the hold of", target));
        match taken {
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The finding that joined a hold last. Not a request: what somebody asks for brings nothing about by itself.
    pub async fn last_joined(&self, hold: &str, target: &Target) -> Result<Option<Finding>, Failure> {
        let joined = self.query(&hold_key(hold, target), Some("JOINED#")).await?;
        let at = |item: &&items::Item| items::number(item, "joined_at").unwrap_or(0);
        let reported = |item: &&items::Item| !items::text(item, "sk").is_some_and(|key| key.ends_with(REQUEST));
        let last = joined.iter().filter(reported).max_by_key(at);
        last.map(|item| items::parse::<Finding>(item, "finding")).transpose()
    }

    /// The run with this id.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>, Failure> {
        self.get(&run_key(id), "RUN").await?.as_ref().map(read_run).transpose()
    }

    /// The newest runs, newest first, or some of them; after one that was answered before, those before it. With the place to
    /// go on from, where there are more, which of some may be none.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn runs(
        &self,
        most: usize,
        after: Option<&RunPlace>,
        which: Which,
    ) -> Result<(Vec<Run>, Option<RunPlace>), Failure> {
        let mut runs = Vec::new();
        let mut from = after.cloned();
        for _ in 0..MOST_PAGES {
            let (page, next) = self.page_of_runs(most - runs.len(), from.as_ref(), which).await?;
            runs.extend(page);
            from = next;
            if from.is_none() || runs.len() == most {
                break;
            }
        }
        Ok((runs, from))
    }

    async fn page_of_runs(
        &self,
        most: usize,
        after: Option<&RunPlace>,
        which: Which,
    ) -> Result<(Vec<Run>, Option<RunPlace>), Failure> {
        let from = after.map(|place| {
            Item::from([
                ("listed".to_owned(), s("run")),
                ("created_at".to_owned(), s(place.arrived_at.to_string())),
                ("pk".to_owned(), s(run_key(&place.run))),
                ("sk".to_owned(), s("RUN")),
            ])
        });
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by-time")
            .key_condition_expression("listed = :run")
            .expression_attribute_values(":run", s("run"))
            .scan_index_forward(false)
            .set_exclusive_start_key(from);
        let mut filters = Vec::new();
        if let Some(state) = which.state {
            filters.push("#state = :state");
            query = query
                .expression_attribute_names("#state", "state")
                .expression_attribute_values(":state", s(state.as_str()));
        }
        if let Some(severity) = which.severity {
            filters.push("(attribute_not_exists(severity) OR severity >= :severity)");
            query = query.expression_attribute_values(":severity", n(tenths(severity)));
        }
        // DynamoDB counts before it filters.
        let mut limit = most;
        if !filters.is_empty() {
            limit = most.max(MOST_FILTERED);
            query = query.filter_expression(filters.join(" AND "));
        }
        let answer = query
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(Failure::from_sdk("list the runs in", &self.table))?;
        let mut runs = answer.items().iter().map(read_run).collect::<Result<Vec<Run>, Failure>>()?;
        let mut next = answer.last_evaluated_key().filter(|key| !key.is_empty()).and_then(items::read_place);
        if runs.len() > most {
            runs.truncate(most);
            next = runs.last().map(|run| RunPlace { arrived_at: run.head.arrived_at, run: run.head.id.clone() });
        }
        Ok((runs, next))
    }

    /// Where an account stood in the organization when that was last read.
    pub async fn units(&self, account: &AccountId) -> Result<Option<KnownUnits>, Failure> {
        Ok(self.get(&account_key(account), "UNITS").await?.as_ref().and_then(items::read_units))
    }

    /// What is due by `now` for a function, oldest first.
    pub async fn due(&self, function: &str, now: Timestamp) -> Result<Vec<Due>, Failure> {
        let mut rows = Vec::new();
        let mut from = None;
        while rows.len() < MOST_DUE {
            let answer = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND sk < :now")
                .expression_attribute_values(":pk", s(format!("DUE#{function}")))
                .expression_attribute_values(":now", s(format!("{:015}~", now.as_millisecond())))
                .set_exclusive_start_key(from.take())
                .send()
                .await
                .map_err(Failure::from_sdk("read what is due for", function))?;
            rows.extend(answer.items.unwrap_or_default());
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                break;
            }
        }
        let mut due: Vec<Due> = rows.iter().filter_map(items::read_due).collect();
        if due.len() < rows.len() {
            // Written by a newer version, perhaps: it stays for one that knows it.
            crate::telemetry::alarm("due-rows-unknown", &format!("{} of {function}", rows.len() - due.len()));
        }
        // A run that was interrupted half way goes before everything else, then what is not contained, and last what nobody
        // waits for; among these the graver finding first, and the older row of two alike.
        due.sort_by_key(|due| (due.what.rank(), Reverse(due.severity)));
        Ok(due)
    }

    /// Whether people were told this, and not too long ago.
    pub async fn was_told(&self, told: &Told, now: Timestamp) -> Result<bool, Failure> {
        let row = self.get(&format!("TOLD#{}", told.about), &told.what).await?;
        // Rows go some time after they lapse.
        let until = row.as_ref().and_then(|row| items::number(row, "expires_at")).unwrap_or(0);
        Ok(until > u64::try_from(now.as_second()).unwrap_or(0))
    }

    /// Remembers that people were told this.
    pub async fn note_told(&self, told: &Told, now: Timestamp) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", s(format!("TOLD#{}", told.about)))
            .item("sk", s(&told.what))
            .item("expires_at", n((now + told.remembered).as_second()))
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("note what was told of", &told.about))
    }

    /// Whether people have not been told of an event that `function` could not read for an hour. Remembers it.
    pub async fn first_unreadable(&self, function: &str, now: Timestamp) -> Result<bool, Failure> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", s(TOLD_UNREADABLE))
            .item("sk", s(function))
            .item("told_at", n(now.as_second()))
            .item("expires_at", n((now + UNREADABLE_PAUSE).as_second()))
            .condition_expression("attribute_not_exists(pk) OR told_at <= :then")
            .expression_attribute_values(":then", n((now - UNREADABLE_PAUSE).as_second()));
        match put.send().await.map_err(Failure::from_sdk("note what was told of", "unreadable events")) {
            Ok(_) => Ok(true),
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Takes back that people were told of an unreadable event: the message was refused.
    pub async fn untold_unreadable(&self, function: &str) -> Result<(), Failure> {
        let delete =
            self.client.delete_item().table_name(&self.table).key("pk", s(TOLD_UNREADABLE)).key("sk", s(function));
        delete.send().await.map(|_| ()).map_err(Failure::from_sdk("take back what was told of", "unreadable events"))
    }

    /// Writes one due row.
    pub async fn put_due_row(&self, head: &RunHead, due: DueAt) -> Result<(), Failure> {
        self.write_due(head, due, None).await
    }

    async fn write_due(&self, head: &RunHead, due: DueAt, left: Option<(&Channels, u32)>) -> Result<(), Failure> {
        let mut put = self.client.put_item().table_name(&self.table).set_item(Some(items::due(head, due)));
        if let Some((left, attempts)) = left {
            let left: Vec<&str> = left.iter().map(|channel| channel.as_str()).collect();
            put = put.item("left", s(left.join(","))).item("attempts", n(attempts));
        }
        put.send().await.map(|_| ()).map_err(Failure::from_sdk("note what is due for", &head.id))
    }

    /// Asks the schedule to try again what a held run has not done. However often it is asked, it is one row.
    pub async fn ask_for_retry(&self, run: &Run) -> Result<(), Failure> {
        self.write_due(&run.head, DueAt { what: DueKind::Retry, at: run.head.arrived_at }, None).await
    }

    /// Writes down how far a report has come: nothing is due any more when it has gone by every channel.
    pub async fn report_went(&self, head: &RunHead, due: DueAt, left: &Channels, next: DueAt) -> Result<(), Failure> {
        if !left.is_empty() {
            self.write_due(head, next, Some((left, 1))).await?;
            if same_row(due, next) {
                return Ok(());
            }
        }
        self.delete(&format!("DUE#{}", head.function), &due_sort(due.at, due.what, &head.id)).await
    }

    /// Puts off what is left of a report, for longer each time. The row it comes from is still to be taken away.
    pub async fn put_off(&self, head: &RunHead, due: &Due, left: &Channels, now: Timestamp) -> Result<(), Failure> {
        let wait = apart(Duration::from_secs(60 << due.attempts.min(6)), &head.id);
        self.write_due(head, DueAt { what: due.what, at: now + wait }, Some((left, due.attempts + 1))).await
    }

    /// Takes away a due row whose work is done, unless it was written anew since it was read.
    pub async fn done(&self, function: &str, due: &Due) -> Result<(), Failure> {
        let taken = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(format!("DUE#{function}")))
            .key("sk", s(&due.key))
            .condition_expression("attribute_not_exists(written) OR written = :written")
            .expression_attribute_values(":written", n(due.written))
            .send()
            .await
            .map_err(Failure::from_sdk("take away what is due for", &due.run));
        match taken {
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The hold on a target under a word, if there is one.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn hold(&self, word: &str, target: &Target) -> Result<Option<Hold>, Failure> {
        self.get(&hold_key(word, target), "HOLD").await?.as_ref().map(items::read_hold).transpose()
    }

    /// Uses a drill's finding, once in each function that answers it. `false` when it was used before, or is no longer good.
    ///
    /// # Errors
    /// When the tables cannot be reached.
    pub async fn use_drill(
        &self,
        drills: &Drills,
        drill: &Drill,
        function: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let used = Put::builder()
            .table_name(&self.table)
            .item("pk", s(format!("USED#{}", drill.id)))
            .item("sk", s(function))
            .item("used_at", n(now.as_millisecond()))
            .item("expires_at", n((now + KEPT).as_second()))
            .condition_expression("attribute_not_exists(pk)");
        let writes = vec![drills.still_good(drill, now), items::write_put(used)];
        self.transact_if(writes, "use drill", &drill.id).await
    }

    /// How long the oldest proposal of a function has been waiting for a person: zero where none is. Nothing where it was not
    /// found among as many rows as are looked at once. In its last day, when people have been told once more, a proposal is
    /// not counted any more.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn oldest_proposal(&self, function: &str, now: Timestamp) -> Result<Option<SignedDuration>, Failure> {
        let mut from = None;
        let mut looked_at = 0;
        loop {
            let answer = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk > :now")
                .filter_expression("what = :what")
                .expression_attribute_values(":pk", s(format!("DUE#{function}")))
                .expression_attribute_values(":now", s(format!("{:015}~", now.as_millisecond())))
                .expression_attribute_values(":what", s(DueKind::ProposalEnds.as_str()))
                .set_exclusive_start_key(from.take())
                .send()
                .await
                .map_err(Failure::from_sdk("look for proposals of", function))?;
            for due in answer.items().iter().filter_map(items::read_due) {
                if looked_at == MOST_LOOKED_AT {
                    return Ok(None);
                }
                looked_at += 1;
                match self.run(&due.run).await? {
                    Some(run) if run.state == RunState::Proposed => {
                        return Ok(Some(now.duration_since(run.head.arrived_at)));
                    }
                    _ => self.done(function, &due).await?,
                }
            }
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(Some(SignedDuration::ZERO));
            }
        }
    }

    /// Accepts a policy set by its hash: only it is loaded from then on.
    pub async fn accept_policy(&self, sha256: &str, by: &str, now: Timestamp) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", s("POLICY"))
            .item("sk", s("ACCEPTED"))
            .item("sha256", s(sha256))
            .item("by", s(by))
            .item("at", s(now.to_string()))
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("accept policy set", sha256))
    }

    /// The hash of the accepted policy set, when one was published.
    pub async fn accepted_policy(&self) -> Result<Option<String>, Failure> {
        Ok(self.get("POLICY", "ACCEPTED").await?.as_ref().and_then(|item| text(item, "sha256")))
    }

    /// Whether the table answers to reads and writes: a row is written and taken away.
    pub async fn probe(&self) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", s("PREFLIGHT"))
            .item("sk", s("PREFLIGHT"))
            .send()
            .await
            .map_err(Failure::from_sdk("write to", &self.table))?;
        self.delete("PREFLIGHT", "PREFLIGHT").await
    }

    async fn get(&self, pk: &str, sk: &str) -> Result<Option<Item>, Failure> {
        self.client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(pk))
            .key("sk", s(sk))
            .consistent_read(true)
            .send()
            .await
            .map(|answer| answer.item)
            .map_err(Failure::from_sdk("read", pk))
    }

    async fn delete(&self, pk: &str, sk: &str) -> Result<(), Failure> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(pk))
            .key("sk", s(sk))
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("delete", sk))
    }

    async fn query(&self, pk: &str, prefix: Option<&str>) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let mut query = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .expression_attribute_values(":pk", s(pk))
                .set_exclusive_start_key(from.take());
            query = match prefix {
                None => query.key_condition_expression("pk = :pk"),
                Some(prefix) => query
                    .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                    .expression_attribute_values(":prefix", s(prefix)),
            };
            let answer = query.send().await.map_err(Failure::from_sdk("query", pk))?;
            items.extend(answer.items.unwrap_or_default());
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(items);
            }
        }
    }
}

/// Whether a transaction was cancelled because a condition does not hold.
pub(crate) fn is_condition(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> bool {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
        return false;
    };
    cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some("ConditionalCheckFailed"))
}

/// Whether a transaction was cancelled only because another one held a row.
fn met_another(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> bool {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
        return false;
    };
    let has = |code: &str| cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some(code));
    has("TransactionConflict") && !has("ConditionalCheckFailed")
}

/// A write refused for its epoch means that another has the run: stop, touch nothing.
fn lost_lease(mut failure: Failure) -> Failure {
    if matches!(failure.code.as_deref(), Some("ConditionalCheckFailedException" | "TransactionCanceledException")) {
        failure.class = Class::Conflict;
    }
    failure
}
