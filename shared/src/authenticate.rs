//! Authentication of a finding: before anything changes it is fetched again from the service that made
//! it, with the function's own role, as delegated administrator. What counts is what comes back; the
//! event only said where to look.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_guardduty::types as gd;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::finding::{self, Finding, Source, State};
use crate::ids::Region;
use crate::screen::{TurnedAway, screen};

/// A finding that is absent is looked for once more after this long: the copy in the administrator's account follows the
/// member's.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Whether a finding is what it says.
#[derive(Debug)]
pub enum Authenticity {
    /// Its source has it: this is what it says there.
    Genuine(Box<Finding>),
    /// Its source has it, and somebody has put it aside there (suppressed, resolved) though the event says that it is
    /// live. The member account may have done so: a person decides.
    PutAside(Box<Finding>),
    /// Its source does not have it, looked for twice.
    Absent,
    /// Its source has a finding of this id that is about something else, or nothing that can be believed.
    Differs(String),
    /// Its source has it, and turns it away: archived since, or a sample.
    TurnedAway(TurnedAway),
    /// Its source could not be asked.
    Unknown(Failure),
    /// Nobody can be asked: this source's findings are not fetched again yet. Nothing may follow but a
    /// notification.
    NotAsked(&'static str),
}

/// Why a source is not asked again about its findings, where a playbook does not do so itself.
pub fn not_asked(source: Source) -> &'static str {
    match source {
        Source::GuardDuty | Source::Request | Source::Drill => "this playbook asks nobody about it",
        Source::SecurityHub => "of Security Hub's findings this playbook fetches none again",
        Source::Config => "of AWS Config this playbook reads neither the rule nor the resource again",
        Source::AccessAnalyzer => "findings are not fetched again from IAM Access Analyzer yet",
        Source::Macie => "findings are not fetched again from Macie yet",
        Source::Inspector => "findings are not fetched again from Inspector yet",
        Source::Health => "AWS Health cannot be asked again, and of a key alone IAM proves what it says",
        Source::TrustedAdvisor => "Trusted Advisor cannot be asked again, and of a key alone IAM proves what it says",
    }
}

/// Asks GuardDuty. The detectors of the security account are remembered, one a Region.
#[derive(Debug, Default)]
pub struct Authenticator {
    detectors: Mutex<HashMap<Region, String>>,
}

impl Authenticator {
    /// Fetches the finding again and holds it against the event. A finding of GuardDuty's that came through Security
    /// Hub is fetched from GuardDuty like any other.
    pub async fn check(&self, hub: &Aws, reported: &Finding) -> Authenticity {
        match reported.source {
            // Of a request the decision is the proof: it stands in the table that people's door alone can write.
            Source::Request => return Authenticity::Genuine(Box::new(reported.clone())),
            // Of a drill the row in its table is, which was read and used; that it is about a canary is asked again of each
            // target.
            Source::Drill => return Authenticity::Genuine(Box::new(reported.clone())),
            Source::GuardDuty => {}
            source => return Authenticity::NotAsked(not_asked(source)),
        }
        let regional;
        let aws = if hub.region == reported.region {
            hub
        } else {
            regional = hub.in_region(reported.region.clone());
            &regional
        };
        looked_for_twice(hub, reported, || self.fetch(aws, reported)).await
    }

    async fn fetch(&self, aws: &Aws, reported: &Finding) -> Result<Option<Value>, Failure> {
        let Some(detector) = self.detector(aws).await? else { return Ok(None) };
        let answer = aws
            .guardduty()
            .get_findings()
            .detector_id(detector)
            .finding_ids(reported.id.as_str())
            .send()
            .await
            .map_err(Failure::from_sdk("fetch finding", &reported.id))?;
        let found = answer.findings.unwrap_or_default();
        Ok(found.iter().find(|found| found.id() == Some(reported.id.as_str())).map(as_detail))
    }

