//! The same finding many times, several findings of one target, forged ones, and changes that others make.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use firebreak::finding::Finding;
use firebreak::ledger::Which;
use firebreak::ledger::decisions::Verb;
use firebreak::plan::{Step, Undo};
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, Run, RunState, UndoResult};
use firebreak::target::TargetKind;
use firebreak_tests::compare::{differences, shown};
use firebreak_tests::enrolment::enrol;
use firebreak_tests::events;
use firebreak_tests::faults::{Doing, Fault, Request};
use firebreak_tests::in_process::{
    Case, Delivered, FUNCTIONS, Permits, REGION, Security, Traced, event_about, finding_in, playbooks, run_to_end,
};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{all, done, fixes, in_turn, in_turn_among, is_restored, is_so, named, pairs, worlds};

/// The runs that the ledger has about a case's target.
async fn runs(case: &Case) -> Result<Vec<Run>> {
    let runs = case.security.ledger()?.runs(200, None, Which::default()).await?.0;
    Ok(runs
        .into_iter()
        .filter(|run| run.head.target == case.target && run.head.playbook == case.playbook.id())
        .collect())
}

/// Delivers events at once, each to a process of its own, and expects one run.
async fn one_run(case: &Case, events: &[Value]) -> Result<()> {
    let processes: Vec<_> = events.iter().map(|_| case.another_process()).collect::<Result<_>>()?;
    let deliveries = processes.iter().zip(events).map(|((hub, _), event)| {
        let bytes = event.to_string().into_bytes();
        async move { hub.receive(&bytes, std::time::Instant::now() + case.settings.time).await }
    });
    let mut outcomes = BTreeMap::new();
    for answer in join_all(deliveries).await {
        let answer = answer.map_err(|failure| anyhow::anyhow!("{}", failure.brief()))?;
        for answered in answer.outcomes {
            *outcomes.entry(answered.outcome.as_str()).or_insert(0) += 1;
        }
    }
    let expected = BTreeMap::from([(done(case.playbook).as_str(), 1), (Outcome::NoChange.as_str(), events.len() - 1)]);
    ensure!(outcomes == expected, "{outcomes:?}");
    is_so(case).await?;
    let runs = runs(case).await?;
    ensure!(runs.len() == 1, "{} runs", runs.len());
    let view = case.security.ledger()?.view(case.playbook.meta(), &case.target, Timestamp::now()).await?;
    ensure!(view.spent_account == 1, "{} spent", view.spent_account);
    let state = case.state().await?;
    let made = state["security_groups"].as_object().context("no groups")?.values();
    let made =
        made.filter(|group| group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine-")));
    ensure!(made.count() <= 1, "more than one group was made");
    case.settle().await?;
    Ok(())
}

/// How one thing is reported more than once, all at the same time.
#[derive(Debug)]
enum Reported {
    /// The same finding eight times.
    Again,
    /// Three findings.
    Thrice,
    /// By member and administrator, in every shape.
    InEveryShape,
}

impl Reported {
    async fn events(&self, case: &Case) -> Result<Vec<Value>> {
        match self {
            Self::Again => Ok(vec![case.event.clone(); 8]),
            Self::Thrice => {
                let (second, third) = (case.report(&case.target.id).await?, case.report(&case.target.id).await?);
                Ok(vec![case.event.clone(), second, third])
            }
            Self::InEveryShape => {
                let mut of_member = case.event.clone();
                of_member["account"] = json!(case.member);
                if fixes(case.playbook) {
                    let (bare, all) =
                        (case.event["detail"]["findings"][0].clone(), case.event["detail"]["findings"].clone());
                    return Ok(vec![case.event.clone(), of_member, bare, json!({"Findings": all}), imported(case)?]);
                }
                let bare = case.event["detail"].clone();
                let findings = json!({"Findings": [pascal(&bare)]});
                Ok(vec![case.event.clone(), of_member, bare, findings, imported(case)?, imported_v2(case)?])
            }
        }
    }
}

#[test]
fn one_target_is_one_run_however_it_is_reported() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (playbook, reported) in in_turn(&[Reported::Again, Reported::Thrice, Reported::InEveryShape]) {
            let security = Arc::clone(&security);
            cases.push(named(format!("{}: {reported:?}", playbook.id()), async move {
                let case = Case::new(&security, playbook, &worlds(playbook).await.least).await?;
                let before = case.state().await?;
                one_run(&case, &reported.events(&case).await?).await?;
                // The first before-state is the one that undo restores.
                case.decide(Verb::Undo).await?.answer()?;
                is_restored(&case, &before, &case.the_run().await?).await
            }));
        }
        all("one target, one run", cases).await;
    });
}

/// Another finding about the case's victim, genuine, which joined while the first was answered.
async fn another_joins(case: &Case) -> Result<Finding> {
    let event = event_about(case.playbook, &case.security.account, &case.member, &case.ids, case.ids.get("victim")?)?;
    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await?;
    let finding = finding_in(&event)?;
    case.security.ledger()?.join(case.playbook.meta().hold, &case.target, &finding, Timestamp::now()).await?;
    Ok(finding)
}

