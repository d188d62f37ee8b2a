//! Warnings: what a valid set says that does not do what it seems to do.

use std::fmt;

use cedar_policy::{ActionConstraint, Effect, Policy, PrincipalConstraint};
use jiff::Timestamp;
use serde_json::Value;

use super::people::lets_people;
use super::{Policies, may_hold};
use crate::ids::AccountId;
use crate::ledger::decisions::Verb;
use crate::plan::Leave;
use crate::run::Mode;
use crate::target::TargetKind;
use crate::text::quoted;

/// The annotations that mean something.
const ANNOTATIONS: [&str; 5] = ["id", "reason", "hold", "owner", "expires"];

/// The policies of the starter set that belong into every set.
const NEVER: [&str; 3] = ["never-the-security-account", "never-break-glass", "never-a-sample"];

/// Something in a set that is most likely a mistake. None makes it invalid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A policy names a playbook that there is not, so it never counts.
    Playbook {
        /// The policy.
        policy: String,
        /// What it names.
        playbook: String,
    },
    /// A policy has an annotation that nobody reads.
    Annotation {
        /// The policy.
        policy: String,
        /// The annotation, without `@`.
        annotation: String,
    },
    /// A policy's time is over, so it does not count.
    Expired {
        /// The policy.
        policy: String,
        /// Since when.
        since: Timestamp,
    },
    /// A policy compares an account with what is not the id of one.
    Account {
        /// The policy.
        policy: String,
        /// What it compares with.
        account: String,
    },
    /// A policy compares something with a word that it never is.
    Word {
        /// The policy.
        policy: String,
        /// The word.
        word: String,
        /// What it is not.
        is_no: &'static str,
        /// The words that there are.
        words: Vec<&'static str>,
    },
    /// A policy exempts something of what is there by its account, place, id or ARN, and nobody answers for that.
    Ownerless(String),
    /// No policy in force permits any of the modes.
    PermitsNothing,
    /// No policy in force permits people one of what they must be able to say: to approve, to reject or to undo.
    NobodyDecides(Vec<&'static str>),
    /// A policy names a person as nobody is known here, so it never counts.
    Person {
        /// The policy.
        policy: String,
        /// What it names.
        person: String,
    },
    /// A policy forbids people everything that it forbids playbooks, to undo among it.
    ForbidsPeople(String),
    /// One of the policies that belong into every set is missing, judged by its id.
    Never(&'static str),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Playbook { policy, playbook } => {
                write!(
                    f,
                    "policy `{policy}`: there is no playbook {}, so what it says of it never counts",
                    quoted(playbook)
                )
            }
            Self::Annotation { policy, annotation } => {
                write!(f, "policy `{policy}`: nobody reads `@{annotation}`; there are @{}", ANNOTATIONS.join(", @"))
            }
            Self::Expired { policy, since } => {
                write!(f, "policy `{policy}`: expired {}, so it does not count", since.strftime("%Y-%m-%d"))
            }
            Self::Account { policy, account } => {
                write!(f, "policy `{policy}`: {} is not the id of an account: 12 digits", quoted(account))
            }
            Self::Word { policy, word, is_no, words } => write!(
                f,
                "policy `{policy}`: {} is no {is_no}, so nothing is ever equal to it; there are {}",
                quoted(word),
                words.join(", ")
            ),
            Self::Ownerless(policy) => {
                write!(f, "policy `{policy}`: it is an exemption without an owner: say by `@owner` who answers for it")
            }
            Self::PermitsNothing => {
                f.write_str("no policy permits to enforce, to propose or to observe: every finding is refused")
            }
            Self::NobodyDecides(verbs) => write!(
                f,
                "no policy permits people to {}: write `permit (principal is Person, action, resource);`",
                verbs.join(", to ")
            ),
            Self::Person { policy, person } => write!(
                f,
                "policy `{policy}`: nobody is known here as {}, so what it says of them never counts: persons are named \
                 in small letters, whoever comes with a role that is not Identity Center's as role/NAME",
                quoted(person)
            ),
            Self::ForbidsPeople(policy) => write!(
                f,
                "policy `{policy}`: it also forbids people to decide, to undo among it; where it is about playbooks, \
                 write `principal is Playbook`"
            ),
            Self::Never(id) => write!(
                f,
                "there is no policy `{id}`: keep the three `never-…` policies of policies/starter.cedar, or what they \
                 forbid is not forbidden"
            ),
        }
    }
}

