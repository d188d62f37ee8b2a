//! The strictest answer: what the guard allows whatever is true of that which cannot be known from an event alone.
//!
//! A condition is taken apart as far as something unknown is in it, and everything else is left to Cedar. What an
//! expression may come to is a set: it holds, it does not, it fails. A mode is allowed if some permit holds for certain
//! and no forbid may hold. Cedar's own partial evaluation is experimental, and knows no bounds of what is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cedar_policy::pst::{self, BinaryOp, Clause, Expr, UnaryOp, Var};
use cedar_policy::{Authorizer, Effect, Entities, Policy, PolicyId, PolicySet, Request};
use jiff::Timestamp;

use super::{PlanFacts, Policies, Question, label, request};
use crate::finding::Finding;
use crate::plan::Leave;
use crate::run::Mode;
use crate::target::Target;

/// What is known from an event and what a person says besides.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The playbook's id.
    pub playbook: &'a str,
    /// The target.
    pub target: &'a Target,
    /// The finding, as the event has it.
    pub finding: &'a Finding,
    /// The time that is supposed.
    pub supposed: Timestamp,
    /// Whether conditions on the time and on the finding's age are to be unknown all the same.
    pub any_time: bool,
    /// The security account, when it is known. Where it is not, nothing is enforced that a policy may forbid there; to
    /// propose changes nothing.
    pub hub_account: Option<&'a str>,
}

/// The strictest answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strictest {
    /// The guard's answer is this mode or a stronger one.
    pub mode: Mode,
    /// Why, in words: the policies that decide, and each unknown that made the answer stricter.
    pub reasons: Vec<String>,
}

/// What is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Tags,
    Unit,
    Budgets,
    Steps,
    Inexact,
    Leaves,
    BreakGlass,
    Who,
    SecurityAccount,
    Time,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tags => "tags: not known without AWS",
            Self::Unit => "the organisational unit: not known without AWS",
            Self::Budgets => "budgets: not known without AWS",
            Self::Steps => "the number of steps: not known without AWS",
            Self::Inexact => "what undo cannot give back: not known without AWS",
            Self::Leaves => "the leaves that the plan wants: not known without AWS",
            Self::Who => "who it is: not known without AWS",
            Self::BreakGlass => "break-glass principals: not known here",
            Self::SecurityAccount => "the security account: not given (--hub-account)",
            Self::Time => "the time: supposed to be when it was last seen (--at)",
        })
    }
}

/// What an expression may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Holds,
    HoldsNot,
    Fails,
}

use Outcome::{Fails, Holds, HoldsNot};

/// All that an expression may come to, and what that depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Weighed {
    may: BTreeSet<Outcome>,
    by: BTreeSet<Fact>,
}

impl Weighed {
    /// Where it comes to `end`, it is `end`; in all other cases `next` decides, as `&&` and `||` do.
    fn unless_ended(mut self, end: Outcome, next: impl FnOnce() -> Self) -> Self {
        let goes_on = if end == HoldsNot { Holds } else { HoldsNot };
        if self.may.remove(&goes_on) {
            let next = next();
            self.may.extend(next.may);
            self.by.extend(next.by);
        }
        self
    }

    fn not(self) -> Self {
        let turn = |outcome| match outcome {
            Holds => HoldsNot,
            HoldsNot => Holds,
            Fails => Fails,
        };
        Self { may: self.may.into_iter().map(turn).collect(), by: self.by }
    }
}

/// One policy and what it may come to.
struct Voice<'a> {
    policy: &'a Policy,
    weighed: Weighed,
}

impl Voice<'_> {
    fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    fn may(&self, outcome: Outcome) -> bool {
        self.weighed.may.contains(&outcome)
    }

    fn fails(&self) -> String {
        format!("`{}` fails when it is asked, so a person is asked", self.policy.id())
    }

    fn depends(&self, what: &str) -> Vec<String> {
        let id = self.policy.id();
        self.weighed.by.iter().map(|fact| format!("{fact}, and `{id}` {what}")).collect()
    }
}

