#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tests::finding;
use super::super::{DEFAULT, rule};
use super::*;
use crate::units::Units;

const NOW: &str = "2026-11-22T02:00:00Z";
const HUB: &str = "111111111111";
/// What undo cannot give back exactly: one action without a leave, one with.
const INEXACT: &str = "ec2.create-snapshots";
const INEXACT_WITH_LEAVE: &str = "ec2.replace-instance-profile";

fn target() -> Target {
    Target::instance(
        "222222222222".parse().unwrap(),
        "eu-west-1".parse().unwrap(),
        "i-0123456789abcdef0".parse().unwrap(),
    )
}

fn inexact(leaves: &BTreeSet<Leave>) -> BTreeSet<String> {
    let with_leave = leaves.contains(&Leave::ReplaceInstanceProfile).then(|| INEXACT_WITH_LEAVE.to_owned());
    std::iter::once(INEXACT.to_owned()).chain(with_leave).collect()
}

fn ask(source: &str, hub_account: Option<&str>, any_time: bool) -> Strictest {
    let policies = Policies::parse(source).unwrap();
    policies.validate().unwrap();
    let (target, finding) = (target(), finding(8.0));
    let known = Known {
        playbook: "isolate-instance",
        target: &target,
        finding: &finding,
        supposed: NOW.parse().unwrap(),
        any_time,
        hub_account,
    };
    strictest(&policies, &known, inexact)
}

/// A set that permits everything, and one condition to forbid enforcement by.
fn forbidding(condition: &str) -> String {
    format!(
        r#"@id("all") permit (principal, action, resource);
        @id("not") forbid (principal, action == Action::"enforce", resource) {condition};"#
    )
}

/// A set that permits to enforce on one condition, and to propose always.
fn permitting(condition: &str) -> String {
    format!(
        r#"@id("ask") permit (principal, action in [Action::"propose", Action::"observe"], resource);
        @id("may") permit (principal, action == Action::"enforce", resource) {condition};"#
    )
}

