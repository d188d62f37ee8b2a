//! The guard: decides what a playbook may do now. One Cedar policy set answers every question, so there
//! are no mode flags, severity thresholds, allow lists or quiet hours anywhere else.
//!
//! Cedar skips a policy whose evaluation errors, a `forbid` too. Any decision with an error in its
//! diagnostics is therefore a failure of the guard: propose, and raise an alarm.

pub mod people;
mod strictest;
mod warnings;

pub use strictest::{Known, Strictest, strictest};
pub use warnings::Warning;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::OnceLock;

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Effect, Entities, Entity, EntityTypeName, EntityUid, ParseErrors,
    Policy, PolicyId, PolicySet, PrincipalConstraint, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use jiff::{SignedDuration, Timestamp};
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use crate::finding::{Finding, Source};
use crate::plan::{Leave, Plan, hex};
use crate::run::Mode;
use crate::target::Target;
use crate::units::Units;

/// What a policy can see.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The set that is compiled in: propose everything, enforce nothing.
pub const DEFAULT: &str = include_str!("default.cedar");

/// A policy set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is not Cedar.
    #[error("policy set does not parse: {0}")]
    Parse(String),
    /// The text is Cedar, but does not fit the schema.
    #[error("policy set does not validate: {0}")]
    Invalid(String),
    /// Two policies have the same `@id`, or one has none.
    #[error("policy {0}: every policy needs an `@id` of its own")]
    Id(String),
    /// An annotation does not parse.
    #[error("policy `{id}`: `@{annotation}`: {problem}")]
    Annotation {
        /// The policy.
        id: String,
        /// The annotation.
        annotation: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// A set of policies, ready to be asked.
#[derive(Debug, Clone)]
pub struct Policies {
    all: PolicySet,
    expires: BTreeMap<String, Timestamp>,
    asking_for_units: OnceLock<Vec<String>>,
    /// SHA-256 of the text, in hexadecimal digits.
    pub sha256: String,
}

impl Policies {
    /// Parses a set. Its annotations are checked; its types only by [`Policies::validate`].
    pub fn parse(source: &str) -> Result<Self, PolicyError> {
        if is_too_deep(source) {
            return Err(PolicyError::Parse(format!("it is nested more than {MOST_DEEP} deep")));
        }
        let parsed = PolicySet::from_str(source).map_err(|error| PolicyError::Parse(place(source, &error)))?;
        let mut all = PolicySet::new();
        let mut expires = BTreeMap::new();
        for policy in parsed.policies() {
            let id = policy.annotation("id").unwrap_or_default().to_owned();
            let named = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !named {
                return Err(PolicyError::Id(crate::text::quoted(policy.id().to_string().as_str())));
            }
            let bad = |annotation, problem: String| PolicyError::Annotation { id: id.clone(), annotation, problem };
            if let Some(until) = policy.annotation("expires") {
                let until = until.parse().map_err(|error: jiff::Error| bad("expires", error.to_string()))?;
                if policy.annotation("owner").unwrap_or_default().is_empty() {
                    return Err(bad("owner", "what expires needs an owner".to_owned()));
                }
                expires.insert(id.clone(), until);
            }
            if let Some(hold) = policy.annotation("hold") {
                parse_hold(hold).ok_or_else(|| bad("hold", "write `72h` or `14d`".to_owned()))?;
                if policy.effect() == Effect::Forbid {
                    return Err(bad("hold", "only a permit can have one".to_owned()));
                }
            }
            all.add(policy.new_id(PolicyId::new(&id))).map_err(|_| PolicyError::Id(crate::text::quoted(&id)))?;
        }
        Ok(Self { all, expires, asking_for_units: OnceLock::new(), sha256: Self::hash_of(source) })
    }

    /// The hash by which a text is accepted: SHA-256 in hexadecimal digits.
    pub fn hash_of(source: &str) -> String {
        hex(&Sha256::digest(source.as_bytes()))
    }

    /// Checks the set strictly against the schema. Done when a set is published and by `explain`, not
    /// when it is loaded: it takes longer than everything else about a decision.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let (schema, _) =
            Schema::from_cedarschema_str(SCHEMA).map_err(|error| PolicyError::Invalid(error.to_string()))?;
        let result = Validator::new(schema).validate(&self.all, ValidationMode::Strict);
        match result.validation_errors().map(ToString::to_string).collect::<Vec<_>>() {
            errors if errors.is_empty() => Ok(()),
            errors => {
                let says = |word: &str| errors.iter().any(|error| error.contains(word));
                let hint = match () {
                    () if says("decimal") => HINT,
                    () if says("Person and Playbook") => WHOSE,
                    () => "",
                };
                Err(PolicyError::Invalid(format!("{}{hint}", errors.join("; "))))
            }
        }
    }

    /// Without the policies whose time is over.
    fn in_force(&self, now: Timestamp) -> PolicySet {
        let mut set = self.all.clone();
        for (id, until) in &self.expires {
            if *until <= now {
                // The id came out of this very set.
                let _ = set.remove_static(PolicyId::new(id));
            }
        }
        set
    }

    /// The policies whose time is over.
    fn over(&self, now: Timestamp) -> impl Iterator<Item = &Policy> {
        let over = self.expires.iter().filter(move |(_, until)| **until <= now);
        over.filter_map(|(id, _)| self.all.policy(&PolicyId::new(id)))
    }

    /// A policy that asks which account is the security account, when there is one.
    pub fn asking_for_hub_account(&self) -> Option<String> {
        let asking = self.all.policies().filter(|policy| names(policy, &["hub_account"]));
        asking.map(|policy| policy.id().to_string()).min()
    }

    /// The ids of policies, of either effect, that ask where the account stands in the organization. Looked
    /// for when first asked, which is not on the way to a function's first event.
    pub fn asking_for_units(&self) -> &[String] {
        self.asking_for_units.get_or_init(|| {
            let asking = self.all.policies().filter(|policy| names(policy, &["ou", "ous"]));
            asking.map(|policy| policy.id().to_string()).collect()
        })
    }
}