/// The strictest answer of a set that is valid ([`Policies::validate`]): in one that is not, reading what is absent
/// fails, which is not looked for. `inexact` gives the actions of the playbook that undo cannot give back exactly, when
/// it has these leaves.
pub fn strictest(
    policies: &Policies,
    known: &Known<'_>,
    inexact: impl Fn(&BTreeSet<Leave>) -> BTreeSet<String>,
) -> Strictest {
    match answer(policies, known, &inexact) {
        Ok(mut answer) => {
            // Where none is named, the guard lets nobody be contained by itself.
            if known.target.kind.is_identity() && answer.mode > Mode::Propose {
                answer.mode = Mode::Propose;
                answer.reasons.push(format!("{}, and without any a person is asked", Fact::BreakGlass));
            }
            // Where the organization cannot be asked, the guard lets nothing be enforced by a set that asks for it.
            if let [first, ..] = policies.asking_for_units()
                && answer.mode > Mode::Propose
            {
                answer.mode = Mode::Propose;
                answer.reasons.push(format!("{}, and `{first}` asks for it", Fact::Unit));
            }
            let most = Most { inexact: inexact(&Leave::ALL.into()), leaves: Leave::ALL.into() };
            answer.reasons.extend(over(policies, known, answer.mode, &most));
            answer
        }
        // As the guard does when it cannot ask.
        Err(problem) => Strictest {
            mode: Mode::Propose,
            reasons: vec![format!("the guard failed, so a person is asked: {problem}")],
        },
    }
}

fn answer(
    policies: &Policies,
    known: &Known<'_>,
    inexact: impl Fn(&BTreeSet<Leave>) -> BTreeSet<String>,
) -> Result<Strictest, String> {
    let in_force = if known.any_time { policies.all.clone() } else { policies.in_force(known.supposed) };
    let possible: BTreeSet<Leave> = Leave::ALL.into_iter().filter(|leave| leave.is_of(known.target.kind)).collect();
    let every = Most { inexact: inexact(&possible), leaves: possible.clone() };
    let mut leaves = BTreeSet::new();
    for leave in possible {
        // A step without leave is taken out of the plan: what may be in it is what may have leave.
        let voices = voices(&in_force, &policies.expires, known, leave.as_str(), &every, true)?;
        let permitted = voices.iter().any(|voice| voice.permits() && voice.may(Holds));
        let forbidden = voices.iter().any(|voice| !voice.permits() && voice.weighed.may == [Holds].into());
        if permitted && !forbidden {
            leaves.insert(leave);
        }
    }
    let most = Most { inexact: inexact(&leaves), leaves };
    let mut reasons = Vec::new();
    for mode in [Mode::Enforce, Mode::Propose, Mode::Observe] {
        let voices = voices(&in_force, &policies.expires, known, mode.as_str(), &most, mode == Mode::Enforce)?;
        if is_allowed(mode, &voices) {
            let certain = voices.iter().filter(|voice| voice.permits() && !voice.may(HoldsNot));
            let mut because: Vec<String> = certain
                .map(|voice| match voice.may(Holds) {
                    true => format!("{} permitted by {}", mode.as_str(), label(voice.policy)),
                    false => voice.fails(),
                })
                .collect();
            because.sort();
            reasons.extend(because);
            return Ok(Strictest { mode, reasons });
        }
        reasons.extend(objections(mode, &voices));
    }
    Ok(Strictest { mode: Mode::Refuse, reasons })
}

