//! Actions: one change to AWS, with all that is needed to see it, make it, check it and take it back.
//!
//! An author writes what the state is, how it is read, what is wanted, and the one call that takes the
//! state from one value to another. Everything else — that applying twice is applying once, that undo
//! compares before it swaps, that what is gone is an outcome — follows from those four and is written
//! once, here, so that no action can forget it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{GroupId, RunId, SnapshotId, VolumeId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Leave, Step, StepId, Undo};

/// What an action has at hand: the member account, and the run it belongs to.
#[derive(Debug)]
pub struct Context<'a> {
    /// The target's account and Region, with the session of this run.
    pub aws: &'a Aws,
    /// The run. Names of what the run makes are made from it.
    pub run: &'a RunId,
    /// The groups that earlier stages of this run have made, as far as they are at hand. It saves a read
    /// on the way to the cut; a group that is missing here is found by its name.
    pub made: &'a [KnownGroup],
    /// The snapshots that the run has made, by volume, as far as the journal knows: AWS may not show them yet.
    pub snapshots: BTreeMap<VolumeId, SnapshotId>,
}

impl Context<'_> {
    /// The name of the group that this run makes in a VPC when the VPC has none of ours. It holds the
    /// run's random id, so nobody can have made a group of this name before the run.
    pub fn group_name(&self, purpose: GroupPurpose) -> String {
        format!("{}-{}", purpose.as_str(), self.run)
    }
}

/// What a security group of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPurpose {
    /// No rules: what is in it talks to nobody.
    Quarantine,
    /// Everything allowed both ways, for the instant in which tracked flows are forgotten.
    Flush,
}

impl GroupPurpose {
    /// The purpose as it stands in names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "firebreak-quarantine",
            Self::Flush => "firebreak-flush",
        }
    }
}

/// A group of ours, recorded in the ledger when it was made: the only proof that a group is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGroup {
    /// Its VPC.
    pub vpc: VpcId,
    /// Its id.
    pub id: GroupId,
    /// What it is for.
    pub purpose: GroupPurpose,
    /// The run that made it, where that is known.
    pub run: Option<RunId>,
}

/// How a change to a state ended.
#[derive(Debug)]
pub enum Set<S> {
    /// Done: the state is the one that was asked for.
    Done,
    /// Done, and the state is this one, which nobody could know before: the thing was made by the call.
    Became(S),
    /// Not done, for a reason that a repeat would not change and a person should read.
    Left(String),
}

/// One change to AWS. Implemented by the action's arguments.
pub trait Action: Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    /// `service.verb-object`. Journals hold it: never renamed, never reused.
    const NAME: &'static str;

    /// Every permission that `read` and `set` need, for apply and for undo.
    const PERMISSIONS: &'static [Permission];

    /// How faithfully it can be undone.
    const UNDO: Undo;

    /// The leave it wants beyond that of the playbook.
    const LEAVE: Option<Leave> = None;

    /// Whether it cuts the network.
    const CUTS: bool = false;

    /// What is read, changed and put back. Holds nothing that changes by itself.
    type State: Serialize + DeserializeOwned + PartialEq + Clone + Debug + Send + Sync;

    /// Whether it makes a security group that later steps use: their sessions then wait for it.
    const MAKES_GROUP: bool = false;

    /// What it is about, unique among the plan's steps of this action: an id.
    fn subject(&self) -> String;

    /// The change in words.
    fn change(&self, before: &Self::State) -> Change;

    /// The exact grants that `set` needs to go from `before` to the wanted state and back. `groups` holds
    /// the groups of ours that are known by now, those that earlier stages of the run have made included.
    fn grants(&self, aws: &Aws, before: &Self::State, groups: &[KnownGroup]) -> Vec<Grant>;

    /// The state now; `None` when the thing no longer exists.
    fn read(&self, cx: &Context<'_>) -> impl Future<Output = Result<Option<Self::State>, Failure>> + Send;

    /// The state that is wanted, given the one found. An action that makes something cannot know its id:
    /// it wants what it found, and says by `satisfied` when that will do.
    fn wanted(
        &self,
        cx: &Context<'_>,
        before: &Self::State,
    ) -> impl Future<Output = Result<Self::State, Failure>> + Send;

    /// Takes the state from `from` to `to`: one mutating call, which fails clean. Called with the wanted
    /// state as `to` to apply, and with the state before as `to` to undo.
    fn set(
        &self,
        cx: &Context<'_>,
        from: &Self::State,
        to: &Self::State,
    ) -> impl Future<Output = Result<Set<Self::State>, Failure>> + Send;

    /// Whether `now` is as good as `wanted`.
    fn satisfied(&self, now: &Self::State, wanted: &Self::State) -> bool {
        now == wanted
    }

    /// A security group of ours that the applied step has made, to be recorded in the ledger.
    fn made(&self, _after: &Self::State) -> Option<KnownGroup> {
        None
    }

    /// The step's id.
    fn id(&self) -> StepId {
        StepId(format!("{} {}", Self::NAME, self.subject()))
    }

    /// The step, for a plan.
    fn step(&self, before: &Self::State) -> Step {
        Step {
            id: self.id(),
            action: Self::NAME.to_owned(),
            // Arguments and states are plain data of ours; they always serialise.
            args: serde_json::to_value(self).unwrap_or_default(),
            before: serde_json::to_value(before).unwrap_or_default(),
            change: self.change(before),
            caveat: Self::UNDO.caveat(),
            needs: Vec::new(),
            leave: Self::LEAVE,
            cuts: Self::CUTS,
        }
    }
}

