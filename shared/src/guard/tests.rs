#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::finding::{ResourceRole, Source, State};

const STARTER: &str = include_str!("../../../policies/starter.cedar");

pub(super) fn finding(severity: f64) -> Finding {
    Finding {
        source: Source::GuardDuty,
        id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        arn: None,
        finding_type: "CryptoCurrency:EC2/BitcoinTool.B!DNS".to_owned(),
        severity,
        account: "222222222222".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        partition: crate::ids::Partition::Aws,
        sample: false,
        state: State::Active,
        first_seen: None,
        last_seen: Some("2026-11-22T01:00:00Z".parse().unwrap()),
        count: Some(1),
        detector_id: None,
        role: ResourceRole::Actor,
        direction: Default::default(),
        resource_type: "Instance".to_owned(),
        instances: vec!["i-0123456789abcdef0".parse().unwrap()],
        interfaces: vec![],
        elsewhere: vec![],
        identities: vec![],
        resources: vec![],
        signals: vec![],
        control: None,
        product: None,
        request: None,
        asked_by: Vec::new(),
        title: String::new(),
    }
}

fn ask_about(
    policies: &Policies,
    finding: &Finding,
    tags: &BTreeMap<String, String>,
    account: &str,
    now: &str,
) -> Ruling {
    ask_in(policies, finding, tags, account, Err("nobody asked AWS"), now)
}

fn ask_in(
    policies: &Policies,
    finding: &Finding,
    tags: &BTreeMap<String, String>,
    account: &str,
    units: Result<&Units, &str>,
    now: &str,
) -> Ruling {
    let target = Target::instance(
        account.parse().unwrap(),
        "eu-west-1".parse().unwrap(),
        "i-0123456789abcdef0".parse().unwrap(),
    );
    rule(
        policies,
        &Question {
            playbook: "isolate-instance",
            target: &target,
            tags,
            units,
            finding,
            plan: PlanFacts::default(),
            spent_account: 0,
            spent_total: 0,
            now: now.parse().unwrap(),
            hub_account: "111111111111",
            break_glass: &[],
        },
    )
}

const MEMBER: &str = "222222222222";
const NOON: &str = "2026-11-22T02:00:00Z";

#[test]
fn shipped_sets_are_valid() {
    for source in [DEFAULT, STARTER] {
        Policies::parse(source).unwrap().validate().unwrap();
    }
}

/// What a person may uncomment works as it stands.
#[test]
fn the_examples_in_the_starter_set_are_valid() {
    let shown = |line: &&str| {
        ["// @", "// forbid", "// when"].iter().any(|start| line.starts_with(start)) && !line.contains("  ")
    };
    let examples: Vec<&str> = STARTER.lines().filter(shown).map(|line| line.trim_start_matches("// ")).collect();
    let policies = Policies::parse(&format!("{STARTER}\n{}", examples.join("\n"))).unwrap();
    policies.validate().unwrap();
    let of = |name: &str| policies.all.policy(&PolicyId::new(name)).is_some();
    assert!(of("ask-where-tagged") && of("exempt-payments-migration"), "{examples:?}");
    let tags = BTreeMap::from([("firebreak".to_owned(), "ask".to_owned())]);
    assert_eq!(ask_about(&policies, &finding(8.0), &tags, MEMBER, NOON).mode, Mode::Propose);
    let starter = Policies::parse(STARTER).unwrap();
    assert_eq!(ask_about(&starter, &finding(8.0), &tags, MEMBER, NOON).mode, Mode::Enforce, "a tag is anybody's");
}