/// A policy that is over is named where it would have made a difference, and only there.
#[test]
fn what_is_over_is_named_where_it_would_count() {
    let with = |effect: &str, action: &str, account: &str| {
        let set = format!(
            r#"@id("ask") permit (principal, action == Action::"propose", resource);
            @id("act") permit (principal == Playbook::"isolate-instance", action == Action::"enforce", resource);
            @id("over") @owner("x@example.com") @expires("2026-01-01T00:00:00Z")
            {effect} (principal, action == Action::"{action}", resource) when {{ resource.account == "{account}" }};"#
        );
        let answer = ask(&set, Some(HUB), false);
        (answer.mode, answer.reasons.iter().any(|why| why.contains("`over`")))
    };
    assert_eq!(with("forbid", "enforce", "222222222222"), (Mode::Enforce, true));
    assert_eq!(with("forbid", "enforce", "333333333333"), (Mode::Enforce, false));
    assert_eq!(with("forbid", "propose", "222222222222"), (Mode::Enforce, false), "nothing is proposed");
    assert_eq!(with("permit", "enforce", "222222222222"), (Mode::Enforce, false), "it is permitted already");

    let over = r#"@owner("x@example.com") @expires("2026-01-01T00:00:00Z")"#;
    let permit = format!(r#"@id("may") {over} permit (principal, action, resource);"#);
    let answer = ask(&permit, Some(HUB), false);
    assert_eq!(answer.mode, Mode::Refuse);
    assert_eq!(answer.reasons.last().unwrap(), "`may` would count, but expired 2026-01-01 (owner x@example.com)");
    let running = permit.replace("2026-01-01", "2027-01-01");
    assert!(!ask(&running, Some(HUB), false).reasons.iter().any(|why| why.contains("expired")));
    // At any time, it is one of those that are asked.
    assert!(!ask(&permit, Some(HUB), true).reasons.iter().any(|why| why.contains("expired")));
}

/// Conditions that nobody can know, and what is named for them.
const UNKNOWN: [(&str, &str); 17] = [
    (r#"resource has ou"#, "the organisational unit"),
    (r#"resource has ous && resource.ous.contains("ou-abcd-11111111")"#, "the organisational unit"),
    (r#"resource has ou && resource.ou == "prod""#, "the organisational unit"),
    (r#"resource has ou && resource.ou like "prod/*""#, "the organisational unit"),
    (r#"resource.hasTag("env")"#, "tags"),
    (r#"resource.hasTag("env") && resource.getTag("env") == "prod""#, "tags"),
    (r#"if resource.hasTag("env") then resource.getTag("env") == "prod" else false"#, "tags"),
    ("context.budget.account_this_hour > 3", "budgets"),
    ("context.budget.account_this_hour > context.budget.total_this_hour", "budgets"),
    ("10 >= context.budget.total_this_hour", "budgets"),
    ("context.budget == {account_this_hour: 1, total_this_hour: 2}", "budgets"),
    ("context.plan.steps > 20", "the number of steps"),
    ("[1, 2].contains(context.plan.steps)", "the number of steps"),
    (r#"context.plan.inexact.contains("ec2.create-snapshots")"#, "what undo cannot give back"),
    (r#"context.plan.inexact == ["ec2.create-snapshots"]"#, "what undo cannot give back"),
    ("context.plan.inexact.isEmpty()", "what undo cannot give back"),
    (r#"context.break_glass.containsAny(["arn:aws:iam::222222222222:role/x"])"#, "break-glass principals"),
];

#[test]
fn what_may_forbid_forbids_and_is_named() {
    for (condition, named) in UNKNOWN {
        for clause in ["when", "unless"] {
            for body in [condition.to_owned(), format!("!({condition})"), format!("false || ({condition}) && true")] {
                let strictest = ask(&forbidding(&format!("{clause} {{ {body} }}")), Some(HUB), false);
                assert_eq!(strictest.mode, Mode::Propose, "{clause} {body}: {strictest:?}");
                let why = format!("{named}: not known");
                assert!(strictest.reasons[0].starts_with(&why), "{clause} {body}: {strictest:?}");
                assert!(strictest.reasons[0].ends_with("`not` may forbid enforce by it"), "{strictest:?}");
                assert_eq!(strictest.reasons[1], "propose permitted by `all`");
            }
        }
    }
}

#[test]
fn what_may_not_permit_does_not_and_is_named() {
    for (condition, named) in UNKNOWN {
        for clause in ["when", "unless"] {
            for body in [condition.to_owned(), format!("!({condition})"), format!("true && ({condition}) || false")] {
                let strictest = ask(&permitting(&format!("{clause} {{ {body} }}")), Some(HUB), false);
                assert_eq!(strictest.mode, Mode::Propose, "{clause} {body}: {strictest:?}");
                let why = format!("{named}: not known");
                assert!(strictest.reasons[0].starts_with(&why), "{clause} {body}: {strictest:?}");
                assert!(strictest.reasons[0].ends_with("`may` may not permit enforce by it"), "{strictest:?}");
            }
        }
    }
}

/// What no unknown can turn is no reason to be stricter.
#[test]
fn what_is_certain_in_spite_of_an_unknown_stays_certain() {
    // A set that asks for units at all enforces nothing where they cannot be had.
    for (condition, _) in UNKNOWN.into_iter().filter(|(_, named)| *named != "the organisational unit") {
        let spared = format!(r#"when {{ resource.account == "333333333333" && ({condition}) }}"#);
        assert_eq!(ask(&forbidding(&spared), Some(HUB), false).mode, Mode::Enforce, "{spared}");
        let spared = format!(r#"unless {{ ({condition}) || resource.account == "222222222222" }}"#);
        assert_eq!(ask(&forbidding(&spared), Some(HUB), false).mode, Mode::Enforce, "{spared}");
        let permitted = format!("when {{ context.finding.sample == false || ({condition}) }}");
        assert_eq!(ask(&permitting(&permitted), Some(HUB), false).mode, Mode::Enforce, "{permitted}");
        let other =
            permitting("") + &format!(r#"@id("b") permit (principal, action, resource) when {{ {condition} }};"#);
        assert_eq!(ask(&other, Some(HUB), false).mode, Mode::Enforce, "{other}");
    }
    for condition in [
        "context.budget.account_this_hour < 0",
        "context.plan.steps < 0",
        r#"context.plan.inexact.contains("ec2.stop-instance")"#,
        // Nobody permits its leave, so it is in no plan.
        r#"context.plan.inexact.contains("ec2.replace-instance-profile")"#,
        r#"!(["ec2.create-snapshots"].containsAll(context.plan.inexact))"#,
        // An instance is no principal.
        "context.break_glass.contains(resource.id)",
        "resource.account == context.hub_account",
        "context.finding has age_minutes && context.finding.age_minutes > 1440",
    ] {
        let source =
            permitting("") + &format!(r#"@id("not") forbid (principal, action, resource) when {{ {condition} }};"#);
        assert_eq!(ask(&source, Some(HUB), false).mode, Mode::Enforce, "{condition}");
    }
}

#[test]
fn a_leave_that_may_be_given_makes_the_plan_less_exact() {
    let leave = |condition: &str| {
        permitting("")
            + &format!(
                r#"@id("leave") permit (principal, action == Action::"replace-instance-profile", resource) {condition};
                @id("exact") forbid (principal, action == Action::"enforce", resource)
                when {{ context.plan.inexact.contains("ec2.replace-instance-profile") }};"#
            )
    };
    assert_eq!(ask(&leave("when { false }"), Some(HUB), false).mode, Mode::Enforce);
    assert_eq!(ask(&leave(""), Some(HUB), false).mode, Mode::Propose);
    assert_eq!(ask(&leave(r#"when { resource.hasTag("x") }"#), Some(HUB), false).mode, Mode::Propose);
}

#[test]
fn each_mode_is_as_strict_and_nothing_is_left_when_all_may_be_forbidden() {
    let source = r#"@id("all") permit (principal, action, resource);
        @id("tagged") forbid (principal, action in [Action::"enforce", Action::"propose"], resource)
        when { resource.hasTag("firebreak") };"#;
    assert_eq!(ask(source, Some(HUB), false).mode, Mode::Observe);
    let source = source.replace(r#"action in [Action::"enforce", Action::"propose"]"#, "action");
    let strictest = ask(&source, Some(HUB), false);
    assert_eq!(strictest.mode, Mode::Refuse);
    insta::assert_snapshot!(strictest.reasons.join("\n"), @"
    tags: not known without AWS, and `tagged` may forbid enforce by it
    tags: not known without AWS, and `tagged` may forbid propose by it
    tags: not known without AWS, and `tagged` may forbid observe by it
    ");
}

#[test]
fn without_the_security_account_nothing_is_enforced_that_it_may_forbid() {
    let source = permitting("")
        + r#"@id("hub") forbid (principal, action, resource) when { resource.account == context.hub_account };"#;
    let strictest = ask(&source, None, false);
    assert_eq!(strictest.mode, Mode::Propose);
    assert!(strictest.reasons[0].starts_with("the security account: not given (--hub-account)"), "{strictest:?}");
    assert_eq!(ask(&source, Some(HUB), false).mode, Mode::Enforce);
    assert_eq!(ask(&source, Some("222222222222"), false).mode, Mode::Refuse);
    assert_eq!(ask(DEFAULT, None, false).mode, Mode::Propose);
}

#[test]
fn where_the_time_may_be_any_age_and_hours_are_unknown() {
    for condition in [
        "context.finding has age_minutes && context.finding.age_minutes > 1440",
        r#"context.now > datetime("2027-01-01")"#,
        r#"context.now.toTime() < duration("6h")"#,
    ] {
        let source = forbidding(&format!("when {{ {condition} }}"));
        let strictest = ask(&source, Some(HUB), true);
        assert_eq!(strictest.mode, Mode::Propose, "{condition}");
        assert!(strictest.reasons[0].starts_with("the time: supposed"), "{strictest:?}");
    }
}

/// A sum of what is not known may be too large for Cedar, which fails the guard: a person is asked.
#[test]
fn what_may_fail_is_not_enforced() {
    let source = forbidding("when { context.budget.account_this_hour * 1000 < 0 && false }");
    let strictest = ask(&source, Some(HUB), false);
    assert_eq!(strictest.mode, Mode::Propose);
    assert_eq!(strictest.reasons[0], "budgets: not known without AWS, and `not` may fail by it, which asks a person");
    let source = forbidding("when { 9223372036854775807 + 1 < 0 }");
    let strictest = ask(&source, Some(HUB), false);
    assert_eq!(strictest.mode, Mode::Propose);
    assert_eq!(strictest.reasons[0], "`not` fails when it is asked, so a person is asked");
}

/// Here no outcome permits: it fails, or it does not hold.
#[test]
fn what_fails_or_does_not_hold_permits_nothing() {
    let source = r#"@id("p") permit (principal, action, resource)
        unless { context.budget.total_this_hour + 1 > 5 || (resource has ou || true) };"#;
    assert_eq!(ask(source, Some(HUB), false).mode, Mode::Refuse);
}

/// Something that a policy can ask, and may not be able to know.
fn condition() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        proptest::sample::select(UNKNOWN.map(|(condition, _)| format!("({condition})")).to_vec()),
        proptest::sample::select(vec![
            "true".to_owned(),
            r#"(resource.account == "333333333333")"#.to_owned(),
            "(context.budget.total_this_hour + 1 > 5)".to_owned(),
            r#"(["ec2.create-snapshots"].containsAll(context.plan.inexact))"#.to_owned(),
            r#"(context.finding has age_minutes && context.finding.age_minutes > 60)"#.to_owned(),
        ]),
    ];
    atom.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("(!{a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

fn policy() -> impl Strategy<Value = String> {
    let effect = proptest::sample::select(vec!["permit", "permit", "forbid"]);
    let action = proptest::sample::select(vec![
        "action",
        r#"action == Action::"enforce""#,
        r#"action == Action::"propose""#,
        r#"action == Action::"replace-instance-profile""#,
    ]);
    let clause = proptest::sample::select(vec!["when", "unless"]);
    (effect, action, clause, condition()).prop_map(|(effect, action, clause, body)| {
        format!("{effect} (principal, {action}, resource) {clause} {{ {body} }};")
    })
}

/// What is over at some time is not promised for any.
#[test]
fn what_expires_is_not_certain_at_any_time() {
    let set = r#"@id("for-now") @owner("a") @expires("2026-11-23T00:00:00Z") permit (principal, action, resource);"#;
    let policies = Policies::parse(set).unwrap();
    let (target, finding) = (target(), finding(8.0));
    let known = |any_time| Known {
        playbook: "isolate-instance",
        target: &target,
        finding: &finding,
        supposed: NOW.parse().unwrap(),
        any_time,
        hub_account: Some(HUB),
    };
    assert_eq!(strictest(&policies, &known(false), inexact).mode, Mode::Enforce);
    let at_any = strictest(&policies, &known(true), inexact);
    assert_eq!(at_any.mode, Mode::Refuse);
    assert!(at_any.reasons.iter().any(|reason| reason.starts_with("the time")), "{at_any:?}");
}

proptest! {
    // Each case parses and asks many policies, slowly in a debug build.
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the policies are and whatever turns out to be true, the guard's answer is not less.
    #[test]
    fn the_guard_never_answers_less(
        policies in proptest::collection::vec(policy(), 1..5),
        tags in proptest::collection::btree_map("env|firebreak", "prod|ask", 0..3),
        steps in proptest::sample::select(vec![0usize, 1, 2, 20, 21, usize::MAX]),
        spent_account in proptest::sample::select(vec![0u64, 1, 4, 11, u64::MAX]),
        spent_total in proptest::sample::select(vec![0u64, 2, 4, 11, u64::MAX]),
        fewer in any::<bool>(),
        late in 0i64..200,
        unit in proptest::option::of("ou-abcd-1111111[12]"),
    ) {
        let source: String =
            policies.iter().enumerate().map(|(n, policy)| format!("@id(\"p{n}\") {policy}\n")).collect();
        let policies = Policies::parse(&source).unwrap();
        let (target, finding) = (target(), finding(8.0));
        let known = Known {
            playbook: "isolate-instance",
            target: &target,
            finding: &finding,
            supposed: NOW.parse().unwrap(),
            any_time: true,
            hub_account: Some(HUB),
        };
        let said = strictest(&policies, &known, inexact);
        prop_assert!(!said.reasons.is_empty());
        let units = unit.map(|ou| Units { ous: [ou.clone(), "r-abcd".to_owned()].into(), ou });
        // As the function asks: with every step, and then without those that got no leave.
        let guard = |inexact: BTreeSet<String>, tags: &BTreeMap<String, String>| {
            rule(&policies, &Question {
                playbook: known.playbook,
                target: &target,
                tags,
                units: units.as_ref().ok_or("not asked"),
                finding: &finding,
                plan: PlanFacts {
                    steps,
                    inexact: if fewer { BTreeSet::new() } else { inexact },
                    ..PlanFacts::default()
                },
                spent_account,
                spent_total,
                now: known.supposed + jiff::SignedDuration::from_mins(late),
                hub_account: HUB,
                break_glass: &["arn:aws:iam::222222222222:role/x".to_owned()],
            })
        };
        let leaves = guard(inexact(&Leave::ALL.into()), &tags).leaves;
        let answer = guard(inexact(&leaves), &tags);
        prop_assert!(answer.mode >= said.mode, "said {said:?}, and it is {answer:?}:\n{source}");
    }
}

/// Somebody may be a break-glass principal, which is not known here: a person is asked, and nothing is refused.
#[test]
fn who_may_be_break_glass_is_asked_about() {
    let finding = finding(8.0);
    let enforcing = format!("{DEFAULT}\n{}", r#"@id("e") permit (principal, action == Action::"enforce", resource);"#);
    let wide = r#"@id("all") permit (principal, action, resource);
        @id("never-every") forbid (principal, action == Action::"enforce", resource)
        when { context.plan.leaves.contains("revoke-every-session") };"#;
    for (target, source, named) in [
        ("iam-user/AIDACKCEVSQ6C2EXAMPLE", enforcing.as_str(), "break-glass principals: not known here"),
        ("iam-role-session/AROADBQP57FF2AEXAMPLE:web", enforcing.as_str(), "who it is: not known without AWS"),
        ("iam-role-session/AROADBQP57FF2AEXAMPLE:web", wide, "without any a person is asked"),
        ("iam-role/AROADBQP57FF2AEXAMPLE", wide, "the leaves that the plan wants: not known without AWS"),
    ] {
        let target: Target = format!("aws/222222222222/global/{target}").parse().unwrap();
        let known = Known {
            playbook: "contain-user",
            target: &target,
            finding: &finding,
            supposed: NOW.parse().unwrap(),
            any_time: false,
            hub_account: Some(HUB),
        };
        let policies = Policies::parse(source).unwrap();
        policies.validate().unwrap();
        let said = strictest(&policies, &known, |_| BTreeSet::new());
        assert_eq!(said.mode, Mode::Propose, "{target}: {said:?}");
        assert!(said.reasons.iter().any(|why| why.contains(named)), "{target}: {named}: {said:?}");
    }
}