impl Step {
    /// The same step, skipped when one of `needs` did not succeed.
    pub fn needing(mut self, needs: impl IntoIterator<Item = StepId>) -> Self {
        self.needs.extend(needs);
        self
    }
}

/// How applying a step ended.
#[derive(Debug)]
pub enum Applied {
    /// We changed it.
    Changed {
        /// The state now.
        after: Value,
        /// A group of ours that was made.
        made: Option<KnownGroup>,
    },
    /// It was as wanted already.
    AlreadySo {
        /// A group of ours that it is.
        made: Option<KnownGroup>,
    },
    /// It no longer exists.
    Gone,
    /// AWS does not allow it here; the reason is for a person.
    Left(String),
}

/// How undoing a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// Put back.
    Restored,
    /// It was as before already.
    AlreadySo,
    /// It no longer exists.
    Gone,
    /// Somebody changed it since: found this. Nothing was done.
    Conflict(String),
    /// Not undone, for this reason: by declaration, or because AWS does not allow it now.
    Left(String),
}

/// A future that can be kept in a box and sent between threads.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An action without its types, as the runner uses it. The one implementation is [`Of`].
pub trait AnyAction: Send + Sync {
    /// The action's frozen name.
    fn name(&self) -> &'static str;
    /// What it needs.
    fn permissions(&self) -> &'static [Permission];
    /// How faithfully it can be undone.
    fn undo_kind(&self) -> Undo;
    /// The leave it wants.
    fn leave(&self) -> Option<Leave>;
    /// Whether it makes a security group that later steps use.
    fn makes_group(&self) -> bool;
    /// The grants of a step.
    fn grants_of(&self, aws: &Aws, step: &Step, groups: &[KnownGroup]) -> Result<Vec<Grant>, Failure>;
    /// The state now, for comparing; `None` when the thing is gone.
    fn read_state<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step) -> Boxed<'a, Result<Option<Value>, Failure>>;
    /// Whether the wanted state holds now; `None` when the thing is gone.
    fn holds<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step) -> Boxed<'a, Result<Option<bool>, Failure>>;
    /// Brings the wanted state about. `fresh` says that nobody can have tried before, which saves a read.
    fn apply<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step, fresh: bool) -> Boxed<'a, Result<Applied, Failure>>;
    /// Puts the state of before back, unless somebody else has changed it.
    fn undo<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step) -> Boxed<'a, Result<Undone, Failure>>;
}

/// The action `A` without its types.
#[derive(Debug)]
pub struct Of<A>(PhantomData<fn() -> A>);

impl<A> Of<A> {
    /// For a static list of actions.
    pub const NEW: Self = Self(PhantomData);
}

fn typed<A: Action>(step: &Step) -> Result<(A, A::State), Failure> {
    let bug =
        |error: serde_json::Error| Failure::new(Class::Bug, "read the journal of", step.id.0.clone()).because(error);
    let args = A::deserialize(&step.args).map_err(bug)?;
    let before = A::State::deserialize(&step.before).map_err(bug)?;
    Ok((args, before))
}

fn untyped<S: Serialize>(state: &S) -> Value {
    serde_json::to_value(state).unwrap_or_default()
}