#[test]
fn the_default_set_proposes_and_never_enforces() {
    let policies = Policies::default();
    let ruling = ask_about(&policies, &finding(10.0), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!((ruling.mode, ruling.failed), (Mode::Propose, false));
    assert_eq!(ask_about(&policies, &finding(10.0), &BTreeMap::new(), "111111111111", NOON).mode, Mode::Refuse);
}

#[test]
fn the_starter_set_enforces_what_is_severe() {
    let policies = Policies::parse(STARTER).unwrap();
    let severe = ask_about(&policies, &finding(8.0), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!(severe.mode, Mode::Enforce, "{severe:?}");
    assert_eq!(severe.hold_seconds, Some(72 * 3600));
    assert!(severe.leaves.is_empty());
    let mild = ask_about(&policies, &finding(6.9), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!(mild.mode, Mode::Propose);
    let old = ask_about(&policies, &finding(8.0), &BTreeMap::new(), MEMBER, "2026-11-24T02:00:00Z");
    assert_eq!(old.mode, Mode::Propose);
    insta::assert_snapshot!(old.reasons.join("\n"), @"
    enforce forbidden by `not-when-old`: the activity was last seen more than a day ago
    propose permitted by `propose-everything`
    ");
}

#[test]
fn a_policy_that_errors_is_a_failure_and_proposes() {
    // The attribute is optional and not asked for: evaluation errors, and Cedar would skip the forbid.
    let source = r#"@id("all") permit (principal, action, resource);
        @id("typo") forbid (principal, action, resource) when { resource.ou == "prod" };"#;
    let policies = Policies::parse(source).unwrap();
    assert!(policies.validate().is_err(), "strict validation must refuse it before it is published");
    let ruling = ask_about(&policies, &finding(9.0), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!((ruling.mode, ruling.failed), (Mode::Propose, true));
}

#[test]
fn every_shipped_forbid_is_safe_when_optional_facts_are_absent() {
    for source in [DEFAULT, STARTER] {
        let policies = Policies::parse(source).unwrap();
        for last_seen in [None, Some("2026-11-22T01:00:00Z".parse().unwrap())] {
            let mut finding = finding(9.0);
            finding.last_seen = last_seen;
            let ruling = ask_about(&policies, &finding, &BTreeMap::new(), MEMBER, NOON);
            assert!(!ruling.failed, "{ruling:?}");
        }
    }
}

/// Enforces everywhere with every leave, save in one unit and below another.
const SAVE: &str = r#"@id("all") permit (principal, action, resource);
    @id("save") forbid (principal, action == Action::"enforce", resource)
    when { (resource has ou && resource.ou == "ou-abcd-22222222") || (resource has ous && resource.ous.contains("ou-abcd-33333333")) };"#;

#[test]
fn policies_see_where_the_account_stands() {
    let policies = Policies::parse(SAVE).unwrap();
    policies.validate().unwrap();
    assert_eq!(policies.asking_for_units(), ["save"]);
    let in_path = |units: &str| {
        let path = format!("o-exampleorg/r-abcd/{units}{MEMBER}/");
        let units = Units::of_path(&path, &MEMBER.parse().unwrap()).unwrap();
        let ruling = ask_in(&policies, &finding(9.0), &BTreeMap::new(), MEMBER, Ok(&units), NOON);
        assert!(!ruling.failed, "{ruling:?}");
        ruling.mode
    };
    assert_eq!(in_path(""), Mode::Enforce);
    assert_eq!(in_path("ou-abcd-11111111/"), Mode::Enforce);
    assert_eq!(in_path("ou-abcd-11111111/ou-abcd-22222222/"), Mode::Propose);
    assert_eq!(in_path("ou-abcd-22222222/ou-abcd-11111111/"), Mode::Enforce, "its own unit is another");
    assert_eq!(in_path("ou-abcd-33333333/ou-abcd-11111111/"), Mode::Propose);
}

#[test]
fn where_the_account_stands_is_missed_only_by_a_set_that_asks() {
    let asking = Policies::parse(SAVE).unwrap();
    let ruling = ask_about(&asking, &finding(9.0), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!((ruling.mode, ruling.failed), (Mode::Propose, false));
    assert!(ruling.leaves.is_empty(), "{:?}", ruling.leaves);
    insta::assert_snapshot!(ruling.reasons[0], @"the organizational unit of account 222222222222 is not known (nobody asked AWS), and `save` asks for it");
    // A permit that asks counts as well: what it leaves out may be what is not known.
    let permit =
        r#"@id("all") permit (principal, action, resource) unless { resource has ous && resource.ous.contains("x") };"#;
    let ruling = ask_about(&Policies::parse(permit).unwrap(), &finding(9.0), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!(ruling.mode, Mode::Propose);
    for source in [DEFAULT, STARTER] {
        assert!(Policies::parse(source).unwrap().asking_for_units().is_empty());
    }
    let plain = Policies::parse(r#"@id("all") permit (principal, action, resource);"#).unwrap();
    let ruling = ask_about(&plain, &finding(9.0), &BTreeMap::new(), MEMBER, NOON);
    assert_eq!((ruling.mode, ruling.leaves.len()), (Mode::Enforce, Leave::ALL.len()));
}

#[test]
fn an_exemption_ends_by_itself() {
    let source = format!(
        r#"{STARTER} @id("exempt") @owner("a@example.com") @expires("2026-11-22T03:00:00Z")
        forbid (principal, action == Action::"enforce", resource) when {{ resource.account == "222222222222" }};"#
    );
    let policies = Policies::parse(&source).unwrap();
    let during = ask_about(&policies, &finding(9.0), &BTreeMap::new(), MEMBER, "2026-11-22T02:59:59Z");
    assert_eq!(during.mode, Mode::Propose);
    let after = ask_about(&policies, &finding(9.0), &BTreeMap::new(), MEMBER, "2026-11-22T03:00:00Z");
    assert_eq!(after.mode, Mode::Enforce);
}

#[test]
fn an_exemption_needs_an_owner_and_every_policy_an_id() {
    let no_owner = r#"@id("x") @expires("2026-11-22T03:00:00Z") forbid (principal, action, resource);"#;
    assert_eq!(Policies::parse(no_owner).unwrap_err().to_string(), "policy `x`: `@owner`: what expires needs an owner");
    assert!(matches!(Policies::parse("permit (principal, action, resource);"), Err(PolicyError::Id(_))));
    let twice = r#"@id("x") permit (principal, action, resource); @id("x") forbid (principal, action, resource);"#;
    assert!(matches!(Policies::parse(twice), Err(PolicyError::Id(_))));
}

const PLAYBOOKS: [&str; 12] = [
    "isolate-instance",
    "snapshot-volumes",
    "contain-access-key",
    "contain-user",
    "revoke-role-sessions",
    "block-public-bucket",
    "close-ingress",
    "restore-trail",
    "retire-access-key",
    "unshare-db-snapshot",
    "unshare-snapshot",
    "validate-log-files",
];

/// What is said of the starter set with more in it.
fn warned(more: &str) -> String {
    let policies = Policies::parse(&format!("{STARTER}\n{more}")).unwrap();
    policies.validate().unwrap();
    let warnings = policies.warnings(&PLAYBOOKS, NOON.parse().unwrap());
    warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

#[test]
fn the_shipped_sets_give_no_warning() {
    assert_eq!(warned(""), "");
    assert_eq!(Policies::default().warnings(&PLAYBOOKS, NOON.parse().unwrap()), []);
}

#[test]
fn a_valid_set_that_does_not_do_what_it_says_is_warned_of() {
    insta::assert_snapshot!(warned(
        r#"@id("scope") permit (principal == Playbook::"isolate-instanse", action, resource);
        @id("condition") permit (principal is Playbook, action, resource)
        unless { [Playbook::"snapshot-volumes", Playbook::"snapshot\nvolumes"].contains(principal) };
        @id("note") @expire("2026-01-01T00:00:00Z") permit (principal, action, resource);
        @id("over") @owner("a@example.com") @expires("2026-11-22T02:00:00Z") forbid (principal is Playbook, action, resource);
        @id("running") @owner("a@example.com") @expires("2026-11-22T02:00:01Z") forbid (principal is Playbook, action, resource);
        @id("account") forbid (principal is Playbook, action, resource) when { "4444-5555-6666" != resource.account };
        @id("accounts") forbid (principal is Playbook, action, resource)
        when { ["444455556666", "44445555666"].contains(resource.account) && resource.region == "eu-west-1" };
        @id("words") forbid (principal is Playbook, action, resource)
        when { resource.kind == "ec2_instance" || context.plan.leaves.contains("cut-flows") };
        @id("fine") forbid (principal is Playbook, action, resource)
        when { resource.kind == "ec2-instance" && ["cut-tracked-flows"].containsAny(context.plan.leaves) };"#
    ), @r"
    policy `condition`: there is no playbook `snapshot\u{a}volumes`, so what it says of it never counts
    policy `scope`: there is no playbook `isolate-instanse`, so what it says of it never counts
    policy `note`: nobody reads `@expire`; there are @id, @reason, @hold, @owner, @expires
    policy `over`: expired 2026-11-22, so it does not count
    policy `account`: `4444-5555-6666` is not the id of an account: 12 digits
    policy `accounts`: `44445555666` is not the id of an account: 12 digits
    policy `words`: `cut-flows` is no leave, so nothing is ever equal to it; there are cut-tracked-flows, replace-instance-profile, disable-metadata-endpoint, revoke-every-session
    policy `words`: `ec2_instance` is no kind of target, so nothing is ever equal to it; there are ec2-instance, iam-user, iam-role, iam-role-session, ec2-security-group, s3-bucket, ec2-snapshot, rds-snapshot, rds-cluster-snapshot, cloudtrail-trail
    policy `account`: it is an exemption without an owner: say by `@owner` who answers for it
    policy `accounts`: it is an exemption without an owner: say by `@owner` who answers for it
    ");
}

#[test]
fn a_set_that_permits_no_mode_or_forgets_what_is_never_is_warned_of() {
    let of = |source: &str| Policies::parse(source).unwrap().warnings(&PLAYBOOKS, NOON.parse().unwrap());
    let leaves_only = r#"@id("leave") permit (principal, action == Action::"cut-tracked-flows", resource);
        @id("over") @owner("a@example.com") @expires("2026-01-01T00:00:00Z") permit (principal, action, resource);
        @id("no") forbid (principal, action, resource);"#;
    assert!(of(leaves_only).contains(&Warning::PermitsNothing));
    for mode in ["enforce", "propose", "observe"] {
        let one = format!(r#"@id("one") permit (principal, action in [Action::"{mode}"], resource);"#);
        let never = ["never-a-sample", "never-break-glass", "never-the-security-account"].map(Warning::Never);
        assert_eq!(
            of(&one),
            [vec![Warning::NobodyDecides(vec!["approve", "reject", "undo"])], never.to_vec()].concat()
        );
    }
    insta::assert_snapshot!(of(leaves_only).iter().map(|warning| format!("{warning}\n")).collect::<String>(), @"
    policy `over`: expired 2026-01-01, so it does not count
    no policy permits to enforce, to propose or to observe: every finding is refused
    no policy permits people to approve, to reject, to undo: write `permit (principal is Person, action, resource);`
    policy `no`: it also forbids people to decide, to undo among it; where it is about playbooks, write `principal is Playbook`
    there is no policy `never-a-sample`: keep the three `never-…` policies of policies/starter.cedar, or what they forbid is not forbidden
    there is no policy `never-break-glass`: keep the three `never-…` policies of policies/starter.cedar, or what they forbid is not forbidden
    there is no policy `never-the-security-account`: keep the three `never-…` policies of policies/starter.cedar, or what they forbid is not forbidden
    ");
}

#[test]
fn what_does_not_parse_is_said_by_line_and_column() {
    let said = |source: &str| Policies::parse(source).unwrap_err().to_string();
    insta::assert_snapshot!(said("@id(\"é\")\n  permit (principal, action resource);"), @"policy set does not parse: line 2, column 29: unexpected token `resource`");
    let numbers = |condition: &str| {
        format!("@id(\"x\")\npermit (principal, action, resource)\nwhen {{ context.finding.severity {condition} }};")
    };
    insta::assert_snapshot!(said(&numbers(">= 7.0")), @r#"policy set does not parse: line 3, column 38: unexpected token `0`; a decimal is compared by a method: `.greaterThanOrEqual(decimal("7.0"))`"#);
    assert!(!said(&numbers(">= >")).contains("decimal"));
    let whole = Policies::parse(&numbers(">= 7")).unwrap().validate().unwrap_err().to_string();
    assert!(whole.ends_with(r#"a decimal is compared by a method: `.greaterThanOrEqual(decimal("7.0"))`"#), "{whole}");
}

proptest! {
    /// Whoever can tag a resource can make the guard stricter and never laxer, whatever the policies say.
    #[test]
    fn tags_never_make_the_guard_laxer(
        tags in proptest::collection::btree_map("[a-z]{1,4}|firebreak|env", ".{0,8}|ask|prod", 0..4),
        severity in 0.0f64..10.0,
        lax in any::<bool>(),
    ) {
        let lax_source = r#"@id("by-tag") permit (principal, action, resource)
            when { resource.hasTag("env") && resource.getTag("env") == "prod" };
            @id("unless-tag") forbid (principal, action, resource)
            unless { resource.hasTag("firebreak") };
            @id("ask") permit (principal, action == Action::"propose", resource);"#;
        let policies = Policies::parse(if lax { lax_source } else { STARTER }).unwrap();
        let without = ask_about(&policies, &finding(severity), &BTreeMap::new(), MEMBER, NOON);
        let with = ask_about(&policies, &finding(severity), &tags, MEMBER, NOON);
        prop_assert!(with.mode <= without.mode, "{with:?} is laxer than {without:?}");
        prop_assert!(with.leaves.is_subset(&without.leaves));
    }
}
