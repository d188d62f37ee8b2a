#![allow(clippy::unwrap_used, clippy::panic)]

use aws_sdk_ec2::types::SecurityGroupRule;
use proptest::prelude::*;

use super::*;

const GROUP: &str = "sg-0a1b2c3d4e5f60718";

fn rule(protocol: &str, ports: Option<(i32, i32)>, cidr: &str) -> SecurityGroupRule {
    let made = SecurityGroupRule::builder().group_id(GROUP).is_egress(false).ip_protocol(protocol).description("web");
    let (from, to) = ports.unwrap_or((-1, -1));
    let made = made.from_port(from).to_port(to);
    if cidr.contains(':') { made.cidr_ipv6(cidr).build() } else { made.cidr_ipv4(cidr).build() }
}

fn of(check: &Check) -> Closes {
    Closes::of(check, None).unwrap()
}

fn plan(rules: &[SecurityGroupRule], closes: &Closes) -> Planned {
    let target: Target = format!("aws/222222222222/eu-west-1/ec2-security-group/{GROUP}").parse().unwrap();
    let there = SecurityGroup::builder().group_id(GROUP).owner_id("222222222222").build();
    planned(&target, &GROUP.parse().unwrap(), &there, rules, Ok(2), closes)
}

/// What a plan does, in words.
fn steps(rules: &[SecurityGroupRule], check: &Check) -> Vec<String> {
    match plan(rules, &of(check)) {
        Planned::Plan(plan) => {
            let words = |step: &Step| format!("{} {}", if step.cuts { "-" } else { "+" }, step.change.what);
            plan.steps().map(words).map(|words| words.replace(&format!(" into {GROUP}"), "")).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_the_control_says_is_closed_and_only_to_everywhere() {
    for (check, rules, expected) in [
        (&SSH, vec![rule("tcp", Some((22, 22)), "0.0.0.0/0")], vec!["- tcp 22 from 0.0.0.0/0"]),
        (&SSH, vec![rule("tcp", Some((22, 22)), "10.0.0.0/8")], vec![]),
        (&SSH, vec![rule("udp", Some((22, 22)), "0.0.0.0/0")], vec![]),
        (&RDP, vec![rule("tcp", Some((22, 22)), "0.0.0.0/0")], vec![]),
        (
            &SSH,
            vec![rule("tcp", Some((20, 30)), "::/0"), rule("tcp", Some((443, 443)), "0.0.0.0/0")],
            vec!["+ tcp 20-21 from ::/0", "+ tcp 23-30 from ::/0", "- tcp 20-30 from ::/0"],
        ),
        // What stays and is there already is not added.
        (
            &SSH,
            vec![rule("tcp", Some((22, 80)), "0.0.0.0/0"), rule("tcp", Some((23, 80)), "0.0.0.0/0")],
            vec!["- tcp 22-80 from 0.0.0.0/0"],
        ),
        (
            &UNAUTHORIZED,
            vec![rule("tcp", Some((79, 80)), "0.0.0.0/0"), rule("tcp", Some((443, 443)), "0.0.0.0/0")],
            vec!["+ tcp 80 from 0.0.0.0/0", "- tcp 79-80 from 0.0.0.0/0"],
        ),
        (
            &SSH,
            vec![rule("-1", None, "0.0.0.0/0")],
            vec![
                "+ icmp from 0.0.0.0/0",
                "+ tcp 0-21 from 0.0.0.0/0",
                "+ tcp 23-65535 from 0.0.0.0/0",
                "+ udp 0-65535 from 0.0.0.0/0",
                "- all traffic from 0.0.0.0/0",
            ],
        ),
        (&COMMON, vec![rule("tcp", Some((20, 21)), "0.0.0.0/0")], vec!["- tcp 20-21 from 0.0.0.0/0"]),
        (&HIGH_RISK, vec![rule("udp", Some((1434, 1434)), "0.0.0.0/0")], vec!["- udp 1434 from 0.0.0.0/0"]),
        (&HIGH_RISK, vec![rule("icmp", None, "0.0.0.0/0"), rule("47", None, "0.0.0.0/0")], vec![]),
    ] {
        assert_eq!(steps(&rules, check), expected, "{:?}", check.control);
    }
}

#[test]
fn nothing_is_closed_before_what_stays_is_there() {
    let Planned::Plan(plan) = plan(&[rule("tcp", Some((20, 30)), "0.0.0.0/0")], &of(&SSH)) else { panic!() };
    let [keep, close] = plan.stages.as_slice() else { panic!("{plan:?}") };
    let kept: Vec<_> = keep.steps.iter().map(|step| step.id.clone()).collect();
    assert_eq!(close.steps[0].needs, kept);
    assert_eq!(close.steps[0].before, serde_json::json!({"present": "web"}));
    assert!(keep.steps.iter().all(|step| step.args["wanted"] == serde_json::json!({"present": "web"})));
}

#[test]
fn what_would_take_more_rules_than_a_group_has_is_for_a_person() {
    let wide = ["0.0.0.0/0", "::/0"].map(|cidr| rule("-1", None, cidr));
    let Planned::Plan(plan_of_both) = plan(&wide, &of(&HIGH_RISK)) else { panic!() };
    assert!(plan_of_both.steps().count() < 2 * MOST_RULES);
    let mut many: Vec<_> =
        (0..30).map(|n| rule("tcp", Some((n + 10_000, n + 10_000)), &format!("10.0.{n}.0/24"))).collect();
    many.push(rule("-1", None, "0.0.0.0/0"));
    let Planned::Refused(why) = plan(&many, &of(&HIGH_RISK)) else { panic!() };
    assert!(why.contains("a group can have 60"), "{why}");
}

#[test]
fn nearly_everywhere_is_told() {
    let Planned::Plan(plan) = plan(&[rule("tcp", Some((22, 22)), "0.0.0.0/1")], &of(&SSH)) else { panic!() };
    assert!(plan.is_empty());
    assert_eq!(plan.remains, ["tcp 22 from 0.0.0.0/1 is let in, which is nearly everywhere: no control looks at it"]);
}

#[test]
fn what_security_hub_authorizes_is_what_stays() {
    let control = |ports: &[&str]| Control {
        id: "EC2.18".to_owned(),
        compliance: firebreak::finding::Compliance::Failed,
        rule: None,
        check: None,
        known_as: None,
        parameters: [("authorizedTcpPorts".to_owned(), ports.iter().map(ToString::to_string).collect())].into(),
    };
    let closes = Closes::of(&UNAUTHORIZED, Some(&control(&["443", "8443"]))).unwrap();
    assert!(!closes.tcp.closes(8443) && closes.tcp.closes(80) && closes.udp.closes(53));
    assert!(Closes::of(&UNAUTHORIZED, Some(&control(&["443", "web"]))).unwrap_err().contains("cannot be read"));
}

/// Whether a set of rules lets everywhere in to a port.
fn lets_in(rules: &[Rule], protocol: &str, port: i32) -> bool {
    rules.iter().any(|rule| {
        rule.cidr == "0.0.0.0/0"
            && (rule.protocol == "-1"
                || (rule.protocol == protocol && rule.ports.is_none_or(|(from, to)| (from..=to).contains(&port))))
    })
}

proptest! {
    /// Whatever the rules: afterwards everywhere is let in to each port exactly if it was before and it is not to be
    /// closed; every rule for other addresses is as it was; and a second plan has nothing to do.
    #[test]
    fn exactly_the_ports_in_question_are_closed(
        ranges in proptest::collection::vec((0u16..400, 0u16..400, any::<bool>(), 0u8..4), 0..6),
        number in 0usize..5,
    ) {
        let closes = of([&SSH, &RDP, &UNAUTHORIZED, &HIGH_RISK, &COMMON][number]);
        let rules: Vec<SecurityGroupRule> = ranges.iter().map(|(from, more, open, kind)| {
            let cidr = if *open { "0.0.0.0/0" } else { "10.0.0.0/8" };
            match kind {
                0 => rule("-1", None, cidr),
                1 => rule("udp", Some(((*from).into(), (from + more).into())), cidr),
                _ => rule("tcp", Some(((*from).into(), (from + more).into())), cidr),
            }
        }).collect();
        let mut after: BTreeMap<Rule, ()> = rules.iter().filter_map(Rule::of).map(|rule| (rule, ())).collect();
        let before: Vec<Rule> = after.keys().cloned().collect();
        let Planned::Plan(first) = plan(&rules, &closes) else { return Ok(()) };
        for step in first.steps() {
            let set: SetIngressRule = serde_json::from_value(step.args.clone()).unwrap();
            match set.wanted {
                Entry::Absent => prop_assert!(after.remove(&set.rule).is_some()),
                Entry::Present(_) => prop_assert!(after.insert(set.rule, ()).is_none()),
            }
        }
        let after: Vec<Rule> = after.into_keys().collect();
        for (protocol, ports) in [("tcp", &closes.tcp), ("udp", &closes.udp)] {
            for port in (0..=u16::MAX).filter(|port| *port < 1000 || ports.closes(*port) || port % 97 == 0) {
                let open = lets_in(&before, protocol, port.into());
                prop_assert_eq!(lets_in(&after, protocol, port.into()), open && !ports.closes(port), "{} {}", protocol, port);
            }
        }
        let others = |rules: &[Rule]| rules.iter().filter(|rule| rule.cidr != "0.0.0.0/0").cloned().collect::<Vec<_>>();
        prop_assert_eq!(others(&before), others(&after));
        let described: Vec<SecurityGroupRule> =
            after.iter().map(|rule_| rule(&rule_.protocol, rule_.ports, &rule_.cidr)).collect();
        let Planned::Plan(second) = plan(&described, &closes) else { return Err(TestCaseError::fail("refused")) };
        prop_assert!(second.is_empty(), "{:?}", second);
    }
}