/// The policies whose time is over and that would count: those that would forbid what is answered, or permit more.
fn over(policies: &Policies, known: &Known<'_>, answered: Mode, most: &Most) -> Vec<String> {
    let over = PolicySet::from_policies(policies.over(known.supposed).cloned()).unwrap_or_default();
    let mut reasons = BTreeSet::new();
    // With any time, they are among those that were asked.
    for mode in [Mode::Enforce, Mode::Propose, Mode::Observe].into_iter().filter(|_| !known.any_time) {
        let voices = voices(&over, &policies.expires, known, mode.as_str(), most, true).unwrap_or_default();
        let counts =
            |voice: &&Voice<'_>| voice.may(Holds) && if voice.permits() { mode > answered } else { mode == answered };
        for Voice { policy, .. } in voices.iter().filter(counts) {
            let id = policy.id();
            let until = policies.expires.get(&id.to_string());
            let until = until.map(|until| until.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
            let owner = crate::text::plain(policy.annotation("owner").unwrap_or_default(), 80);
            reasons.insert(format!("`{id}` would count, but expired {until} (owner {owner})"));
        }
    }
    reasons.into_iter().collect()
}

/// Whether the guard's answer is at least this mode, whatever is true. A policy that fails makes it a proposal: that is
/// less than to enforce, and not less than anything else.
fn is_allowed(mode: Mode, voices: &[Voice<'_>]) -> bool {
    voices.iter().any(|voice| voice.permits() && !voice.may(HoldsNot))
        && !voices.iter().any(|voice| !voice.permits() && voice.may(Holds))
        && !(mode == Mode::Enforce && voices.iter().any(|voice| voice.may(Fails)))
}

/// Why a mode is not allowed for certain.
fn objections(mode: Mode, voices: &[Voice<'_>]) -> Vec<String> {
    let name = mode.as_str();
    let (permits, forbids): (Vec<_>, Vec<_>) = voices.iter().partition(|voice| voice.permits());
    let mut against = Vec::new();
    if permits.iter().all(|voice| voice.may(HoldsNot)) {
        if !permits.iter().any(|voice| voice.may(Holds)) {
            return vec![format!("{name} is not permitted by any policy")];
        }
        let perhaps = permits.iter().filter(|voice| voice.may(Holds));
        against.extend(perhaps.flat_map(|voice| voice.depends(&format!("may not permit {name} by it"))));
    }
    for voice in &forbids {
        if voice.weighed.may == [Holds].into() {
            against.push(format!("{name} forbidden by {}", label(voice.policy)));
        } else if voice.may(Holds) {
            against.extend(voice.depends(&format!("may forbid {name} by it")));
        }
    }
    for voice in voices.iter().filter(|voice| mode == Mode::Enforce && voice.may(Fails)) {
        against.extend(voice.weighed.by.is_empty().then(|| voice.fails()));
        against.extend(voice.depends("may fail by it, which asks a person"));
    }
    against.sort();
    against.dedup();
    against
}

/// The most that a plan may hold.
struct Most {
    /// Actions that undo cannot give back exactly.
    inexact: BTreeSet<String>,
    /// Leaves that its steps want.
    leaves: BTreeSet<Leave>,
}

/// What each policy may come to for one action. `strictly`: the security account is open too, unless it is known, and
/// whether somebody is a break-glass principal.
fn voices<'a>(
    policies: &'a PolicySet,
    expires: &BTreeMap<String, Timestamp>,
    known: &Known<'_>,
    action: &str,
    most: &Most,
    strictly: bool,
) -> Result<Vec<Voice<'a>>, String> {
    let no_tags = Default::default();
    let world = |steps, most: &Most, spent| {
        let question = Question {
            playbook: known.playbook,
            target: known.target,
            tags: &no_tags,
            // What asks for them is open.
            units: Err("not without AWS"),
            finding: known.finding,
            plan: PlanFacts { steps, inexact: most.inexact.clone(), leaves: most.leaves.clone(), arn: None },
            spent_account: spent,
            spent_total: spent,
            now: known.supposed,
            hub_account: known.hub_account.unwrap_or_default(),
            break_glass: &[],
        };
        request(&question, &no_tags, action)
    };
    let is_principal = known.target.kind.is_identity();
    let mut open: BTreeSet<Fact> =
        [Fact::Tags, Fact::Unit, Fact::Budgets, Fact::Steps, Fact::Inexact, Fact::Leaves].into();
    if strictly || !is_principal {
        open.insert(Fact::BreakGlass);
    }
    if strictly && is_principal {
        open.insert(Fact::Who);
    }
    if strictly && known.hub_account.is_none() {
        open.insert(Fact::SecurityAccount);
    }
    if known.any_time {
        open.insert(Fact::Time);
    }
    let scale = Scale {
        open,
        is_principal,
        least: world(0, &Most { inexact: BTreeSet::new(), leaves: BTreeSet::new() }, 0)?,
        most: world(usize::MAX, most, u64::MAX)?,
    };
    let weigh = |policy: &'a Policy| {
        let mut weighed = scale.policy(policy)?;
        // At some time it is over.
        if known.any_time && expires.contains_key(&policy.id().to_string()) && weighed.may.insert(HoldsNot) {
            weighed.by.insert(Fact::Time);
        }
        Ok(Voice { policy, weighed })
    };
    policies.policies().map(weigh).collect()
}