/// The ids of the findings on the hold.
async fn on_hold(case: &Case) -> Result<Vec<String>> {
    let joined = case.security.ledger()?.joined(case.playbook.meta().hold, &case.target).await?;
    Ok(joined.into_iter().map(|joined| joined.finding.id.to_string()).collect())
}

/// A run of the case's finding that ends before anything is changed.
fn changes_nothing(request: &Request) -> bool {
    matches!(request.doing, Doing::Applying(_)) && !request.reads()
}

/// A finding is fetched again from its source.
fn fetches(request: &Request) -> bool {
    matches!(request.service.as_str(), "guardduty" | "securityhub")
}

/// Another finding has joined a run that ends before anything is changed.
#[derive(Debug)]
enum Joined {
    /// It is answered at once, and so would the next be.
    Answered,
    /// The process dies in between.
    Interrupted,
    /// To answer it fails; then its own run changes nothing either.
    Failing,
}

async fn the_next_is_answered_at_once(security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
    let (second, third) = (another_joins(&case).await?, another_joins(&case).await?);
    // The first finding's run changes nothing, the second's is carried out.
    let until = second.id.to_string();
    let mut denied = true;
    case.faults.rule(move |request| {
        denied &= !(fetches(request) && request.body.contains(&until));
        (denied && changes_nothing(request)).then_some(Fault::Denied)
    });
    let answer = case.deliver().await.answer()?;
    ensure!(answer.outcomes.iter().all(|o| o.outcome == done(playbook)), "{:?}", answer.outcomes);
    is_so(&case).await?;
    ensure!(case.the_run().await?.head.finding.id == second.id, "another finding's run");
    ensure!(on_hold(&case).await? == [third.id.to_string()], "the third still joins");
    case.settle().await?;
    ensure!(runs(&case).await?.len() == 2, "the third had a run of its own");
    Ok(())
}

async fn the_process_dies_in_between(security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let mut case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
    let second = another_joins(&case).await?;
    let id = second.id.to_string();
    case.faults.rule(move |request| {
        let second = fetches(request) && request.body.contains(&id);
        if second { Some(Fault::DiesBefore) } else { changes_nothing(request).then_some(Fault::Denied) }
    });
    ensure!(matches!(case.deliver().await, Delivered::Died), "nobody died");
    ensure!(on_hold(&case).await? == [second.id.to_string()], "the finding is lost");
    ensure!(case.the_run().await?.state == RunState::Freed, "the first run is not over");
    case.restart()?;
    case.settle().await?;
    let run = case.the_run().await?;
    ensure!(run.head.finding.id == second.id && run.state == RunState::Held, "{:?}", run.state);
    ensure!(on_hold(&case).await?.is_empty(), "it was answered and is still on the hold");
    is_so(&case).await
}

async fn answering_fails_and_then_nothing_changes(security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
    let second = another_joins(&case).await?;
    let id = second.id.to_string();
    let mut begun = false;
    case.faults.rule(move |request| {
        begun |= fetches(request) && request.body.contains(&id);
        // From the second finding on, the account cannot be reached.
        if begun && request.operation == "AssumeRole" {
            return Some(Fault::NotSent);
        }
        changes_nothing(request).then_some(Fault::Denied)
    });
    case.deliver().await.answer()?;
    ensure!(on_hold(&case).await? == [second.id.to_string()], "the finding is lost");
    // Reached again, and its own run changes nothing either: it was answered, and that is the end.
    case.faults.rule(|request| changes_nothing(request).then_some(Fault::Denied));
    case.settle().await?;
    ensure!(on_hold(&case).await?.is_empty(), "it was answered and is still on the hold");
    let run = case.the_run().await?;
    ensure!(run.head.finding.id == second.id && run.state == RunState::Freed, "{:?}", run.state);
    ensure!(runs(&case).await?.len() == 2, "one run each");
    Ok(())
}

#[test]
fn what_joined_a_run_that_changed_nothing_is_answered_next_and_none_is_lost() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        let others = in_turn_among(|p| !fixes(p), &[Joined::Answered, Joined::Interrupted, Joined::Failing]);
        // Of a control Security Hub is asked when the account has been reached.
        for (playbook, joined) in
            others.into_iter().chain(in_turn_among(fixes, &[Joined::Answered, Joined::Interrupted]))
        {
            let security = Arc::clone(&security);
            cases.push(named(format!("{}: {joined:?}", playbook.id()), async move {
                match joined {
                    Joined::Answered => the_next_is_answered_at_once(&security, playbook).await,
                    Joined::Interrupted => the_process_dies_in_between(&security, playbook).await,
                    Joined::Failing => answering_fails_and_then_nothing_changes(&security, playbook).await,
                }
            }));
        }
        all("what joined is answered", cases).await;
    });
}