impl Default for Policies {
    fn default() -> Self {
        // The compiled-in text is parsed by a test; if it could not be, an empty set permits nothing.
        Self::parse(DEFAULT).unwrap_or_else(|_| Self {
            all: PolicySet::new(),
            expires: BTreeMap::new(),
            asking_for_units: OnceLock::new(),
            sha256: String::new(),
        })
    }
}

/// How a number with a point is compared: the operators take whole numbers only.
const HINT: &str = r#"; a decimal is compared by a method: `.greaterThanOrEqual(decimal("7.0"))`"#;

/// People are principals too: what compares the principal with a playbook is about playbooks.
const WHOSE: &str =
    "; what is about playbooks says `principal is Playbook`, what is about people `principal is Person`";

/// How deep brackets may stand in each other, and how many conditions (`if`) in one policy. Cedar's parser calls itself for
/// each, and would end the process for want of stack.
const MOST_DEEP: usize = 40;

/// Whether something is nested too deep to be parsed, in any policy. What stands in strings and comments nests nothing.
fn is_too_deep(source: &str) -> bool {
    let (mut depth, mut ifs) = (0_usize, 0_usize);
    let mut word = String::new();
    let mut rest = source.chars().chain([' ']).peekable();
    while let Some(c) = rest.next() {
        if c == '"' {
            // To the next quote that no backslash stands before.
            while let Some(c) = rest.next() {
                match c {
                    '"' => break,
                    '\\' => _ = rest.next(),
                    _ => {}
                }
            }
        } else if c == '/' && rest.peek() == Some(&'/') {
            rest.by_ref().find(|c| *c == '\n');
        }
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        ifs += usize::from(word == "if");
        word.clear();
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ';' => (depth, ifs) = (0, 0),
            _ => {}
        }
        if depth > MOST_DEEP || ifs > MOST_DEEP {
            return true;
        }
    }
    false
}

/// What does not parse, after its line and column, both counted from 1.
fn place(source: &str, error: &ParseErrors) -> String {
    let at = error.labels().and_then(|mut labels| labels.next()).and_then(|label| source.get(..label.offset()));
    let Some(before) = at else { return error.to_string() };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    // Of `7.0` Cedar reads the access of a member of 7, and stumbles over the 0.
    let whole = before.strip_suffix('.').is_some_and(|whole| whole.ends_with(|c: char| c.is_ascii_digit()));
    format!("line {line}, column {column}: {error}{}", if whole { HINT } else { "" })
}

/// Whether a policy names one of these words, as an attribute or in any other place.
fn names(policy: &Policy, words: &[&str]) -> bool {
    let text = policy.to_json().map(|json| json.to_string()).unwrap_or_default();
    words.iter().any(|word| text.contains(&format!("\"{word}\"")))
}