    /// The security account's detector in a Region. There is at most one (GuardDuty user guide).
    async fn detector(&self, aws: &Aws) -> Result<Option<String>, Failure> {
        let known = |map: &Mutex<HashMap<Region, String>>| map.lock().ok().and_then(|m| m.get(&aws.region).cloned());
        if let Some(detector) = known(&self.detectors) {
            return Ok(Some(detector));
        }
        let answer = aws
            .guardduty()
            .list_detectors()
            .send()
            .await
            .map_err(Failure::from_sdk("list the GuardDuty detectors of", &aws.region))?;
        let detector = answer.detector_ids().first().cloned();
        if let (Some(detector), Ok(mut map)) = (&detector, self.detectors.lock()) {
            map.insert(aws.region.clone(), detector.clone());
        }
        Ok(detector)
    }
}

/// Holds what `fetch` finds at its source against the finding that was reported. What is absent is looked for twice.
pub async fn looked_for_twice<F: Future<Output = Result<Option<Value>, Failure>>>(
    hub: &Aws,
    reported: &Finding,
    fetch: impl Fn() -> F,
) -> Authenticity {
    let found = match fetch().await {
        Ok(None) => {
            #[expect(clippy::disallowed_methods, reason = "the one wait: what vanishes is looked for twice")]
            tokio::time::sleep(SECOND_LOOK).await;
            fetch().await
        }
        first => first,
    };
    match found {
        Err(failure) => Authenticity::Unknown(failure),
        Ok(None) => Authenticity::Absent,
        Ok(Some(found)) => compare(hub, reported, &found),
    }
}

/// `found` is what the finding's source has under its id, as a document that our parser reads.
fn compare(hub: &Aws, reported: &Finding, found: &Value) -> Authenticity {
    let genuine = match finding::parse(found).map(|mut reported| reported.findings.pop()) {
        Ok(Some(Ok(genuine))) => genuine,
        Ok(Some(Err(error))) | Err(error) => {
            let failure = Failure::new(Class::Malformed, "read the fetched finding", reported.id.as_str());
            return Authenticity::Unknown(failure.because(error));
        }
        Ok(None) => return Authenticity::Absent,
    };
    if genuine.account != reported.account {
        return Authenticity::Differs(format!("it is about account {}", genuine.account));
    }
    if genuine.region != reported.region {
        return Authenticity::Differs(format!("it is about {}", genuine.region));
    }
    if genuine.source != reported.source || (genuine.product.is_some() && genuine.product != reported.product) {
        return Authenticity::Differs("another product has put it in".to_owned());
    }
    // Who asked for it is not its source's to know: a request stays one.
    let genuine = Finding { request: reported.request.clone(), ..genuine };
    // GuardDuty's own word on its findings no member can change.
    let aside = genuine.source != Source::GuardDuty
        && matches!(genuine.state, State::Suppressed | State::Resolved)
        && reported.state.is_live();
    let live = Finding { state: if aside { State::Active } else { genuine.state }, ..genuine.clone() };
    match screen(&live, None, Some(&hub.account)) {
        Some(away) => Authenticity::TurnedAway(away),
        None if aside => Authenticity::PutAside(Box::new(genuine)),
        None => Authenticity::Genuine(Box::new(genuine)),
    }
}