async fn apply<A: Action>(cx: &Context<'_>, step: &Step, fresh: bool) -> Result<Applied, Failure> {
    let (action, before) = typed::<A>(step)?;
    let wanted = action.wanted(cx, &before).await?;
    let from = if fresh { Some(before.clone()) } else { action.read(cx).await? };
    let Some(from) = from else { return Ok(Applied::Gone) };
    if action.satisfied(&from, &wanted) {
        return Ok(Applied::AlreadySo { made: action.made(&from) });
    }
    match action.set(cx, &from, &wanted).await {
        Ok(Set::Left(why)) => Ok(Applied::Left(why)),
        Ok(Set::Done) => Ok(Applied::Changed { after: untyped(&wanted), made: action.made(&wanted) }),
        Ok(Set::Became(after)) => Ok(Applied::Changed { after: untyped(&after), made: action.made(&after) }),
        // The call failed, but the change may be there: an answer was lost, or another did it first.
        Err(failure) if failure.class != Class::Denied => match action.read(cx).await {
            Ok(None) => Ok(Applied::Gone),
            Ok(Some(now)) if action.satisfied(&now, &wanted) => {
                Ok(Applied::Changed { after: untyped(&now), made: action.made(&now) })
            }
            Ok(Some(_)) | Err(_) => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}

async fn undo<A: Action>(cx: &Context<'_>, step: &Step) -> Result<Undone, Failure> {
    let (action, before) = typed::<A>(step)?;
    if let Undo::Never { why } = A::UNDO {
        return Ok(Undone::Left(why.to_owned()));
    }
    let Some(now) = action.read(cx).await? else { return Ok(Undone::Gone) };
    if now == before {
        return Ok(Undone::AlreadySo);
    }
    let ours = action.wanted(cx, &before).await?;
    if !action.satisfied(&now, &ours) {
        return Ok(Undone::Conflict(format!("{} is now {}", action.change(&before).what, action.change(&now).from)));
    }
    match action.set(cx, &now, &before).await {
        Ok(Set::Done | Set::Became(_)) => Ok(Undone::Restored),
        Ok(Set::Left(why)) => Ok(Undone::Left(why)),
        Err(failure) if failure.class != Class::Denied => match action.read(cx).await {
            Ok(None) => Ok(Undone::Gone),
            Ok(Some(now)) if now == before => Ok(Undone::Restored),
            Ok(Some(_)) | Err(_) => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}

impl<A: Action> AnyAction for Of<A> {
    fn name(&self) -> &'static str {
        A::NAME
    }
    fn permissions(&self) -> &'static [Permission] {
        A::PERMISSIONS
    }
    fn undo_kind(&self) -> Undo {
        A::UNDO
    }
    fn leave(&self) -> Option<Leave> {
        A::LEAVE
    }
    fn makes_group(&self) -> bool {
        A::MAKES_GROUP
    }
    fn grants_of(&self, aws: &Aws, step: &Step, groups: &[KnownGroup]) -> Result<Vec<Grant>, Failure> {
        let (action, before) = typed::<A>(step)?;
        Ok(action.grants(aws, &before, groups))
    }
    fn read_state<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step) -> Boxed<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move {
            let (action, _) = typed::<A>(step)?;
            Ok(action.read(cx).await?.as_ref().map(untyped))
        })
    }
    fn holds<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step) -> Boxed<'a, Result<Option<bool>, Failure>> {
        Box::pin(async move {
            let (action, before) = typed::<A>(step)?;
            let Some(now) = action.read(cx).await? else { return Ok(None) };
            let wanted = action.wanted(cx, &before).await?;
            Ok(Some(action.satisfied(&now, &wanted)))
        })
    }
    fn apply<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step, fresh: bool) -> Boxed<'a, Result<Applied, Failure>> {
        Box::pin(apply::<A>(cx, step, fresh))
    }
    fn undo<'a>(&'a self, cx: &'a Context<'a>, step: &'a Step) -> Boxed<'a, Result<Undone, Failure>> {
        Box::pin(undo::<A>(cx, step))
    }
}

impl KnownGroup {
    /// The ARNs of every group of a VPC with a purpose: what a step may use that does not know yet which
    /// of them it will find.
    pub fn arns(groups: &[Self], aws: &Aws, vpc: &VpcId, purpose: GroupPurpose) -> Vec<String> {
        let fits = groups.iter().filter(|known| known.vpc == *vpc && known.purpose == purpose);
        fits.map(|known| aws.arn("ec2", &format!("security-group/{}", known.id))).collect()
    }

    /// The group of a VPC with a purpose, among `groups`: the first there is, for a VPC has several when two runs
    /// made one each.
    pub fn find<'a>(groups: &'a [Self], vpc: &VpcId, purpose: GroupPurpose) -> Option<&'a GroupId> {
        groups.iter().find(|known| known.vpc == *vpc && known.purpose == purpose).map(|known| &known.id)
    }
}