/// Whether a policy's scope may hold for a principal of this kind and one of these actions.
fn may_hold(policy: &Policy, kind: &str, is_action: impl Fn(&str) -> bool) -> bool {
    let is_kind = |name: &EntityTypeName| name.to_string() == kind;
    let is_one = |action: &EntityUid| is_action(action.id().unescaped());
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(name) | PrincipalConstraint::IsIn(name, _) => is_kind(&name),
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) => is_kind(uid.type_name()),
    };
    principal
        && match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::In(actions) => actions.iter().any(is_one),
            ActionConstraint::Eq(action) => is_one(&action),
        }
}

fn parse_hold(text: &str) -> Option<SignedDuration> {
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    let count: i64 = digits.parse().ok().filter(|n| (1..=8760).contains(n))?;
    match unit {
        "h" => Some(SignedDuration::from_hours(count)),
        "d" => Some(SignedDuration::from_hours(count * 24)),
        _ => None,
    }
}

/// What of a plan a policy sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanFacts {
    /// How many steps it has.
    pub steps: usize,
    /// The actions in it that undo cannot give back exactly.
    pub inexact: BTreeSet<String>,
    /// The leaves that its steps want.
    pub leaves: BTreeSet<Leave>,
    /// The ARN of a target that is somebody.
    pub arn: Option<String>,
}

