//! Whether the policies let a person decide something. The same set as for playbooks answers, asked with a person for
//! its principal. What no policy permits is not allowed, and a policy that cannot be evaluated allows nothing.

use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, PolicySet, Request, RestrictedExpression};

use super::{Policies, Question, facts, label, long, may_hold, names, string, target, uid};
use crate::door::caller::Person;
use crate::ledger::decisions::Verb;

/// The most persons that a policy can ask for.
pub const MOST_PERSONS: usize = 5;

/// What somebody decides.
#[derive(Debug, Clone, Copy)]
pub struct Word<'a> {
    /// Who.
    pub person: &'a Person,
    /// What.
    pub verb: Verb,
    /// About what: a run's finding, plan and target, or what is asked for.
    pub about: &'a Question<'a>,
    /// Who asked by hand for what is decided on: the ids of persons.
    pub asked_by: &'a [String],
}

/// What the policies say to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether so many persons may decide it.
    pub allowed: bool,
    /// Why, in words: the policies that decided, by `@id`, with their `@reason`.
    pub reasons: Vec<String>,
    /// Whether a policy could not be evaluated: an alarm.
    pub failed: bool,
}

/// Whether so many different persons, this one among them, may decide it. Tags are looked at once present and once
/// absent, and the stricter answer counts.
pub fn may(policies: &Policies, word: &Word<'_>, persons: usize) -> Said {
    let unknown = word.about.units.err().zip(policies.asking_people_for_units());
    if let Some((why, asking)) = unknown {
        let account = &word.about.target.account;
        let why =
            format!("the organizational unit of account {account} is not known ({why}), and `{asking}` asks for it");
        return Said { allowed: false, reasons: vec![why], failed: false };
    }
    let in_force = policies.in_force(word.about.now);
    let none = BTreeMap::new();
    let with = ask(&in_force, word, word.about.tags, persons);
    if with.allowed && !word.about.tags.is_empty() { ask(&in_force, word, &none, persons) } else { with }
}

/// How many persons it takes at least, these having said it: the least number at which each of them may. `None` where
/// no number is enough.
pub fn needed(policies: &Policies, words: &[Word<'_>]) -> Option<usize> {
    (words.len().max(1)..=MOST_PERSONS).find(|persons| words.iter().all(|word| may(policies, word, *persons).allowed))
}

fn ask(policies: &PolicySet, word: &Word<'_>, tags: &BTreeMap<String, String>, persons: usize) -> Said {
    let (request, entities) = match request(word, tags, persons) {
        Ok(built) => built,
        Err(problem) => return failed(&problem),
    };
    let response = Authorizer::new().is_authorized(&request, policies, &entities);
    let errors: Vec<String> = response.diagnostics().errors().map(|error| error.to_string()).collect();
    if !errors.is_empty() {
        return failed(&errors.join("; "));
    }
    let verb = word.verb.as_str();
    let allowed = response.decision() == Decision::Allow;
    let because = response.diagnostics().reason().filter_map(|id| policies.policy(id)).map(label);
    let what = if allowed { "permitted" } else { "forbidden" };
    let mut reasons: Vec<String> = because.map(|why| format!("{verb} {what} by {why}")).collect();
    reasons.sort();
    if reasons.is_empty() {
        reasons.push(format!("{verb} is not permitted to you by any policy"));
    }
    Said { allowed, reasons, failed: false }
}

fn failed(problem: &str) -> Said {
    let why = format!("the guard failed, so nothing is allowed: {}", crate::text::plain(problem, 300));
    Said { allowed: false, reasons: vec![why], failed: true }
}

fn request(word: &Word<'_>, tags: &BTreeMap<String, String>, persons: usize) -> Result<(Request, Entities), String> {
    let (resource, entity) = target(word.about, tags)?;
    let person = word.person;
    let who = uid("Person", &person.id)?;
    let mut attributes = vec![
        ("name", string(&person.name)),
        ("kind", string(person.kind.as_str())),
        ("account", string(person.account.as_str())),
    ];
    attributes.extend(person.role.as_deref().map(|role| ("role", string(role))));
    let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let somebody = Entity::new(who.clone(), attributes, Default::default()).map_err(|error| error.to_string())?;
    let entities = Entities::from_entities([entity, somebody], None).map_err(|error| error.to_string())?;
    let mut context = facts(word.about)?;
    let asked_by = word.asked_by.iter().map(|id| uid("Person", id).map(RestrictedExpression::new_entity_uid));
    let asked_by = asked_by.collect::<Result<Vec<_>, _>>()?;
    context.push(("asked_by".to_owned(), RestrictedExpression::new_set(asked_by)));
    let playbook = uid("Playbook", word.about.playbook)?;
    context.push(("playbook".to_owned(), RestrictedExpression::new_entity_uid(playbook)));
    context.push(("persons".to_owned(), long(u64::try_from(persons).unwrap_or(u64::MAX))));
    let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
    let action = uid("Action", word.verb.as_str())?;
    let request = Request::new(who, action, resource, context, None).map_err(|error| error.to_string())?;
    Ok((request, entities))
}

impl Policies {
    /// The first policy that may be about people and asks where the account stands in the organization.
    pub(crate) fn asking_people_for_units(&self) -> Option<String> {
        let about_people = self.all.policies().filter(|policy| is_about_people(policy));
        about_people.filter(|policy| names(policy, &["ou", "ous"])).map(|policy| policy.id().to_string()).min()
    }
}

/// Whether a policy's scope may hold for a person and something that people decide.
pub(super) fn is_about_people(policy: &cedar_policy::Policy) -> bool {
    Verb::ALL.iter().any(|verb| lets_people(policy, *verb))
}

/// Whether a policy's scope may hold for a person and this verb.
pub(super) fn lets_people(policy: &cedar_policy::Policy, verb: Verb) -> bool {
    may_hold(policy, "Person", |action| action == verb.as_str())
}

#[cfg(test)]
mod tests;