/// A finding as `GetFindings` shows it.
pub fn pascal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let upper =
                |key: &str| key.chars().take(1).flat_map(char::to_uppercase).chain(key.chars().skip(1)).collect();
            Value::Object(map.iter().map(|(key, value)| (upper(key), pascal(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(pascal).collect()),
        other => other.clone(),
    }
}

/// What Security Hub makes of the case's finding, in ASFF.
fn asff(case: &Case) -> Result<Value> {
    // A control's finding is Security Hub's own.
    if let Some(own) = case.event["detail"]["findings"].get(0) {
        return Ok(own.clone());
    }
    let finding = finding_in(&case.event)?;
    let (region, account) = (&finding.region, &finding.account);
    let service = &case.event["detail"]["service"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let own = |name: &str| format!("aws/guardduty/service/{name}");
    let action = "action/networkConnectionAction/connectionDirection";
    let instances = finding.instances.iter().map(|id| {
        json!({"Type": "AwsEc2Instance", "Id": format!("arn:aws:ec2:{region}:{account}:instance/{id}"), "Region": region})
    });
    let identities = finding.identities.iter().filter_map(|identity| {
        let details = json!({"PrincipalId": identity.principal_id, "PrincipalName": identity.user_name,
            "PrincipalType": case.event["detail"]["resource"]["accessKeyDetails"]["userType"]});
        let key = identity.access_key.as_ref()?;
        Some(json!({"Type": "AwsIamAccessKey", "Id": format!("AWS::IAM::AccessKey:{key}"), "Region": region,
            "Details": {"AwsIamAccessKey": details}}))
    });
    Ok(json!({
        "SchemaVersion": "2018-10-08", "Id": finding.arn, "AwsAccountId": account, "Region": region,
        "ProductArn": format!("arn:aws:securityhub:{region}::product/aws/guardduty"),
        "Types": [format!("TTPs/Command and Control/{}", finding.finding_type.replacen('/', "-", 1))],
        "Severity": {"Product": finding.severity, "Label": "HIGH"}, "Title": finding.title,
        "LastObservedAt": service["eventLastSeen"],
        "ProductFields": {
            own("archived"): "false", own("count"): text(&service["count"]),
            own("resourceRole"): text(&service["resourceRole"]),
            own(action): text(&service["action"]["networkConnectionAction"]["connectionDirection"]),
            own("eventLastSeen"): text(&service["eventLastSeen"]),
        },
        "Resources": instances.chain(identities).collect::<Vec<_>>(),
        "Workflow": {"Status": "NEW"}, "RecordState": "ACTIVE",
    }))
}

/// An event of Security Hub in the security account.
fn hub_event(case: &Case, detail_type: &str, detail: Value) -> Value {
    json!({"version": "0", "source": "aws.securityhub", "detail-type": detail_type, "account": case.security.account,
        "region": REGION, "resources": [], "detail": detail})
}

pub fn imported(case: &Case) -> Result<Value> {
    Ok(hub_event(case, "Security Hub Findings - Imported", json!({"findings": [asff(case)?]})))
}

/// The same in the OCSF form.
fn imported_v2(case: &Case) -> Result<Value> {
    if fixes(case.playbook) {
        return imported(case);
    }
    let finding = finding_in(&case.event)?;
    let service = &case.event["detail"]["service"];
    let role = if service["resourceRole"] == "ACTOR" { 2 } else { 1 };
    let outbound = service["action"]["networkConnectionAction"]["connectionDirection"] == "OUTBOUND";
    let owner = json!({"account": {"uid": finding.account}});
    let instances = finding
        .instances
        .iter()
        .map(|id| json!({"type": "AWS::EC2::Instance", "uid": id, "region": REGION, "owner": owner, "role_id": role}));
    let identities = finding.identities.iter().map(|identity| {
        let user = json!({"name": identity.user_name, "uid": identity.principal_id,
            "type": case.event["detail"]["resource"]["accessKeyDetails"]["userType"]});
        json!({"type": "AWS::IAM::AccessKey", "uid": identity.access_key, "owner": owner, "role_id": role, "user": user})
    });
    let detail = json!({"findings": [{
        "class_uid": 2004, "activity_id": 1, "severity_id": 4, "status_id": 1,
        "cloud": {"account": {"uid": finding.account}, "region": finding.region, "provider": "AWS"},
        "metadata": {"product": {"uid": format!("arn:aws:securityhub:{REGION}::productv2/aws/guardduty")}},
        "finding_info": {"uid": finding.arn, "title": finding.title, "types": ["Threats", finding.finding_type],
            "last_seen_time_dt": service["eventLastSeen"]},
        "evidences": [{"connection_info": {"direction_id": if outbound { 2 } else { 1 }}}],
        "resources": instances.chain(identities).collect::<Vec<_>>(),
    }]});
    Ok(hub_event(case, "Findings Imported V2", detail))
}

/// An account of the organization of which nothing is reported.
const ANOTHER: &str = "333333333333";

/// Changes what a forger would change.
type Forgery = fn(&mut Value, &Case) -> Result<()>;

const ELSEWHERE: &str = "a known id, about something else";

#[test]
fn a_forged_finding_claims_nothing_and_blocks_nothing() {
    const FORGERIES: &[(&str, Forgery)] = &[
        ("an id that its source does not know", |event, _| {
            events::of_id(event, "00000000000000000000000000000bad");
            Ok(())
        }),
        (ELSEWHERE, |event, case| {
            let text = event.to_string().replace(case.ids.get("victim")?, case.ids.get("neighbour")?);
            *event = serde_json::from_str(&text)?;
            Ok(())
        }),
        ("a known id, about another account", |event, case| {
            let text = event.to_string().replace(&case.member, ANOTHER);
            *event = serde_json::from_str(&text)?;
            Ok(())
        }),
    ];
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for function in FUNCTIONS {
            enrol(&security.observer, &security.account, ANOTHER, function).await.unwrap();
        }
        let mut cases = Vec::new();
        // Whether a finding is about a target is the playbook's own word.
        for (playbook, (name, forge)) in pairs(FORGERIES) {
            let security = Arc::clone(&security);
            cases.push(named(format!("{}: {name}", playbook.id()), async move {
                let case = Case::new(&security, playbook, &worlds(playbook).await.largest).await?;
                let looked_up = playbook.looks_up(&case.finding);
                if looked_up && *name == ELSEWHERE {
                    // It names nothing that could be replaced.
                    return Ok(());
                }
                let mut forged = case.event.clone();
                forge(&mut forged, &case)?;
                let before = case.state().await?;
                let answer = case.deliver_bytes(forged.to_string().as_bytes()).await;
                match answer {
                    Delivered::Answered(answer) => {
                        // Another account has nothing that is looked up.
                        let fits = |o: &firebreak::hub::Answered| {
                            o.outcome == Outcome::Refused
                                || (looked_up && o.outcome == Outcome::NoChange && o.run.is_none())
                        };
                        ensure!(answer.outcomes.iter().all(fits), "{:?}", answer.outcomes);
                    }
                    Delivered::Failed(failure) => bail!("{}", failure.brief()),
                    Delivered::Died => bail!("died"),
                }
                ensure!(case.state().await? == before, "the forged one changed something");
                let view = security.ledger()?.view(playbook.meta(), &case.target, Timestamp::now()).await?;
                ensure!(view.hold.is_none() && view.spent_account == 0, "{view:?}");
                // The genuine one right after.
                let answer = case.deliver().await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == done(playbook)), "{:?}", answer.outcomes);
                is_so(&case).await
            }));
        }
        all("forged findings", cases).await;
    });
}