/// What weighs policies: the two ends of what is unknown and bounded, and what is open.
struct Scale {
    open: BTreeSet<Fact>,
    is_principal: bool,
    least: (Request, Entities),
    most: (Request, Entities),
}

impl Scale {
    fn policy(&self, policy: &Policy) -> Result<Weighed, String> {
        let whole = policy.to_pst().map_err(|error| error.to_string())?;
        let scope = whole.body().clone().try_with_clauses([]).map_err(|error| error.to_string())?;
        let mut weighed = Weighed { may: [self.ask(scope, &self.least)?].into(), by: BTreeSet::new() };
        let mut problem = None;
        for clause in whole.body().clauses() {
            weighed = weighed.unless_ended(HoldsNot, || {
                let (condition, negated) = match clause {
                    Clause::When(condition) => (condition, false),
                    Clause::Unless(condition) => (condition, true),
                };
                let weighed = self.weigh(condition).unwrap_or_else(|error| {
                    problem = Some(error);
                    Weighed::default()
                });
                if negated { weighed.not() } else { weighed }
            });
        }
        if weighed.may.len() < 2 {
            weighed.by.clear();
        }
        problem.map_or(Ok(weighed), Err)
    }

    fn weigh(&self, expression: &Arc<Expr>) -> Result<Weighed, String> {
        let by = self.unknown(expression);
        if by.is_empty() {
            return Ok(Weighed { may: [self.evaluate(expression, &self.least)?].into(), by });
        }
        match expression.as_ref() {
            Expr::UnaryOp { op: UnaryOp::Not, expr } => return Ok(self.weigh(expr)?.not()),
            Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), left, right } => {
                let end = if *op == BinaryOp::And { HoldsNot } else { Holds };
                // Both are weighed before either is known to matter: an error of ours is an error.
                let (left, right) = (self.weigh(left)?, self.weigh(right)?);
                return Ok(left.unless_ended(end, || right));
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                let (cond, yes, no) = (self.weigh(cond)?, self.weigh(then_expr)?, self.weigh(else_expr)?);
                let mut weighed = Weighed { may: cond.may.clone(), by: cond.by };
                weighed.may.retain(|outcome| *outcome == Fails);
                for (when, then) in [(Holds, yes), (HoldsNot, no)] {
                    if cond.may.contains(&when) {
                        weighed.may.extend(then.may);
                        weighed.by.extend(then.by);
                    }
                }
                return Ok(weighed);
            }
            _ => {}
        }
        if self.rises_or_falls(expression) {
            let ends = [self.evaluate(expression, &self.least)?, self.evaluate(expression, &self.most)?];
            return Ok(Weighed { may: ends.into(), by });
        }
        if !self.is_principal && asks_for_break_glass(expression) {
            return Ok(Weighed { may: [HoldsNot].into(), by: BTreeSet::new() });
        }
        let mut may = BTreeSet::from([Holds, HoldsNot]);
        if may_fail(expression) {
            may.insert(Fails);
        }
        Ok(Weighed { may, by })
    }

    /// Whether an expression goes one way only as the one unknown in it grows: then its ends say all. The unknown is
    /// one operand, and is bounded: a number, the set of actions that undo cannot give back, or that of leaves.
    fn rises_or_falls(&self, expression: &Expr) -> bool {
        let is = |expression: &Expr, bounded: &[[&str; 2]]| match path(expression) {
            Some((Var::Context, path)) => bounded.iter().any(|bounded| path == bounded),
            _ => false,
        };
        let is_number = |expression: &Expr| {
            is(expression, &[["budget", "account_this_hour"], ["budget", "total_this_hour"], ["plan", "steps"]])
        };
        let is_set = |expression: &Expr| is(expression, &[["plan", "inexact"], ["plan", "leaves"]]);
        let is_known = |expression: &Expr| self.unknown(expression).is_empty();
        match expression {
            Expr::UnaryOp { op: UnaryOp::IsEmpty, expr } => is_set(expr),
            Expr::BinaryOp { op, left, right } => match op {
                BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq => {
                    (is_number(left) && is_known(right)) || (is_known(left) && is_number(right))
                }
                BinaryOp::ContainsAll | BinaryOp::ContainsAny => {
                    (is_set(left) && is_known(right)) || (is_known(left) && is_set(right))
                }
                BinaryOp::Contains => is_set(left) && is_known(right),
                _ => false,
            },
            _ => false,
        }
    }

    /// What an expression depends on of what is open.
    fn unknown(&self, expression: &Expr) -> BTreeSet<Fact> {
        let mut facts = BTreeSet::new();
        look(expression, &mut facts);
        facts.intersection(&self.open).copied().collect()
    }

    /// What Cedar says of a condition.
    fn evaluate(&self, condition: &Arc<Expr>, world: &(Request, Entities)) -> Result<Outcome, String> {
        let policy = pst::Template::new(
            "condition",
            pst::Effect::Permit,
            pst::PrincipalConstraint::Any,
            pst::ActionConstraint::Any,
            pst::ResourceConstraint::Any,
        );
        let policy = policy.try_with_clauses([Clause::When(condition.clone())]).map_err(|error| error.to_string())?;
        self.ask(policy, world)
    }

    fn ask(&self, policy: pst::Template, world: &(Request, Entities)) -> Result<Outcome, String> {
        let policy = pst::StaticPolicy::try_from(policy).map_err(|error| error.to_string())?;
        let policy = Policy::from_pst(pst::Policy::Static(policy)).map_err(|error| error.to_string())?;
        let policy = policy.new_id(PolicyId::new("asked"));
        let alone = PolicySet::from_policies([policy]).map_err(|error| error.to_string())?;
        let (request, entities) = world;
        let response = Authorizer::new().is_authorized(request, &alone, entities);
        let failed = response.diagnostics().errors().next().is_some();
        let holds = response.diagnostics().reason().next().is_some();
        Ok(if failed {
            Fails
        } else if holds {
            Holds
        } else {
            HoldsNot
        })
    }
}

