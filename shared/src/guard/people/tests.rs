#![allow(clippy::unwrap_used)]

use super::*;
use crate::door::caller::PersonKind;
use crate::guard::{PlanFacts, PolicyError, Warning};
use crate::run::Run;
use crate::run::tests::begun;
use jiff::Timestamp;

const TWO: &str = r#"
@id("people-decide") permit (principal is Person, action, resource);
@id("two") @reason("two persons here")
forbid (principal is Person, action in [Action::"approve", Action::"undo"], resource)
when { resource.account == "222222222222" && context.persons < 2 };
"#;

fn ann() -> Person {
    Person {
        id: "ann".to_owned(),
        kind: PersonKind::User,
        name: "ann".to_owned(),
        account: "111111111111".parse().unwrap(),
        role: None,
    }
}

fn question<'a>(run: &'a Run, tags: &'a BTreeMap<String, String>) -> Question<'a> {
    Question {
        playbook: "isolate-instance",
        target: &run.head.target,
        tags,
        units: Err("no policy asks"),
        finding: &run.head.finding,
        plan: PlanFacts::default(),
        spent_account: 0,
        spent_total: 0,
        now: Timestamp::UNIX_EPOCH,
        hub_account: "111111111111",
        break_glass: &[],
    }
}

/// The policies' word on a run in account 222222222222 with these tags.
fn said(text: &str, verb: Verb, persons: usize, tags: &[(&str, &str)]) -> Said {
    let run = begun();
    let (policies, ann) = (Policies::parse(text).unwrap(), ann());
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let about = question(&run, &tags);
    let word = Word { person: &ann, verb, about: &about, asked_by: &["ben".to_owned()] };
    let words = vec![word; persons];
    assert_eq!(needed(&policies, &words) == Some(persons), may(&policies, &word, persons).allowed);
    may(&policies, &word, persons)
}

#[test]
fn the_compiled_in_set_lets_whoever_calls_decide_everything() {
    for verb in Verb::ALL {
        assert!(said(crate::guard::DEFAULT, verb, 1, &[]).allowed, "{verb:?}");
    }
}

#[test]
fn a_policy_can_want_two_persons() {
    let alone = said(TWO, Verb::Approve, 1, &[]);
    assert_eq!(
        (alone.allowed, alone.reasons),
        (false, vec!["approve forbidden by `two`: two persons here".to_owned()])
    );
    assert!(said(TWO, Verb::Approve, 2, &[]).allowed && said(TWO, Verb::Reject, 1, &[]).allowed);
    assert!(!said(TWO, Verb::Undo, 1, &[]).allowed);
}

#[test]
fn each_of_several_must_be_allowed_at_the_number_that_decides() {
    let run = begun();
    let more_of_roles = r#"@id("people") permit (principal is Person, action, resource);
        @id("two") forbid (principal is Person, action, resource) when { context.persons < 2 };
        @id("three") forbid (principal is Person, action, resource) when { principal.name == "cy" && context.persons < 3 };
        @id("gone") forbid (principal == Person::"mallory", action, resource);"#;
    let policies = Policies::parse(more_of_roles).unwrap();
    let named = |name: &str| Person { id: name.to_owned(), name: name.to_owned(), ..ann() };
    let people = [named("ann"), named("ben"), named("cy"), named("mallory")];
    let none = BTreeMap::new();
    let about = question(&run, &none);
    let words = |which: &[usize]| -> Vec<Word<'_>> {
        let of = |n: &usize| Word { person: &people[*n], verb: Verb::Approve, about: &about, asked_by: &[] };
        which.iter().map(of).collect()
    };
    for (which, wanted) in [
        (&[0, 1][..], Some(2)),
        // In whichever order they say it.
        (&[0, 2], Some(3)),
        (&[2, 0], Some(3)),
        (&[0, 1, 2], Some(3)),
        (&[0, 3], None),
    ] {
        assert_eq!(needed(&policies, &words(which)), wanted, "{which:?}");
    }
}

#[test]
fn a_policy_can_want_another_person_than_the_one_who_asked() {
    let another = r#"@id("people") permit (principal is Person, action, resource);
        @id("another") forbid (principal is Person, action == Action::"approve", resource)
        when { context.asked_by.contains(principal) };"#;
    Policies::parse(another).unwrap().validate().unwrap();
    // Ben asked; ann decides.
    assert!(said(another, Verb::Approve, 1, &[]).allowed);
    let ann_asked = another.replace("(principal)", "(Person::\"ben\")");
    assert!(!said(&ann_asked, Verb::Approve, 1, &[]).allowed);
}

