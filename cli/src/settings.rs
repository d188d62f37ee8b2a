//! `firebreak settings`: the outputs of the stack, as the variables that this command reads.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Each output of `template.yaml` that says where the deployment is, its variable, and whether it may be absent.
const SETTINGS: [(&str, &str, bool); 13] = [
    ("HubAccount", "FIREBREAK_HUB_ACCOUNT", false),
    ("LedgerTable", "FIREBREAK_LEDGER_TABLE", false),
    ("DecisionsTable", "FIREBREAK_DECISIONS_TABLE", false),
    ("EvidenceBucket", "FIREBREAK_EVIDENCE_BUCKET", false),
    ("PolicyBucket", "FIREBREAK_POLICY_BUCKET", false),
    ("PolicyKey", "FIREBREAK_POLICY_KEY", false),
    ("TopicArn", "FIREBREAK_TOPIC_ARN", false),
    ("BudgetAccountPerHour", "FIREBREAK_BUDGET_ACCOUNT_PER_HOUR", false),
    ("BudgetTotalPerHour", "FIREBREAK_BUDGET_TOTAL_PER_HOUR", false),
    ("SnapshotLockDays", "FIREBREAK_SNAPSHOT_LOCK_DAYS", false),
    ("DrillTable", "FIREBREAK_DRILLS_TABLE", false),
    // Where no break-glass principal is named, and where there are no function URLs.
    ("BreakGlass", "FIREBREAK_BREAK_GLASS", true),
    ("OperateUrl", "FIREBREAK_OPERATE_URL", true),
];

/// Prints what a shell needs. `file` is what `aws cloudformation describe-stacks` prints; standard input without one.
pub(crate) fn run(file: Option<&Path>) -> Result<bool> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?,
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("could not read standard input")?;
            text
        }
    };
    write!(std::io::stdout().lock(), "{}", exports(&text)?)?;
    Ok(true)
}

/// The lines for a shell.
fn exports(described: &str) -> Result<String> {
    let described: Value = serde_json::from_str(described)
        .context("that is no JSON: give what `aws cloudformation describe-stacks --stack-name …` prints")?;
    let stack = &described["Stacks"][0];
    let outputs: BTreeMap<&str, &str> = stack["Outputs"]
        .as_array()
        .context("there is no stack with outputs in it")?
        .iter()
        .filter_map(|output| Some((output["OutputKey"].as_str()?, output["OutputValue"].as_str()?)))
        .collect();
    let mut lines = String::new();
    let mut export = |name: &str, value: &str| {
        lines.push_str(&format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
    };
    // arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID
    if let Some(region) = stack["StackId"].as_str().and_then(|arn| arn.split(':').nth(3)) {
        export("AWS_REGION", region);
    }
    for (output, variable, may_be_absent) in SETTINGS {
        match outputs.get(output) {
            Some(value) => export(variable, value),
            None if may_be_absent => {}
            None => bail!("the stack has no output {output}: it is not one of template.yaml, or of another version"),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn described(change: impl Fn(&str) -> Option<String>) -> String {
        let outputs: Vec<Value> = SETTINGS
            .iter()
            .filter_map(|(key, ..)| Some(json!({"OutputKey": key, "OutputValue": change(key)?})))
            .collect();
        let id = "arn:aws:cloudformation:eu-west-1:111111111111:stack/firebreak/0";
        json!({"Stacks": [{"StackId": id, "Outputs": outputs}]}).to_string()
    }

    #[test]
    fn each_output_becomes_its_variable_whatever_is_in_it() {
        let lines = exports(&described(|key| Some(format!("{key}'; rm -rf /; '")))).unwrap();
        assert!(lines.starts_with("export AWS_REGION='eu-west-1'\n"), "{lines}");
        assert!(lines.contains(r"export FIREBREAK_LEDGER_TABLE='LedgerTable'\''; rm -rf /; '\'''"), "{lines}");
        assert_eq!(lines.lines().count(), SETTINGS.len() + 1);
    }

    #[test]
    fn what_is_no_stack_of_ours_is_said_to_be_none() {
        for wrong in ["", "{}", r#"{"Stacks":[]}"#] {
            assert!(exports(wrong).is_err(), "{wrong}");
        }
        let without = exports(&described(|key| (key != "LedgerTable").then(|| "x".to_owned())));
        assert!(without.unwrap_err().to_string().contains("no output LedgerTable"));
        let bare = exports(&described(|key| (key != "BreakGlass").then(|| "x".to_owned()))).unwrap();
        assert!(!bare.contains("BREAK_GLASS"), "{bare}");
    }

    /// The template has each output, and says in it which variable it is.
    #[test]
    fn the_outputs_are_those_of_the_template() {
        let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml")).unwrap();
        let (_, outputs) = template.split_once("\nOutputs:\n").unwrap();
        for (output, variable, _) in SETTINGS {
            let (_, rest) = outputs.split_once(&format!("  {output}:\n")).unwrap_or_else(|| panic!("no {output}"));
            let description = rest.lines().next().unwrap();
            assert!(description.contains(&format!("Description: {variable}")), "{output}: {description}");
        }
    }
}
