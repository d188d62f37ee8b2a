//! Findings about controls: Security Hub is asked again in the security account, and what it has counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Instant;

use firebreak::action::{AnyAction, Boxed};
use firebreak::authenticate::{Authenticator, Authenticity};
use firebreak::aws::{Aws, Connection, http_client};
use firebreak::failure::Failure;
use firebreak::finding::{self, Finding, ResourceId, State};
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook};
use firebreak::run::Outcome;
use firebreak::screen::TurnedAway;
use firebreak::target::Target;
use firebreak_tests::deployment::{self, REGION};
use firebreak_tests::emulator::{Emulator, Observer, fresh_account, workspace};
use firebreak_tests::in_process::{Case, Permits, Security, Settings, run_to_end};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{is_so, isolating, worlds};

/// A member and the security account, and what is known of a control in both.
struct Hub {
    observer: Observer,
    aws: Aws,
    member: String,
    /// The finding as the event has it.
    reported: Value,
}

impl Hub {
    async fn fresh() -> Self {
        let emulator = Emulator::shared().await.unwrap();
        let observer = emulator.observer().await.unwrap();
        let (account, member) = (fresh_account(), fresh_account());
        let held = observer.credentials(&account).await.unwrap();
        let aws = deployment::account(emulator, &account, &held, &Connection::default()).unwrap();
        let text = std::fs::read_to_string(workspace().join("events/securityhub/control-bucket.json")).unwrap();
        let event: Value = serde_json::from_str(&text.replace("222222222222", &member)).unwrap();
        let reported = event["detail"]["findings"][0].clone();
        observer.call(&account, REGION, "securityhub", "enable_security_hub", json!({})).await.unwrap();
        Self { observer, aws, member, reported }
    }

    /// Puts findings into the security account's Security Hub.
    async fn has(&self, finding: &Value) {
        let account = self.aws.account.as_str();
        let params = json!({"Findings": [finding]});
        let answer = self.observer.call(account, REGION, "securityhub", "batch_import_findings", params).await.unwrap();
        assert_eq!(answer["SuccessCount"], 1, "{answer}");
    }

    /// The reported finding, changed since.
    fn since(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut finding = self.reported.clone();
        change(&mut finding);
        finding
    }

    async fn check(&self) -> Authenticity {
        Authenticator::default().check(&self.aws, &self.finding()).await
    }

    fn finding(&self) -> Finding {
        finding::parse(&self.reported).unwrap().findings.remove(0).unwrap()
    }
}

#[test]
fn a_control_that_failed_is_what_security_hub_says() {
    run_to_end(|| async {
        let hub = Hub::fresh().await;
        let foreign = format!("arn:aws:securityhub:{REGION}:{0}:product/{0}/default", hub.member);
        // Of the same id, put in by the member: it neither stands for the genuine one nor hides it.
        hub.has(&hub.since(|finding| finding["ProductArn"] = json!(foreign))).await;
        hub.has(&hub.reported).await;
        let Authenticity::Genuine(genuine) = hub.check().await else { panic!("not genuine") };
        assert_eq!(*genuine, hub.finding(), "what is fetched is read like the event");
        assert_eq!(genuine.control.as_ref().unwrap().id, "S3.8");
        assert!(matches!(genuine.resources[0].id, ResourceId::Bucket(_)), "{:?}", genuine.resources);
    });
}

#[test]
fn a_finding_that_security_hub_does_not_have_is_absent() {
    run_to_end(|| async {
        let hub = Hub::fresh().await;
        assert!(matches!(hub.check().await, Authenticity::Absent));
        let foreign = format!("arn:aws:securityhub:{REGION}:{0}:product/{0}/default", hub.member);
        hub.has(&hub.since(|finding| finding["ProductArn"] = json!(foreign))).await;
        assert!(matches!(hub.check().await, Authenticity::Absent), "one of the member's own stands for nothing");
    });
}

#[test]
fn what_was_put_aside_since_is_for_a_person_and_what_has_passed_for_nobody() {
    run_to_end(|| async {
        for (status, state) in [("SUPPRESSED", State::Suppressed), ("RESOLVED", State::Resolved)] {
            let hub = Hub::fresh().await;
            hub.has(&hub.since(|finding| finding["Workflow"]["Status"] = json!(status))).await;
            let Authenticity::PutAside(genuine) = hub.check().await else { panic!("{status}") };
            assert_eq!(genuine.state, state);
        }
        let hub = Hub::fresh().await;
        hub.has(&hub.since(|finding| finding["Compliance"]["Status"] = json!("PASSED"))).await;
        let Authenticity::TurnedAway(TurnedAway::NotLive(State::Passed, _)) = hub.check().await else {
            panic!("passed")
        };
        let hub = Hub::fresh().await;
        let elsewhere = |finding: &mut Value| {
            finding["Workflow"]["Status"] = json!("SUPPRESSED");
            finding["Resources"][0]["Details"]["AwsS3Bucket"]["OwnerAccountId"] = json!("333333333333");
        };
        hub.has(&hub.since(elsewhere)).await;
        let Authenticity::TurnedAway(TurnedAway::OtherAccount { .. }) = hub.check().await else { panic!("elsewhere") };
    });
}

#[test]
fn what_the_member_account_writes_can_lower_the_severity_and_not_raise_it() {
    run_to_end(|| async {
        for (label, severity) in [("LOW", 1.0), ("CRITICAL", 7.0)] {
            let hub = Hub::fresh().await;
            hub.has(&hub.since(|finding| finding["Severity"] = json!({"Label": label}))).await;
            let Authenticity::Genuine(genuine) = hub.check().await else { panic!("not genuine") };
            assert!((genuine.severity - severity).abs() < f64::EPSILON, "{label}: {}", genuine.severity);
        }
    });
}