/// What reaches a function in the name of another source: none of it is believed, whatever it says.
#[test]
fn nothing_is_done_on_the_word_of_a_source_that_is_not_asked() {
    const DRESSED: &[(&str, Forgery)] = &[
        ("under the product of the account", |event, case| {
            let arn = format!("arn:aws:securityhub:{REGION}:{0}:product/{0}/default", case.member);
            event["detail"]["findings"][0]["ProductArn"] = json!(arn);
            Ok(())
        }),
        ("under the product of another service", |event, _| {
            let kind = event["detail"]["findings"][0]["Types"][0]
                .as_str()
                .unwrap_or_default()
                .replace("TTPs/Command and Control/", "");
            let arn = format!("arn:aws:securityhub:{REGION}::product/aws/inspector");
            event["detail"]["findings"][0]["ProductArn"] = json!(arn);
            event["detail"]["findings"][0]["Types"] = json!([kind.replacen('-', "/", 1)]);
            Ok(())
        }),
        ("an id that GuardDuty does not know", |event, _| {
            let id = event["detail"]["findings"][0]["Id"].as_str().unwrap_or_default().to_owned();
            let (detector, _) = id.rsplit_once('/').context("an id")?;
            event["detail"]["findings"][0]["Id"] = json!(format!("{detector}/00000000000000000000000000000bad"));
            Ok(())
        }),
        ("a known id, about another resource", |event, case| {
            let other = if event.to_string().contains(&case.target.id) {
                case.ids.get("neighbour")?
            } else {
                "AKIAOTHEROTHEROTHER0"
            };
            *event = serde_json::from_str(&event.to_string().replace(&case.target.id, other))?;
            Ok(())
        }),
        ("suppressed", |event, _| {
            event["detail"]["findings"][0]["Workflow"] = json!({"Status": "SUPPRESSED"});
            Ok(())
        }),
        ("a sample", |event, _| {
            event["detail"]["findings"][0]["Sample"] = json!(true);
            Ok(())
        }),
        ("a Config rule named like the type", |event, case| {
            let kind = finding_in(&case.event)?.finding_type;
            *event = json!({"source": "aws.config", "detail-type": "Config Rules Compliance Change", "account": case.member,
                "region": REGION, "detail": {"awsAccountId": case.member, "awsRegion": REGION, "configRuleName": kind,
                "messageType": "ComplianceChangeNotification", "resourceType": case.as_config_names().0,
                "resourceId": case.as_config_names().1, "newEvaluationResult": {"complianceType": "NON_COMPLIANT"}}});
            Ok(())
        }),
        ("a check of Trusted Advisor named like the type", |event, case| {
            let kind = finding_in(&case.event)?.finding_type;
            let arn = match case.target.kind {
                TargetKind::Ec2Instance => format!("arn:aws:ec2:{REGION}:{}:instance/{}", case.member, case.target.id),
                _ => format!("arn:aws:iam::{}:user/{}", case.member, case.ids.get("victim.name")?),
            };
            *event = json!({"source": "aws.trustedadvisor", "detail-type": "Trusted Advisor Check Item Refresh Notification",
                "account": case.member, "region": REGION, "detail": {"check-name": kind, "status": "ERROR",
                "resource_id": arn, "uuid": "aa12345f-55c7-498e-b7ac-123456781234"}});
            Ok(())
        }),
        ("a finding of Inspector of the type", |event, case| {
            let kind = finding_in(&case.event)?.finding_type;
            // It knows no identities.
            let is_instance = case.target.kind == TargetKind::Ec2Instance;
            let instance = if is_instance { case.target.id.as_str() } else { "i-0123456789abcdef0" };
            *event = json!({"source": "aws.inspector2", "detail-type": "Inspector2 Finding", "account": case.member,
                "region": REGION, "detail": {"awsAccountId": case.member, "type": kind, "severity": "CRITICAL",
                "findingArn": format!("arn:aws:inspector2:{REGION}:{}:finding/0ab1", case.member), "status": "ACTIVE",
                "resources": [{"id": instance, "type": "AWS_EC2_INSTANCE"}]}});
            Ok(())
        }),
    ];
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (playbook, (name, dress)) in in_turn_among(|playbook| !fixes(playbook), DRESSED) {
            let security = Arc::clone(&security);
            cases.push(named(format!("{}: {name}", playbook.id()), async move {
                let case = Case::new(&security, playbook, &worlds(playbook).await.largest).await?;
                let mut event = imported(&case)?;
                dress(&mut event, &case)?;
                let before = case.state().await?;
                let answer = case.deliver_bytes(event.to_string().as_bytes()).await.answer()?;
                let quiet = |o: &firebreak::hub::Answered| matches!(o.outcome, Outcome::Refused | Outcome::NoChange);
                ensure!(!answer.outcomes.is_empty(), "nothing was said");
                ensure!(answer.outcomes.iter().all(|o| quiet(o) && o.run.is_none()), "{:?}", answer.outcomes);
                ensure!(case.state().await? == before, "it changed something");
                let view = security.ledger()?.view(playbook.meta(), &case.target, Timestamp::now()).await?;
                ensure!(view.hold.is_none() && view.spent_account == 0, "{view:?}");
                // The genuine one right after, through Security Hub.
                let answer = case.deliver_bytes(imported(&case)?.to_string().as_bytes()).await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == done(playbook)), "{:?}", answer.outcomes);
                is_so(&case).await
            }));
        }
        all("sources that are not asked", cases).await;
    });
}