/// What our parser reads of a finding, as the event's `detail` would have it: the same strictness for
/// both, written once.
fn as_detail(found: &gd::Finding) -> Value {
    let service = found.service();
    let resource = found.resource();
    let instance_id = resource.and_then(|r| r.instance_details()).and_then(|i| i.instance_id());
    let key = resource.and_then(|r| r.access_key_details()).map(|key| {
        json!({
            "accessKeyId": key.access_key_id(),
            "principalId": key.principal_id(),
            "userName": key.user_name(),
            "userType": key.user_type(),
        })
    });
    let direction = service
        .and_then(|s| s.action())
        .and_then(|a| a.network_connection_action())
        .and_then(|n| n.connection_direction());
    let buckets: Vec<Value> = resource
        .map(|r| r.s3_bucket_details().iter().map(|bucket| json!({ "name": bucket.name() })).collect())
        .unwrap_or_default();
    let snapshot = resource.and_then(|r| r.ebs_snapshot_details()).and_then(|s| s.snapshot_arn());
    let sequence = service.and_then(|s| s.detection()).and_then(|d| d.sequence());
    let resources: Vec<Value> = sequence.map(|s| s.resources().iter().map(member).collect()).unwrap_or_default();
    let signals: Vec<Value> = sequence
        .map(|s| s.signals().iter().map(|signal| json!({ "name": signal.name() })).collect())
        .unwrap_or_default();
    let actors: Vec<Value> = sequence.map(|s| s.actors().iter().map(actor).collect()).unwrap_or_default();
    json!({
        "accountId": found.account_id(),
        "arn": found.arn(),
        "id": found.id(),
        "partition": found.partition(),
        "region": found.region(),
        "severity": found.severity(),
        "title": found.title(),
        "type": found.r#type(),
        "resource": {
            "resourceType": resource.and_then(|r| r.resource_type()),
            "instanceDetails": { "instanceId": instance_id },
            "accessKeyDetails": key,
            "s3BucketDetails": buckets,
            "ebsSnapshotDetails": { "snapshotArn": snapshot },
        },
        "service": {
            "archived": service.and_then(|s| s.archived()),
            "count": service.and_then(|s| s.count()),
            "detectorId": service.and_then(|s| s.detector_id()),
            "eventFirstSeen": service.and_then(|s| s.event_first_seen()),
            "eventLastSeen": service.and_then(|s| s.event_last_seen()),
            "resourceRole": service.and_then(|s| s.resource_role()),
            "additionalInfo": {
                "value": service.and_then(|s| s.additional_info()).and_then(|a| a.value()),
                "type": service.and_then(|s| s.additional_info()).and_then(|a| a.r#type()),
            },
            "action": { "networkConnectionAction": { "connectionDirection": direction } },
            "detection": { "sequence": { "resources": resources, "signals": signals, "actors": actors } },
        },
    })
}

fn member(resource: &gd::ResourceV2) -> Value {
    let data = resource.data();
    let groups = json!({
        "autoscalingAutoScalingGroup": { "ec2InstanceUids": data.and_then(|d| d.autoscaling_auto_scaling_group()).map(|g| g.ec2_instance_uids()) },
        "cloudformationStack": { "ec2InstanceUids": data.and_then(|d| d.cloudformation_stack()).map(|g| g.ec2_instance_uids()) },
        "ec2Image": { "ec2InstanceUids": data.and_then(|d| d.ec2_image()).map(|g| g.ec2_instance_uids()) },
        "ec2LaunchTemplate": { "ec2InstanceUids": data.and_then(|d| d.ec2_launch_template()).map(|g| g.ec2_instance_uids()) },
        "ec2Vpc": { "ec2InstanceUids": data.and_then(|d| d.ec2_vpc()).map(|g| g.ec2_instance_uids()) },
        "iamInstanceProfile": { "ec2InstanceUids": data.and_then(|d| d.iam_instance_profile()).map(|g| g.ec2_instance_uids()) },
        "ec2Instance": { "ec2NetworkInterfaceUids": data.and_then(|d| d.ec2_instance()).map(|i| i.ec2_network_interface_uids()) },
        "accessKey": data.and_then(|d| d.access_key()).map(|key| json!({
            "principalId": key.principal_id(),
            "userName": key.user_name(),
            "userType": key.user_type(),
        })),
    });
    json!({
        "uid": resource.uid(),
        "resourceType": resource.resource_type().map(|kind| kind.as_str()),
        "accountId": resource.account_id(),
        "region": resource.region(),
        "data": groups,
    })
}

fn actor(actor: &gd::Actor) -> Value {
    let user = actor.user().map(|user| {
        json!({
            "name": user.name(),
            "uid": user.uid(),
            "type": user.r#type(),
            "credentialUid": user.credential_uid(),
            "account": { "uid": user.account().and_then(|account| account.uid()) },
        })
    });
    json!({ "user": user, "session": { "issuer": actor.session().and_then(|session| session.issuer()) } })
}