/// `context.budget.total_this_hour` as its variable and attributes.
fn path(expression: &Expr) -> Option<(Var, Vec<&str>)> {
    match expression {
        Expr::Var(var) => Some((var.clone(), Vec::new())),
        Expr::GetAttr { expr, attr } => {
            let (var, mut path) = path(expr)?;
            path.push(attr.as_str());
            Some((var, path))
        }
        _ => None,
    }
}

/// Every fact that an expression may read. What is read in a roundabout way counts as all that it may be.
fn look(expression: &Expr, facts: &mut BTreeSet<Fact>) {
    if let Some((var, path)) = path(expression) {
        match (var, path.as_slice()) {
            (Var::Context, []) => facts.extend([
                Fact::Budgets,
                Fact::Steps,
                Fact::Inexact,
                Fact::Leaves,
                Fact::BreakGlass,
                Fact::SecurityAccount,
                Fact::Time,
            ]),
            (Var::Context, ["budget", ..]) => facts.extend([Fact::Budgets]),
            (Var::Context, ["plan"]) => facts.extend([Fact::Steps, Fact::Inexact, Fact::Leaves]),
            (Var::Context, ["plan", "leaves"]) => facts.extend([Fact::Leaves]),
            (Var::Context, ["plan", "steps"]) => facts.extend([Fact::Steps]),
            (Var::Context, ["plan", "inexact"]) => facts.extend([Fact::Inexact]),
            (Var::Context, ["break_glass"]) => facts.extend([Fact::BreakGlass]),
            (Var::Context, ["hub_account"]) => facts.extend([Fact::SecurityAccount]),
            (Var::Context, ["now"] | ["finding"] | ["finding", "age_minutes"]) => facts.extend([Fact::Time]),
            (_, ["ou" | "ous"]) => facts.extend([Fact::Unit]),
            (_, ["arn"]) => facts.extend([Fact::Who]),
            _ => {}
        }
        return;
    }
    let mut all = |parts: &[&Arc<Expr>]| parts.iter().for_each(|part| look(part, facts));
    match expression {
        Expr::GetAttr { expr, attr } => {
            all(&[expr]);
            facts.extend(of_target(attr));
        }
        // Whether the context has something is known; whether a target has a unit or is somebody is not.
        Expr::HasAttr { expr, attrs } => {
            if path(expr).is_none_or(|(var, _)| var != Var::Context) {
                all(&[expr]);
            }
            facts.extend(attrs.iter().filter_map(|attr| of_target(attr)));
        }
        Expr::BinaryOp { op, left, right } => {
            all(&[left, right]);
            if matches!(op, BinaryOp::GetTag | BinaryOp::HasTag) {
                facts.insert(Fact::Tags);
            }
        }
        Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } => all(&[expr]),
        Expr::Is { expr, in_expr, .. } => {
            all(&[expr]);
            all(&in_expr.iter().collect::<Vec<_>>());
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => all(&[cond, then_expr, else_expr]),
        Expr::Set(parts) => parts.iter().for_each(|part| look(part, facts)),
        Expr::Record(parts) => parts.values().for_each(|part| look(part, facts)),
        Expr::Literal(_) | Expr::Var(_) => {}
        // A form that this version of Cedar does not have.
        _ => facts.extend([Fact::Tags, Fact::Unit, Fact::Who]),
    }
}