/// A custom action names nobody: what it asks for is proposed, also when it joined a hold before, and a person who asks
/// in vain is told why.
#[test]
fn what_somebody_asks_for_by_a_custom_action_is_proposed() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let security = Arc::clone(&security);
            cases.push(named(playbook.id(), async move {
                let case = Case::new(&security, playbook, &worlds(playbook).await.least).await?;
                let mut suppressed = asff(&case)?;
                suppressed["Workflow"] = json!({"Status": "SUPPRESSED"});
                let action = |finding| {
                    let detail = json!({"actionName": "Firebreak: contain", "findings": [finding]});
                    hub_event(&case, "Security Hub Findings - Custom Action", detail).to_string()
                };
                let before = case.state().await?;
                let answer = case.deliver_bytes(action(suppressed).as_bytes()).await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Refused), "{:?}", answer.outcomes);
                let told = security.told_about(&case.member).await?;
                ensure!(told.iter().any(|text| text.contains("suppressed")), "nobody was told: {told:?}");
                let answer = case.deliver_bytes(action(asff(&case)?).as_bytes()).await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Proposed), "{:?}", answer.outcomes);
                ensure!(answer.outcomes[0].why.contains("custom action `Firebreak: contain`"), "{:?}", answer.outcomes);
                ensure!(case.state().await? == before, "a request changed something");
                ensure!(
                    case.the_run().await?.head.finding.request.is_some(),
                    "the run has forgotten that it was asked for"
                );
                // The detector's own event is answered as ever: the proposal does not stand in its way.
                let answer = case.deliver().await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == done(*playbook)), "{:?}", answer.outcomes);
                is_so(&case).await
            }));
        }
        all("requests", cases).await;
    });
}