#[test]
fn security_hub_that_cannot_be_asked_is_not_taken_for_a_forgery() {
    run_to_end(|| async {
        let hub = Hub::fresh().await;
        let emulator = Emulator::shared().await.unwrap();
        let held = hub.observer.credentials(hub.aws.account.as_str()).await.unwrap();
        let connection =
            Connection { attempts: 1, attempt_timeout: std::time::Duration::ZERO, ..Connection::default() };
        let aws = deployment::account(emulator, hub.aws.account.as_str(), &held, &connection).unwrap();
        let found = Authenticator::default().check(&aws, &hub.finding()).await;
        assert!(matches!(found, Authenticity::Unknown(_)), "{found:?}");
    });
}

/// Stands for a playbook that answers a control: whatever control failed on an instance, it isolates it. The loop is
/// tried with it; what it does is `isolate-instance`'s own.
struct ForControls;

impl Playbook for ForControls {
    fn meta(&self) -> &'static Meta {
        isolating().meta()
    }
    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        isolating().actions()
    }
    fn targets(&self, finding: &Finding) -> Vec<Target> {
        let about = finding.instances.iter().filter(|_| finding.control.is_some());
        about.map(|id| Target::instance(finding.account.clone(), finding.region.clone(), id.clone())).collect()
    }
    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>> {
        isolating().plan(cx, target, finding)
    }
}

/// An instance, the event of a control that failed on it, and a function that answers it.
struct Failed {
    case: Case,
    hub: firebreak::hub::Hub,
    event: Value,
}

impl Failed {
    async fn on(security: &Arc<Security>) -> Self {
        let case = Case::new(security, isolating(), &worlds(isolating()).await.least).await.unwrap();
        let aws = security.aws(http_client(), Settings::default()).unwrap();
        let hub = firebreak::hub::Hub::new(case.hub.function, &[&ForControls], security.config().unwrap(), aws);
        let text = std::fs::read_to_string(workspace().join("events/securityhub/control-bucket.json")).unwrap();
        let text = text.replace("222222222222", &case.member).replace("111111111111", &security.account);
        let mut event: Value = serde_json::from_str(&text).unwrap();
        let arn = format!("arn:aws:ec2:{REGION}:{}:instance/{}", case.member, case.target.id);
        event["detail"]["findings"][0]["Resources"] =
            json!([{"Type": "AwsEc2Instance", "Id": arn, "Partition": "aws", "Region": REGION}]);
        Self { case, hub, event }
    }

    /// Puts the finding into Security Hub with this workflow status.
    async fn has(&self, status: &str) {
        let mut finding = self.event["detail"]["findings"][0].clone();
        finding["Workflow"] = json!({"Status": status});
        let params = json!({"Findings": [finding]});
        let answer = self.case.security.call("securityhub", "batch_import_findings", params).await.unwrap();
        assert_eq!(answer["SuccessCount"], 1, "{answer}");
    }

    async fn outcome(&self) -> (Outcome, String) {
        let until = Instant::now() + Settings::default().time;
        let answer = self.hub.receive(self.event.to_string().as_bytes(), until).await.unwrap();
        let one = answer.outcomes.first().unwrap();
        (one.outcome, one.why.clone())
    }

    async fn is_unclaimed(&self) {
        let ledger = self.case.security.ledger().unwrap();
        let view = ledger.view(ForControls.meta(), &self.case.target, Timestamp::now()).await.unwrap();
        assert!(view.hold.is_none() && view.spent_account == 0, "{view:?}");
    }
}

#[test]
fn a_forged_control_claims_nothing_and_the_genuine_one_is_answered() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let failed = Failed::on(&security).await;
        let before = failed.case.state().await.unwrap();
        let (outcome, why) = failed.outcome().await;
        assert_eq!(outcome, Outcome::Refused);
        assert!(why.contains("Security Hub does not have this finding"), "{why}");
        assert_eq!(failed.case.state().await.unwrap(), before);
        failed.is_unclaimed().await;

        failed.has("NEW").await;
        // Seen again later: the same copy would not be asked about for ten minutes.
        let later = failed.event.to_string().replace("2026-11-03T09:27:05.000Z", "2026-11-03T09:47:05.000Z");
        let later = Failed { event: serde_json::from_str(&later).unwrap(), ..failed };
        assert_eq!(later.outcome().await.0, Outcome::Contained);
        is_so(&later.case).await.unwrap();
    });
}

#[test]
fn what_was_put_aside_after_the_event_is_proposed_and_cannot_be_approved_while_it_is() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let failed = Failed::on(&security).await;
        failed.has("SUPPRESSED").await;
        let before = failed.case.state().await.unwrap();
        let (outcome, why) = failed.outcome().await;
        assert_eq!(outcome, Outcome::Proposed, "{why}");
        assert!(why.contains("it was suppressed in Security Hub after the event was sent"), "{why}");
        let told = security.told_about(&failed.case.target.id).await.unwrap();
        assert!(told.iter().any(|message| message.contains("DECISION NEEDED")), "{told:?}");

        let answer = failed.case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
        assert!(answer.outcomes[0].why.contains("suppressed"), "{:?}", answer.outcomes);
        assert_eq!(failed.case.state().await.unwrap(), before);
    });
}