/// What an attribute that a target may have depends on.
fn of_target(attribute: &str) -> Option<Fact> {
    match attribute {
        "ou" | "ous" => Some(Fact::Unit),
        "arn" => Some(Fact::Who),
        _ => None,
    }
}

/// `context.break_glass.contains(resource.id)`.
fn asks_for_break_glass(expression: &Expr) -> bool {
    let Expr::BinaryOp { op: BinaryOp::Contains, left, right } = expression else { return false };
    matches!(path(left), Some((Var::Context, path)) if path == ["break_glass"])
        && matches!(path(right), Some((Var::Resource, path)) if path == ["id"])
}

/// Whether it can fail in a valid set: numbers and times may become too large.
fn may_fail(expression: &Expr) -> bool {
    let any = |parts: &[&Arc<Expr>]| parts.iter().any(|part| may_fail(part));
    match expression {
        Expr::Literal(_) | Expr::Var(_) => false,
        Expr::UnaryOp { op, expr } => {
            matches!(op, UnaryOp::Neg | UnaryOp::Datetime | UnaryOp::Decimal | UnaryOp::Duration | UnaryOp::Ip)
                && !matches!(expr.as_ref(), Expr::Literal(_))
                || may_fail(expr)
        }
        Expr::BinaryOp { op, left, right } => {
            let overflows = matches!(
                op,
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Offset | BinaryOp::DurationSince
            );
            overflows || any(&[left, right])
        }
        Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } | Expr::Like { expr, .. } => may_fail(expr),
        Expr::Is { expr, in_expr, .. } => may_fail(expr) || in_expr.as_ref().is_some_and(|part| may_fail(part)),
        Expr::IfThenElse { cond, then_expr, else_expr } => any(&[cond, then_expr, else_expr]),
        Expr::Set(parts) => parts.iter().any(|part| may_fail(part)),
        Expr::Record(parts) => parts.values().any(|part| may_fail(part)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