/// Security Hub leaves out what its forms have no place for: GuardDuty is asked for the rest.
#[test]
fn a_copy_that_says_less_is_answered_by_what_guardduty_says() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (playbook, (form, at)) in
            in_turn_among(|playbook| !fixes(playbook), &[("ASFF", "Resources"), ("OCSF", "resources")])
        {
            let (form, at) = (*form, *at);
            let security = Arc::clone(&security);
            cases.push(named(format!("{} from {form}", playbook.id()), async move {
                let case = Case::new(&security, playbook, &worlds(playbook).await.least).await?;
                let mut copy = if form == "ASFF" { imported(&case)? } else { imported_v2(&case)? };
                copy["detail"]["findings"][0][at] = json!([]);
                let answer = case.deliver_bytes(copy.to_string().as_bytes()).await.answer()?;
                ensure!(!answer.outcomes.is_empty(), "nothing was said");
                ensure!(answer.outcomes.iter().all(|o| o.outcome == done(playbook)), "{:?}", answer.outcomes);
                is_so(&case).await
            }));
        }
        all("copies that say less", cases).await;
    });
}

/// GuardDuty's own event, the copies, and their repeats are one finding to people, too.
#[test]
fn what_nothing_answers_is_told_once_however_it_arrives() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let (_, playbook) = playbooks().iter().find(|(_, playbook)| playbook.meta().concerns.contains(&"EC2")).unwrap();
        let mut case = Case::new(&security, playbook, "single-interface").await.unwrap();
        case.event["detail"]["type"] = json!("Recon:EC2/PortProbeUnprotectedPort");
        case.event["detail"]["service"]["count"] = json!(1);
        security.observer.put_finding(&security.account, REGION, &case.event["detail"]).await.unwrap();
        let id = case.event["detail"]["id"].as_str().unwrap().to_owned();
        let action = json!({"actionName": "Firebreak: contain", "findings": [asff(&case).unwrap()]});
        let (asked, imported) =
            (hub_event(&case, "Security Hub Findings - Custom Action", action), imported(&case).unwrap());
        let in_a_row = [
            (&imported, 1),
            (&case.event, 1),
            (&imported_v2(&case).unwrap(), 1),
            (&imported, 1),
            // Who asks is answered each time.
            (&asked, 2),
            (&asked, 3),
        ];
        for (event, told) in in_a_row {
            let answer = case.deliver_bytes(event.to_string().as_bytes()).await.answer().unwrap();
            assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::NoChange), "{:?}", answer.outcomes);
            let messages = security.told_about(&id).await.unwrap();
            assert_eq!(messages.len(), told, "{messages:?}");
            assert!(messages[0].contains("NOT ANSWERED: Recon:EC2/PortProbeUnprotectedPort"), "{messages:?}");
        }
    });
}

/// How somebody else changes what a step has changed.
enum Foreign {
    /// There are two states only: to change it is to put it back.
    Back,
    /// A third state: neither the one before nor ours.
    Third,
}

/// One line for each action that is undone, reviewed. [`change`] makes the change.
const FOREIGN: &[(&str, Foreign)] = &[
    ("autoscaling.detach-instance", Foreign::Third),
    // There are two states, and whoever changes what we left brings back what was.
    ("cloudtrail.start-logging", Foreign::Back),
    ("cloudtrail.validate-log-files", Foreign::Back),
    ("ec2.disable-metadata-endpoint", Foreign::Back),
    ("ec2.disassociate-address", Foreign::Third),
    ("ec2.keep-volumes", Foreign::Third),
    ("ec2.remove-public-address", Foreign::Back),
    ("ec2.replace-interface-groups", Foreign::Third),
    ("ec2.unshare-snapshot", Foreign::Back),
    ("iam.retire-access-key", Foreign::Back),
    ("ec2.set-ingress-rule", Foreign::Back),
    ("ec2.set-instance-attribute", Foreign::Back),
    ("ec2.tighten-connection-tracking", Foreign::Third),
    ("elasticloadbalancing.deregister-instance", Foreign::Back),
    ("elasticloadbalancing.deregister-targets", Foreign::Third),
    ("iam.attach-deny-policy", Foreign::Back),
    ("iam.deactivate-service-credential", Foreign::Back),
    ("iam.deactivate-signing-certificate", Foreign::Back),
    ("iam.deactivate-ssh-key", Foreign::Back),
    ("iam.revoke-sessions", Foreign::Third),
    ("rds.unshare-db-cluster-snapshot", Foreign::Back),
    ("rds.unshare-db-snapshot", Foreign::Back),
    ("s3.block-public-access", Foreign::Third),
];