impl From<&Plan> for PlanFacts {
    fn from(plan: &Plan) -> Self {
        let inexact = plan.steps().filter(|step| step.caveat.is_some()).map(|step| step.action.clone());
        Self {
            steps: plan.steps().count(),
            inexact: inexact.collect(),
            leaves: plan.steps().filter_map(|step| step.leave).collect(),
            arn: plan.arn.as_ref().map(ToString::to_string),
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// The playbook's id.
    pub playbook: &'a str,
    /// The target.
    pub target: &'a Target,
    /// The target's tags. Hostile.
    pub tags: &'a BTreeMap<String, String>,
    /// Where the target's account stands in the organization, or why that is not known.
    pub units: Result<&'a Units, &'a str>,
    /// The finding, as its own service gave it.
    pub finding: &'a Finding,
    /// What of the plan a policy sees.
    pub plan: PlanFacts,
    /// Runs begun this hour in the account.
    pub spent_account: u64,
    /// Runs begun this hour in all accounts.
    pub spent_total: u64,
    /// The time.
    pub now: Timestamp,
    /// The security account.
    pub hub_account: &'a str,
    /// Principals that are never touched: ARNs. One with `*` for its account is that of every account.
    pub break_glass: &'a [String],
}

/// What the guard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// The strongest mode that is allowed.
    pub mode: Mode,
    /// The leaves that are given.
    pub leaves: BTreeSet<Leave>,
    /// Why, in words: the policies that decided, by `@id`, with their `@reason`.
    pub reasons: Vec<String>,
    /// After how many seconds the hold's end is put to a person.
    pub hold_seconds: Option<i64>,
    /// Whom the policies that decided name by `@owner`: those that forbid more before those that permit.
    pub owner: Option<String>,
    /// Whether a policy could not be evaluated: an alarm.
    pub failed: bool,
    /// Whether more would be allowed were not everything stopped.
    pub stopped: bool,
}

/// Asks the policies. A set that asks where the account stands in the organization gets no answer to that when
/// it is not known: then a person is asked at most, and no leave is given.
pub fn rule(policies: &Policies, question: &Question<'_>) -> Ruling {
    let mut ruling = rule_by_tags(policies, question);
    if let (Err(why), [first, ..]) = (question.units, policies.asking_for_units()) {
        ruling.mode = ruling.mode.min(Mode::Propose);
        ruling.leaves.clear();
        let account = &question.target.account;
        let why =
            format!("the organizational unit of account {account} is not known ({why}), and `{first}` asks for it");
        ruling.reasons.insert(0, why);
    }
    ruling
}

/// Tags are looked at once present and once absent, and the stricter answer counts: whoever can tag a resource
/// can make the guard stricter and never laxer.
fn rule_by_tags(policies: &Policies, question: &Question<'_>) -> Ruling {
    let in_force = policies.in_force(question.now);
    let with = ask(&in_force, question, question.tags);
    if question.tags.is_empty() {
        return sure_of_whom(question, with);
    }
    let without = ask(&in_force, question, &BTreeMap::new());
    let leaves = with.leaves.intersection(&without.leaves).copied().collect();
    let failed = with.failed || without.failed;
    let stricter = if with.mode <= without.mode { with } else { without };
    sure_of_whom(question, Ruling { leaves, failed, ..stricter })
}

/// Whatever the policies say: somebody is contained without a person only where it can be told that they are not
/// break-glass. Whoever locks the last administrator out has made the incident worse than it was.
fn sure_of_whom(question: &Question<'_>, mut ruling: Ruling) -> Ruling {
    if !question.target.kind.is_identity() || ruling.mode < Mode::Enforce {
        return ruling;
    }
    let why = if question.break_glass.is_empty() {
        "no break-glass principal is named, so nobody's identity is contained without a person"
    } else if question.plan.arn.is_none() {
        "it is not known who it is, so it cannot be told whether it is break-glass"
    } else {
        return ruling;
    };
    ruling.mode = Mode::Propose;
    ruling.reasons.insert(0, why.to_owned());
    ruling
}

fn ask(policies: &PolicySet, question: &Question<'_>, tags: &BTreeMap<String, String>) -> Ruling {
    let mut reasons = Vec::new();
    let mut owner = None;
    for mode in [Mode::Enforce, Mode::Propose, Mode::Observe] {
        match decide(policies, question, tags, mode.as_str()) {
            Err(problem) => {
                return Ruling {
                    mode: Mode::Propose,
                    leaves: BTreeSet::new(),
                    reasons: vec![format!("the guard failed, so a person is asked: {problem}")],
                    hold_seconds: None,
                    owner: None,
                    failed: true,
                    stopped: false,
                };
            }
            Ok(answer) if mode == Mode::Enforce && !answer.names_requests && answer.allowed && asked_for(question) => {
                reasons.push(format!(
                    "enforce is permitted by {}, and none of it names requests",
                    answer.because.join(", ")
                ));
            }
            Ok(answer) if answer.allowed => {
                reasons.extend(answer.because.iter().map(|why| format!("{} permitted by {why}", mode.as_str())));
                let leaves = match mode {
                    // A proposal holds what an approval would carry out.
                    Mode::Enforce | Mode::Propose => Leave::ALL
                        .into_iter()
                        .filter(|leave| {
                            matches!(decide(policies, question, tags, leave.as_str()), Ok(given) if given.allowed)
                        })
                        .collect(),
                    _ => BTreeSet::new(),
                };
                let owner = owner.or(answer.owner);
                return Ruling {
                    mode,
                    leaves,
                    reasons,
                    hold_seconds: answer.hold_seconds,
                    owner,
                    failed: false,
                    stopped: false,
                };
            }
            Ok(answer) if answer.because.is_empty() => {
                reasons.push(format!("{} is not permitted by any policy", mode.as_str()));
            }
            Ok(answer) => {
                owner = owner.or(answer.owner);
                reasons.extend(answer.because.iter().map(|why| format!("{} forbidden by {why}", mode.as_str())));
            }
        }
    }
    Ruling {
        mode: Mode::Refuse,
        leaves: BTreeSet::new(),
        reasons,
        hold_seconds: None,
        owner: None,
        failed: false,
        stopped: false,
    }
}

/// Whether a person asked by hand. Who wrote that everything of an account is enforced thought of findings: what somebody
/// asks for is done at once only where a policy says so of requests.
fn asked_for(question: &Question<'_>) -> bool {
    question.finding.source == Source::Request
}

struct Answer {
    /// Whether a policy that decided names requests by hand.
    names_requests: bool,
    allowed: bool,
    because: Vec<String>,
    hold_seconds: Option<i64>,
    owner: Option<String>,
}

fn decide(
    policies: &PolicySet,
    question: &Question<'_>,
    tags: &BTreeMap<String, String>,
    action: &str,
) -> Result<Answer, String> {
    let (request, entities) = request(question, tags, action)?;
    let response = Authorizer::new().is_authorized(&request, policies, &entities);
    let errors: Vec<String> = response.diagnostics().errors().map(|error| error.to_string()).collect();
    if !errors.is_empty() {
        return Err(crate::text::plain(&errors.join("; "), 300));
    }
    let mut because = Vec::new();
    let mut hold_seconds: Option<i64> = None;
    let mut owners = std::collections::BTreeSet::new();
    let mut names_requests = false;
    for id in response.diagnostics().reason() {
        let Some(policy) = policies.policy(id) else { continue };
        because.push(label(policy));
        names_requests |= asked_for(question) && names(policy, &[Source::Request.as_str()]);
        owners.extend(policy.annotation("owner").filter(|owner| !owner.is_empty()).map(|o| crate::text::plain(o, 80)));
        if let Some(hold) = policy.annotation("hold").and_then(parse_hold) {
            // Several permits: the shortest hold asks a person soonest.
            hold_seconds = Some(hold_seconds.map_or(hold.as_secs(), |other| other.min(hold.as_secs())));
        }
    }
    because.sort();
    Ok(Answer {
        names_requests,
        allowed: response.decision() == Decision::Allow,
        because,
        hold_seconds,
        owner: owners.pop_first(),
    })
}

/// A policy as reasons name it: by `@id`, with its `@reason`.
fn label(policy: &Policy) -> String {
    let id = policy.id();
    match policy.annotation("reason") {
        Some(reason) => format!("`{id}`: {}", crate::text::plain(reason, 160)),
        None => format!("`{id}`"),
    }
}

fn request(
    question: &Question<'_>,
    tags: &BTreeMap<String, String>,
    action: &str,
) -> Result<(Request, Entities), String> {
    let (resource, entity) = target(question, tags)?;
    let entities = Entities::from_entities([entity], None).map_err(|error| error.to_string())?;
    let context = Context::from_pairs(facts(question)?).map_err(|error| error.to_string())?;
    let request = Request::new(uid("Playbook", question.playbook)?, uid("Action", action)?, resource, context, None)
        .map_err(|error| error.to_string())?;
    Ok((request, entities))
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = kind.parse().map_err(|error| format!("{error}"))?;
    let id = cedar_policy::EntityId::new(id);
    Ok(EntityUid::from_type_name_and_id(kind, id))
}

fn string(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn record(fields: Vec<(&str, RestrictedExpression)>) -> Result<RestrictedExpression, String> {
    RestrictedExpression::new_record(fields.into_iter().map(|(k, v)| (k.to_owned(), v)))
        .map_err(|error| error.to_string())
}

/// The target as policies see it.
fn target(question: &Question<'_>, tags: &BTreeMap<String, String>) -> Result<(EntityUid, Entity), String> {
    let target = question.target;
    let resource = uid("Target", &target.to_string())?;
    let mut attributes = vec![
        ("account", string(target.account.as_str())),
        ("partition", string(target.partition.as_str())),
        ("region", string(target.region.as_ref().map_or("global", |region| region.as_str()))),
        ("kind", string(target.kind.as_str())),
        ("id", string(&target.id)),
    ];
    if let Ok(units) = question.units {
        attributes.push(("ou", string(&units.ou)));
        attributes.push(("ous", RestrictedExpression::new_set(units.ous.iter().map(|unit| string(unit)))));
    }
    attributes.extend(question.plan.arn.as_deref().map(|arn| ("arn", string(arn))));
    let entity = Entity::new_with_tags(
        resource.clone(),
        attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<HashMap<_, _>>(),
        [],
        tags.iter().map(|(k, v)| (k.clone(), string(v))),
    )
    .map_err(|error| error.to_string())?;
    Ok((resource, entity))
}

/// What policies see besides.
fn facts(question: &Question<'_>) -> Result<Vec<(String, RestrictedExpression)>, String> {
    let target = question.target;
    let finding = question.finding;
    let mut fields = vec![
        ("source", string(finding.source.as_str())),
        ("type", string(&finding.finding_type)),
        ("severity", RestrictedExpression::new_decimal(format!("{:.4}", finding.severity))),
        ("sample", RestrictedExpression::new_bool(finding.sample)),
    ];
    if let Some(control) = &finding.control {
        fields.push(("control", string(control.name())));
    }
    if let Some(last_seen) = finding.last_seen {
        let minutes = question.now.duration_since(last_seen).as_mins().max(0);
        fields.push(("age_minutes", RestrictedExpression::new_long(minutes)));
    }
    let now = question.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok(vec![
        ("finding".to_owned(), record(fields)?),
        (
            "plan".to_owned(),
            record(vec![
                ("steps", long(u64::try_from(question.plan.steps).unwrap_or(u64::MAX))),
                ("inexact", RestrictedExpression::new_set(question.plan.inexact.iter().map(|action| string(action)))),
                (
                    "leaves",
                    RestrictedExpression::new_set(question.plan.leaves.iter().map(|leave| string(leave.as_str()))),
                ),
            ])?,
        ),
        (
            "budget".to_owned(),
            record(vec![
                ("account_this_hour", long(question.spent_account)),
                ("total_this_hour", long(question.spent_total)),
            ])?,
        ),
        ("now".to_owned(), RestrictedExpression::new_datetime(now)),
        ("hub_account".to_owned(), string(question.hub_account)),
        (
            "break_glass".to_owned(),
            RestrictedExpression::new_set(
                question
                    .break_glass
                    .iter()
                    .map(|principal| string(&principal.replacen(":iam::*:", &format!(":iam::{}:", target.account), 1))),
            ),
        ),
    ])
}

#[cfg(test)]
mod tests;
