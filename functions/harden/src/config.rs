//! AWS Config's own word on a rule: read in the member's account, where the rule is.
//!
//! Whoever may put rules in a member account can have one of their own report anything, under any name. So an event counts
//! only if the rule is one of AWS's own, and what it checks is what Config says, not its name. That the resource is not as
//! the rule wants it is then read from the resource itself, by the plan: no word of Config is needed for that.
//! <https://docs.aws.amazon.com/config/latest/APIReference/API_ConfigRule.html>

use std::collections::BTreeMap;

use aws_sdk_config::types::Owner;
use firebreak::authenticate::Authenticity;
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Control, Finding};
use firebreak::screen::screen;
use serde_json::Value;

/// The finding with what its rule checks; or why the rule is not believed.
pub(crate) async fn check(hub: &Aws, member: &Aws, reported: &Finding) -> Authenticity {
    let Some(control) = &reported.control else {
        return Authenticity::Differs("it names no rule".to_owned());
    };
    if member.account != reported.account {
        return Authenticity::Differs("it is about another account than its resource".to_owned());
    }
    // What is global is in no Region, and the rules about it are in one; so are those about what records in several.
    let there = member.in_region(reported.region.clone());
    let found = match read(&there, &control.id).await {
        Ok(found) => found,
        Err(failure) => return Authenticity::Unknown(failure),
    };
    let Some(rule) = found else { return Authenticity::Absent };
    // A rule that was made anew under the same name is another one.
    if control.rule.as_ref().is_some_and(|reported| Some(reported.to_string().as_str()) != rule.arn.as_deref()) {
        return Authenticity::Differs("the rule of this name is another one".to_owned());
    }
    let Some(check) = rule.check else {
        return Authenticity::Differs("the rule is none of AWS's own: whoever made it says what it reports".to_owned());
    };
    let control = Some(Control { check: Some(check), parameters: rule.parameters, ..control.clone() });
    let genuine = Finding { control, ..reported.clone() };
    match screen(&genuine, None, Some(&hub.account)) {
        Some(away) => Authenticity::TurnedAway(away),
        None => Authenticity::Genuine(Box::new(genuine)),
    }
}

struct Rule {
    arn: Option<String>,
    /// The identifier of the managed rule; nothing where it is none of AWS's own.
    check: Option<String>,
    /// What it was given, by whoever put it there.
    parameters: BTreeMap<String, Vec<String>>,
}

/// Parameters as Config keeps them: a JSON object whose values are texts.
fn parameters(text: Option<&str>) -> BTreeMap<String, Vec<String>> {
    let given: BTreeMap<String, Value> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    given.into_iter().map(|(name, value)| (name, vec![text(value)])).collect()
}

async fn read(member: &Aws, name: &str) -> Result<Option<Rule>, Failure> {
    let answer = member.config_service().describe_config_rules().config_rule_names(name).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("describe the rule of AWS Config", name)))?;
    let mut rules = answer.and_then(|answer| answer.config_rules).unwrap_or_default().into_iter();
    Ok(rules.find(|rule| rule.config_rule_name() == Some(name)).map(|rule| Rule {
        arn: rule.config_rule_arn().map(str::to_owned),
        parameters: parameters(rule.input_parameters()),
        check: rule
            .source()
            .filter(|source| *source.owner() == Owner::Aws)
            .and_then(|source| source.source_identifier().map(str::to_owned)),
    }))
}