/// Changes the subject of a step with the independent client.
async fn change(case: &Case, step: &Step) -> Result<()> {
    let subject = step.id.0.split(' ').nth(1).context("a step has no subject")?;
    let call = |service, operation, params| case.call(service, operation, params);
    match step.action.as_str() {
        "autoscaling.detach-instance" => {
            let group = json!({
                "AutoScalingGroupName": "other", "MinSize": 0, "MaxSize": 3, "DesiredCapacity": 0,
                "LaunchTemplate": {"LaunchTemplateId": case.ids.get("launch_template")?},
                "VPCZoneIdentifier": case.ids.get("subnet_a")?,
            });
            call("autoscaling", "create_auto_scaling_group", group).await?;
            let attach = json!({"AutoScalingGroupName": "other", "InstanceIds": [subject]});
            call("autoscaling", "attach_instances", attach).await?;
        }
        "ec2.disable-metadata-endpoint" => {
            let params = json!({"InstanceId": subject, "HttpEndpoint": "enabled"});
            call("ec2", "modify_instance_metadata_options", params).await?;
        }
        "ec2.disassociate-address" => {
            let params = json!({"AllocationId": subject, "NetworkInterfaceId": case.ids.get("eni_neighbour")?});
            call("ec2", "associate_address", params).await?;
        }
        "ec2.keep-volumes" => {
            let params = json!({
                "InstanceId": subject,
                "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": true}}],
            });
            call("ec2", "modify_instance_attribute", params).await?;
        }
        "ec2.remove-public-address" => {
            let params = json!({"NetworkInterfaceId": subject, "AssociatePublicIpAddress": true});
            call("ec2", "modify_network_interface_attribute", params).await?;
        }
        "ec2.replace-interface-groups" => {
            let params = json!({"NetworkInterfaceId": subject, "Groups": [case.ids.get("sg_lb")?]});
            call("ec2", "modify_network_interface_attribute", params).await?;
        }
        "ec2.set-ingress-rule" => {
            // What was taken away is there again, or what was added is taken away.
            let (from, to) = (step.args["rule"]["ports"][0].clone(), step.args["rule"]["ports"][1].clone());
            let cidr = &step.args["rule"]["cidr"];
            let mut range = match cidr.as_str().is_some_and(|cidr| cidr.contains(':')) {
                true => json!({"Ipv6Ranges": [{"CidrIpv6": cidr}]}),
                false => json!({"IpRanges": [{"CidrIp": cidr}]}),
            };
            if let Some(described) = step.before["present"].as_str() {
                for of_family in range.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
                    of_family[0]["Description"] = json!(described);
                }
            }
            let mut permission = json!({"IpProtocol": step.args["rule"]["protocol"], "FromPort": from, "ToPort": to});
            permission.as_object_mut().context("an object")?.extend(range.as_object().cloned().unwrap_or_default());
            let operation = match step.args["wanted"].as_str() {
                Some("absent") => "authorize_security_group_ingress",
                _ => "revoke_security_group_ingress",
            };
            call("ec2", operation, json!({"GroupId": subject, "IpPermissions": [permission]})).await?;
        }
        "s3.block-public-access" => {
            let block = json!({"BlockPublicAcls": true, "IgnorePublicAcls": false, "BlockPublicPolicy": true, "RestrictPublicBuckets": true});
            let params = json!({"Bucket": subject, "PublicAccessBlockConfiguration": block});
            call("s3", "put_public_access_block", params).await?;
        }
        "cloudtrail.start-logging" => {
            call("cloudtrail", "stop_logging", json!({"Name": subject})).await?;
        }
        "cloudtrail.validate-log-files" => {
            let params = json!({"Name": subject, "EnableLogFileValidation": false});
            call("cloudtrail", "update_trail", params).await?;
        }
        "ec2.unshare-snapshot" => {
            let attribute = json!({"Add": [{"Group": "all"}]});
            let params = json!({"SnapshotId": subject, "CreateVolumePermission": attribute});
            call("ec2", "modify_snapshot_attribute", params).await?;
        }
        "rds.unshare-db-snapshot" => {
            let params = json!({"DBSnapshotIdentifier": subject, "AttributeName": "restore", "ValuesToAdd": ["all"]});
            call("rds", "modify_db_snapshot_attribute", params).await?;
        }
        "rds.unshare-db-cluster-snapshot" => {
            let params =
                json!({"DBClusterSnapshotIdentifier": subject, "AttributeName": "restore", "ValuesToAdd": ["all"]});
            call("rds", "modify_db_cluster_snapshot_attribute", params).await?;
        }
        "iam.retire-access-key" => {
            let params = json!({"UserName": subject, "AccessKeyId": step.args["key"], "Status": "Active"});
            call("iam", "update_access_key", params).await?;
        }
        "ec2.set-instance-attribute" => {
            let attribute = step.id.0.split(' ').nth(2).context("no attribute")?;
            let name = attribute.chars().take(1).flat_map(char::to_uppercase).chain(attribute.chars().skip(1));
            let value = match step.before.as_str() {
                Some("true") => json!(true),
                Some("false") => json!(false),
                other => json!(other),
            };
            let params = json!({"InstanceId": subject, name.collect::<String>(): {"Value": value}});
            call("ec2", "modify_instance_attribute", params).await?;
        }
        "ec2.tighten-connection-tracking" => {
            let params = json!({
                "NetworkInterfaceId": subject,
                "ConnectionTrackingSpecification": {"TcpEstablishedTimeout": 777, "UdpStreamTimeout": 77, "UdpTimeout": 37},
            });
            call("ec2", "modify_network_interface_attribute", params).await?;
        }
        "elasticloadbalancing.deregister-instance" => {
            let params =
                json!({"LoadBalancerName": step.args["load_balancer"], "Instances": [{"InstanceId": subject}]});
            call("elb", "register_instances_with_load_balancer", params).await?;
        }
        "elasticloadbalancing.deregister-targets" => {
            let first = step.before.as_array().and_then(|list| list.first()).context("there was no target")?;
            let params = json!({
                "TargetGroupArn": step.args["target_group"],
                "Targets": [{"Id": first["id"], "Port": 9999}],
            });
            call("elbv2", "register_targets", params).await?;
        }
        "iam.attach-deny-policy" => {
            let policy = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
            call("iam", "detach_user_policy", json!({"UserName": subject, "PolicyArn": policy})).await?;
        }
        "iam.deactivate-service-credential" => {
            let id = &step.args["id"];
            let params = json!({"UserName": subject, "ServiceSpecificCredentialId": id, "Status": "Active"});
            call("iam", "update_service_specific_credential", params).await?;
        }
        "iam.deactivate-signing-certificate" => {
            let params = json!({"UserName": subject, "CertificateId": step.args["id"], "Status": "Active"});
            call("iam", "update_signing_certificate", params).await?;
        }
        "iam.deactivate-ssh-key" => {
            let params = json!({"UserName": subject, "SSHPublicKeyId": step.args["id"], "Status": "Active"});
            call("iam", "update_ssh_public_key", params).await?;
        }
        "iam.revoke-sessions" => {
            let other =
                json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]});
            let policy = format!("firebreak-revoked-{}", case.the_run().await?.head.id);
            let params = json!({"RoleName": subject, "PolicyName": policy, "PolicyDocument": other.to_string()});
            call("iam", "put_role_policy", params).await?;
        }
        other => bail!("nobody else knows how to change what {other} changes: add it"),
    }
    Ok(())
}