impl Policies {
    /// What in a valid set is most likely a mistake at this time, where these are the playbooks' ids.
    pub fn warnings(&self, playbooks: &[&str], now: Timestamp) -> Vec<Warning> {
        let mut found = Vec::new();
        for policy in self.all.policies() {
            let id = policy.id().to_string();
            let named = |kind: &'static str| {
                let literals = policy.entity_literals().into_iter();
                let of_kind = literals.filter(move |uid| uid.type_name().to_string() == kind);
                of_kind.map(|uid| uid.id().unescaped().to_owned())
            };
            let unknown = named("Playbook").filter(|playbook| !playbooks.contains(&playbook.as_str()));
            found.extend(unknown.map(|playbook| Warning::Playbook { policy: id.clone(), playbook }));
            let persons = named("Person").chain(compared_with(policy, &is_name));
            let persons = persons.filter(|name| *name != name.to_lowercase());
            found.extend(persons.map(|person| Warning::Person { policy: id.clone(), person }));
            let unread = policy.annotations().map(|(name, _)| name).filter(|name| !ANNOTATIONS.contains(name));
            found.extend(unread.map(|name| Warning::Annotation { policy: id.clone(), annotation: name.to_owned() }));
            for (is_no, is, words) in [
                (
                    "kind of target",
                    &is_kind as &dyn Fn(&Value) -> bool,
                    TargetKind::ALL.map(TargetKind::as_str).to_vec(),
                ),
                ("leave", &is_leaves, Leave::ALL.map(Leave::as_str).to_vec()),
            ] {
                let other = compared_with(policy, is).into_iter().filter(|word| !words.contains(&word.as_str()));
                found.extend(other.map(|word| Warning::Word { policy: id.clone(), word, is_no, words: words.clone() }));
            }
            let accounts =
                compared_with(policy, &is_account).into_iter().filter(|account| account.parse::<AccountId>().is_err());
            found.extend(accounts.map(|account| Warning::Account { policy: id.clone(), account }));
        }
        let ownerless = self.all.policies().filter(|policy| {
            let owner = policy.annotation("owner").unwrap_or_default();
            let exempts = policy.effect() == Effect::Forbid && is_about_modes(policy);
            exempts && owner.is_empty() && !compared_with(policy, &is_place).is_empty()
        });
        found.extend(ownerless.map(|policy| Warning::Ownerless(policy.id().to_string())));
        let everything = |policy: &&Policy| {
            policy.effect() == Effect::Forbid
                && policy.principal_constraint() == PrincipalConstraint::Any
                && policy.action_constraint() == ActionConstraint::Any
        };
        let everything = self.all.policies().filter(everything);
        found.extend(everything.map(|policy| Warning::ForbidsPeople(policy.id().to_string())));
        let in_force = self.in_force(now);
        let lets = |verb: Verb| {
            in_force.policies().any(|policy| policy.effect() == Effect::Permit && lets_people(policy, verb))
        };
        let missing = [Verb::Approve, Verb::Reject, Verb::Undo].into_iter().filter(|verb| !lets(*verb));
        let missing: Vec<&str> = missing.map(Verb::as_str).collect();
        if !missing.is_empty() {
            found.push(Warning::NobodyDecides(missing));
        }
        let over = self.expires.iter().filter(|(_, until)| **until <= now);
        found.extend(over.map(|(id, until)| Warning::Expired { policy: id.clone(), since: *until }));
        if !in_force.policies().any(|policy| policy.effect() == Effect::Permit && is_about_modes(policy)) {
            found.push(Warning::PermitsNothing);
        }
        let has = |id: &str| self.all.policies().any(|policy| policy.id().to_string() == id);
        found.extend(NEVER.into_iter().filter(|id| !has(id)).map(Warning::Never));
        found.sort();
        found.dedup();
        found
    }
}

/// Whether a policy's scope may hold for a playbook and a mode.
fn is_about_modes(policy: &Policy) -> bool {
    let modes = [Mode::Enforce, Mode::Propose, Mode::Observe];
    may_hold(policy, "Playbook", |action| modes.iter().any(|mode| action == mode.as_str()))
}

/// The texts that a policy compares something with: by `==` and `!=`, or as members of a set.
fn compared_with(policy: &Policy, is: &dyn Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(json) = policy.to_json() {
        compared(&json, is, &mut found);
    }
    found
}

fn compared(json: &Value, is: &dyn Fn(&Value) -> bool, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                if matches!(name.as_str(), "==" | "!=" | "contains" | "containsAll" | "containsAny") {
                    let (left, right) = (&value["left"], &value["right"]);
                    for (side, other) in [(left, right), (right, left)] {
                        if is(side) {
                            texts(other, found);
                        }
                    }
                }
                compared(value, is, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| compared(value, is, found)),
        _ => {}
    }
}

/// Whether it is an attribute of a variable, as Cedar writes it in JSON.
fn is_of(json: &Value, variable: &str, attribute: &str) -> bool {
    json["."]["left"]["Var"] == variable && json["."]["attr"] == attribute
}

/// `principal.name`.
fn is_name(json: &Value) -> bool {
    is_of(json, "principal", "name")
}

/// `resource.account` and `context.hub_account`.
fn is_account(json: &Value) -> bool {
    is_of(json, "resource", "account") || is_of(json, "context", "hub_account")
}

/// `resource.kind`.
fn is_kind(json: &Value) -> bool {
    is_of(json, "resource", "kind")
}

/// `context.plan.leaves`.
fn is_leaves(json: &Value) -> bool {
    json["."]["attr"] == "leaves" && is_of(&json["."]["left"], "context", "plan")
}

/// What names one thing of many: an account, a unit, an id, an ARN.
fn is_place(json: &Value) -> bool {
    ["account", "arn", "id", "ou", "ous"].iter().any(|attribute| is_of(json, "resource", attribute))
}

/// A text, or the texts of a set.
fn texts(json: &Value, found: &mut Vec<String>) {
    match (&json["Value"], &json["Set"]) {
        (Value::String(text), _) => found.push(text.clone()),
        (Value::Array(values), _) => found.extend(values.iter().filter_map(Value::as_str).map(str::to_owned)),
        (_, Value::Array(values)) => values.iter().for_each(|value| texts(value, found)),
        _ => {}
    }
}