#[test]
fn a_policy_sees_who_it_is_and_what_about() {
    let only = r#"@id("ben") permit (principal == Person::"ben", action, resource);
        @id("users-reject") permit (principal is Person, action == Action::"reject", resource)
        when { principal.kind == "user" && context.playbook == Playbook::"isolate-instance" && !(principal has role) };"#;
    Policies::parse(only).unwrap().validate().unwrap();
    assert!(said(only, Verb::Reject, 1, &[]).allowed);
    let other = said(only, Verb::Approve, 1, &[]);
    assert_eq!(other.reasons, ["approve is not permitted to you by any policy"]);
}

#[test]
fn tags_make_it_stricter_and_never_laxer() {
    let by_tag = r#"@id("tagged") permit (principal is Person, action, resource) when { resource.hasTag("team") };
        @id("plain") permit (principal is Person, action == Action::"undo", resource);
        @id("stop") forbid (principal is Person, action == Action::"undo", resource) when { resource.hasTag("keep") };"#;
    assert!(!said(by_tag, Verb::Approve, 1, &[("team", "a")]).allowed);
    assert!(said(by_tag, Verb::Undo, 1, &[("team", "a")]).allowed);
    assert!(!said(by_tag, Verb::Undo, 1, &[("keep", "")]).allowed);
}

#[test]
fn where_a_policy_fails_or_asks_for_what_is_not_known_nothing_is_allowed() {
    let fails = r#"@id("all") permit (principal is Person, action, resource);
        @id("fails") forbid (principal is Person, action, resource) when { 9223372036854775807 + context.persons > 0 };"#;
    let failed = said(fails, Verb::Undo, 1, &[]);
    assert!(!failed.allowed && failed.failed, "{failed:?}");
    let asks = r#"@id("all") permit (principal is Person, action, resource);
        @id("unit") forbid (principal is Person, action, resource) when { resource has ou && resource.ou == "ou-x" };"#;
    let unknown = said(asks, Verb::Undo, 1, &[]);
    assert!(!unknown.allowed && unknown.reasons[0].contains("`unit` asks for it"), "{unknown:?}");
    // What is about playbooks asks nothing of people.
    assert!(
        said(&asks.replace("forbid (principal is Person", "forbid (principal is Playbook"), Verb::Undo, 1, &[]).allowed
    );
}

#[test]
fn what_is_written_about_people_is_checked_strictly() {
    for wrong in [
        r#"@id("x") permit (principal is Person, action == Action::"aprove", resource);"#,
        r#"@id("x") permit (principal is Person, action, resource) when { context.person < 2 };"#,
        r#"@id("x") permit (principal is Person, action, resource) when { principal.role == "a" };"#,
    ] {
        assert!(matches!(Policies::parse(wrong).unwrap().validate(), Err(PolicyError::Invalid(_))), "{wrong}");
    }
    Policies::parse(TWO).unwrap().validate().unwrap();
}

#[test]
fn a_set_that_leaves_people_nothing_is_warned_of() {
    let warns = |text: &str| Policies::parse(text).unwrap().warnings(&["isolate-instance"], Timestamp::UNIX_EPOCH);
    let nobody = warns(r#"@id("x") permit (principal is Playbook, action, resource);"#);
    assert!(nobody.contains(&Warning::NobodyDecides(vec!["approve", "reject", "undo"])), "{nobody:?}");
    let some =
        warns(r#"@id("x") permit (principal is Person, action in [Action::"request", Action::"reject"], resource);"#);
    assert!(some.contains(&Warning::NobodyDecides(vec!["approve", "undo"])), "{some:?}");
    let exempt = r#"@id("x") forbid (principal is Playbook, action == Action::"enforce", resource)
        when { ["222222222222"].contains(resource.account) };"#;
    assert!(warns(exempt).contains(&Warning::Ownerless("x".to_owned())));
    let of_people = TWO.replace("persons < 2", "persons < 2 && resource.kind == \"ec2-instance\"");
    assert!(!warns(&of_people).iter().any(|warning| matches!(warning, Warning::Ownerless(_))));
    let owned = exempt.replace(r#"@id("x")"#, r#"@id("x") @owner("ann")"#);
    assert!(!warns(&owned).contains(&Warning::Ownerless("x".to_owned())));
    let loud = warns(
        r#"@id("x") forbid (principal == Person::"Ann", action, resource);
        @id("y") forbid (principal is Person, action, resource) when { principal.name == "Ben" };"#,
    );
    for (policy, person) in [("x", "Ann"), ("y", "Ben")] {
        let wanted = Warning::Person { policy: policy.to_owned(), person: person.to_owned() };
        assert!(loud.contains(&wanted), "{loud:?}");
    }
    let everybody = warns(TWO);
    assert!(
        everybody.contains(&Warning::PermitsNothing)
            && !everybody.iter().any(|warning| matches!(warning, Warning::NobodyDecides(_)))
    );
    let forbids = warns(r#"@id("x") forbid (principal, action, resource) when { context.finding.sample };"#);
    assert!(forbids.contains(&Warning::ForbidsPeople("x".to_owned())), "{forbids:?}");
}