#[test]
fn undo_refuses_what_somebody_else_has_changed_and_changes_nothing() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let security = Arc::clone(&security);
            cases.push(named(playbook.id(), async move { foreign_changes_stay(&security, playbook).await }));
        }
        all("undo refuses foreign changes", cases).await;
    });
}

async fn foreign_changes_stay(security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let case = Case::new(security, playbook, &worlds(playbook).await.largest).await?;
    case.deliver().await.answer()?;
    let run = case.the_run().await?;
    let undone: Vec<&Step> = run
        .all_steps()
        .filter(|step| {
            let kind = playbook.action(&step.action).map(|action| action.undo_kind());
            kind.is_ok_and(|kind| !matches!(kind, Undo::Never { .. }))
        })
        .collect();
    for step in &undone {
        change(&case, step).await.with_context(|| format!("change what {} changed", step.id))?;
    }
    let changed = case.state().await?;
    let answer = case.decide(Verb::Undo).await?.answer()?;
    let run = case.the_run().await?;
    for step in run.all_steps() {
        let kind = playbook.action(&step.action)?.undo_kind();
        let result = run.undo_result(&step.id);
        if matches!(kind, Undo::Never { .. }) {
            continue;
        }
        let (_, foreign) = FOREIGN
            .iter()
            .find(|(action, _)| *action == step.action)
            .with_context(|| format!("add {} to the table FOREIGN", step.action))?;
        let right = match foreign {
            Foreign::Third => matches!(result, Some(UndoResult::Conflict { .. })),
            Foreign::Back => matches!(result, Some(UndoResult::AlreadySo)),
        };
        ensure!(right, "{}: {result:?}", step.id);
    }
    let after = case.state().await?;
    let differs = differences(&changed, &after);
    ensure!(differs.is_empty(), "undo changed\n{}", shown(&differs));
    let conflicts = run.undone.values().any(|undone| matches!(undone.result, UndoResult::Conflict { .. }));
    let expected = if conflicts { Outcome::UndonePartly } else { Outcome::Undone };
    ensure!(answer.outcomes.iter().all(|o| o.outcome == expected), "{:?}", answer.outcomes);
    let end = run.end.context("no end")?;
    ensure!(conflicts != end.not_done.is_empty(), "{:?}", end.not_done);
    Ok(())
}
