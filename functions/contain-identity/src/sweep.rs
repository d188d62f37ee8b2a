//! What access keys were used to make, from CloudTrail's event history: whoever is put out leaves other ways in.
//!
//! Events of IAM are kept in one Region of each partition, those of STS also where its endpoint was called. The history
//! follows minutes behind, shows management events of 90 days, and takes two look-ups a second.
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/view-cloudtrail-events.html>

use aws_sdk_cloudtrail::types::{Event, LookupAttribute, LookupAttributeKey};
use aws_smithy_types::DateTime;
use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::finding::Finding;
use firebreak::ids::{AccessKeyId, AccountId, Arn, Partition, Region, RoleId, RoleName, SessionName, UserId};
use firebreak::text::{plain, quoted};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::Value;

/// How far around the finding's own times it is looked.
const AROUND: SignedDuration = SignedDuration::from_hours(24);

/// The most events that are read of a key in a Region. Whoever makes noise to hide in is told of.
const MOST_PAGES: usize = 6;

/// The most lines; the rest is counted.
const MOST_LINES: usize = 30;

/// What an event brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// A way to act as a user.
    User,
    /// More rights or ways in, for a role.
    Role,
    /// A session of a role.
    Session,
    /// Something that only a person can judge.
    Other,
}

/// The events that leave a way in, and what to do about each. Reviewed; IAM's and STS's event names.
const EVENTS: &[(&str, Made)] = &[
    ("AddRoleToInstanceProfile", Made::Role),
    ("AddUserToGroup", Made::User),
    ("AssumeRole", Made::Session),
    ("AttachGroupPolicy", Made::Other),
    ("AttachRolePolicy", Made::Role),
    ("AttachUserPolicy", Made::User),
    ("CreateAccessKey", Made::User),
    ("CreateLoginProfile", Made::User),
    ("CreateOpenIDConnectProvider", Made::Other),
    ("CreatePolicyVersion", Made::Other),
    ("CreateRole", Made::Role),
    ("CreateSAMLProvider", Made::Other),
    ("CreateServiceSpecificCredential", Made::User),
    ("CreateUser", Made::User),
    ("DeleteRolePermissionsBoundary", Made::Role),
    ("DeleteUserPermissionsBoundary", Made::User),
    ("EnableMFADevice", Made::User),
    ("PutGroupPolicy", Made::Other),
    ("PutRolePolicy", Made::Role),
    ("PutUserPolicy", Made::User),
    ("SetDefaultPolicyVersion", Made::Other),
    ("UpdateAssumeRolePolicy", Made::Role),
    ("UpdateLoginProfile", Made::User),
    ("UpdateSAMLProvider", Made::Other),
    ("UploadSSHPublicKey", Made::User),
    ("UploadSigningCertificate", Made::User),
];

/// What these keys were used to make, one line each, with what answers it; and in words what could not be read.
pub(crate) async fn made_by(aws: &Aws, keys: &[&AccessKeyId], finding: &Finding) -> Vec<String> {
    let mut regions = vec![home(aws.partition())];
    if !regions.iter().flatten().any(|region| *region == finding.region) {
        regions.push(Some(finding.region.clone()));
    }
    let regions: Vec<Region> = regions.into_iter().flatten().collect();
    let mut lines = Vec::new();
    // One Region after the other would take long; one key after the other keeps within two look-ups a second.
    for key in keys {
        let looked_up = join_all(regions.iter().map(|region| events(aws, region, key, finding))).await;
        for (region, events) in regions.iter().zip(looked_up) {
            match events {
                Ok((events, whole)) => {
                    lines.extend(events.iter().filter_map(|event| line(key, &finding.account, event)));
                    if !whole {
                        lines.push(format!(
                            "access key {key} made more than {} events in {region}: look through the rest in CloudTrail",
                            MOST_PAGES * 50
                        ));
                    }
                }
                Err(failure) => lines.push(format!(
                    "what access key {key} made could not be read from CloudTrail in {region}: {}",
                    failure.brief()
                )),
            }
        }
    }
    lines.sort();
    lines.dedup();
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("{more} more things were made: look through them in CloudTrail"));
    }
    lines
}

/// Where a partition keeps the events of IAM.
fn home(partition: Partition) -> Option<Region> {
    let region = match partition {
        Partition::Aws => "us-east-1",
        Partition::AwsCn => "cn-north-1",
        Partition::AwsUsGov => "us-gov-west-1",
    };
    region.parse().ok()
}

/// The events of a key in a Region, newest first, and whether they are all.
async fn events(
    aws: &Aws,
    region: &Region,
    key: &AccessKeyId,
    finding: &Finding,
) -> Result<(Vec<Event>, bool), Failure> {
    let there = aws.in_region(region.clone());
    let attribute = LookupAttribute::builder()
        .attribute_key(LookupAttributeKey::AccessKeyId)
        .attribute_value(key.as_str())
        .build()
        .map_err(|error| Failure::new(firebreak::failure::Class::Bug, "look up", key.as_str()).because(error))?;
    let at = |time: jiff::Timestamp| DateTime::from_secs(time.as_second());
    let since = finding.first_seen.or(finding.last_seen).and_then(|time| time.checked_sub(AROUND).ok()).map(at);
    let until = finding.last_seen.and_then(|time| time.checked_add(AROUND).ok()).map(at);
    let (mut found, mut token) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let call = there.cloudtrail().lookup_events().lookup_attributes(attribute.clone()).max_results(50);
        let call = call.set_start_time(since).set_end_time(until).set_next_token(token.take());
        let answer = call.send().await.map_err(Failure::from_sdk("look up the events of access key", key))?;
        found.extend(answer.events.unwrap_or_default());
        token = answer.next_token;
        if token.is_none() {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}

/// An event in words, when it left a way in, with the command that asks for what answers it. Names in it are whatever
/// somebody chose: a command holds unique ids, which AWS gave.
fn line(key: &AccessKeyId, account: &AccountId, event: &Event) -> Option<String> {
    let name = event.event_name()?;
    let (name, made) = EVENTS.iter().find(|(known, _)| *known == name)?;
    let detail: Value = serde_json::from_str(event.cloud_trail_event()?).ok()?;
    if detail["errorCode"].is_string() {
        return None;
    }
    let (request, response) = (&detail["requestParameters"], &detail["responseElements"]);
    let text = |value: &Value| value.as_str().map(quoted);
    let made_key = text(&response["accessKey"]["accessKeyId"]);
    // Without a name in the request it is the caller's own.
    let user = text(&request["userName"])
        .or_else(|| text(&response["accessKey"]["userName"]))
        .or_else(|| text(&detail["userIdentity"]["userName"]));
    let role = text(&request["roleName"]).or_else(|| text(&request["roleArn"]));
    let user_id = response["user"]["userId"].as_str().and_then(|id| id.parse::<UserId>().ok());
    let contain = user_id.map_or_else(
        || "contain-user answers it".to_owned(),
        |id| format!("firebreak request contain-user {id} --account {account} --reason 'made by {key}'"),
    );
    let about = match made {
        Made::User => match (made_key, user?) {
            (Some(made), user) => format!("access key {made} of user {user}; {contain}"),
            (None, user) => format!("user {user}; {contain}"),
        },
        Made::Session => {
            let id = response["assumedRoleUser"]["assumedRoleId"].as_str();
            let arn = request["roleArn"].as_str().and_then(|arn| arn.parse::<Arn>().ok());
            // The role may be another account's.
            let of_role = arn.and_then(|arn| {
                let name: RoleName = arn.resource.rsplit('/').next()?.parse().ok()?;
                Some((name, arn.account?))
            });
            let revoke = session(id).zip(of_role).map_or_else(
                || "revoke-role-sessions answers it".to_owned(),
                |(id, (name, account))| {
                    format!(
                        "firebreak request revoke-role-sessions {id} --role-name {name} --account {account} --reason \
                         'taken on by {key}'"
                    )
                },
            );
            let of = id.map_or_else(|| "not known".to_owned(), quoted);
            format!("role {}, session {of}; {revoke}", role?)
        }
        Made::Role => format!("role {}; look at who may assume it and what it may do", role?),
        Made::Other => {
            let what = ["policyArn", "groupName", "name", "url", "sAMLProviderArn"]
                .iter()
                .find_map(|field| text(&request[*field]));
            format!("{}; look at it", what.unwrap_or_else(|| "see CloudTrail".to_owned()))
        }
    };
    let at = plain(detail["eventTime"].as_str().unwrap_or("an unknown time"), 32);
    Some(format!("access key {key} was used at {at} for {name}: {about}"))
}

/// The unique id of a session, `AROA…:name`, when it is one.
fn session(id: Option<&str>) -> Option<String> {
    let (role, name) = id?.split_once(':')?;
    Some(format!("{}:{}", role.parse::<RoleId>().ok()?, name.parse::<SessionName>().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(name: &str, detail: Value) -> Option<String> {
        let event = Event::builder().event_name(name).cloud_trail_event(detail.to_string()).build();
        line(&"AKIAIOSFODNN7EXAMPLE".parse().unwrap(), &"222222222222".parse().unwrap(), &event)
    }

    #[test]
    fn what_leaves_a_way_in_is_told_with_its_answer() {
        let at = "2026-11-03T09:12:41Z";
        let key = json!({"eventTime": at, "requestParameters": {"userName": "bob"},
            "responseElements": {"accessKey": {"accessKeyId": "AKIAI44QH8DHBEXAMPLE", "userName": "bob"}}});
        assert_eq!(
            told("CreateAccessKey", key).unwrap(),
            "access key AKIAIOSFODNN7EXAMPLE was used at 2026-11-03T09:12:41Z for CreateAccessKey: access key \
             `AKIAI44QH8DHBEXAMPLE` of user `bob`; contain-user answers it"
        );
        let session = json!({"eventTime": at, "requestParameters": {"roleArn": "arn:aws:iam::222222222222:role/admin"},
            "responseElements": {"assumedRoleUser": {"assumedRoleId": "AROADBQP57FF2AEXAMPLE:ops"}}});
        assert!(told("AssumeRole", session).unwrap().ends_with(
            "role `arn:aws:iam::222222222222:role/admin`, session `AROADBQP57FF2AEXAMPLE:ops`; firebreak request \
             revoke-role-sessions AROADBQP57FF2AEXAMPLE:ops --role-name admin --account 222222222222 --reason 'taken on by \
             AKIAIOSFODNN7EXAMPLE'"
        ));
        let user = json!({"eventTime": at, "requestParameters": {"userName": "$(x)"},
            "responseElements": {"user": {"userName": "$(x)", "userId": "AIDACKCEVSQ6C2EXAMPLE"}}});
        assert!(told("CreateUser", user).unwrap().ends_with(
            "user `$(x)`; firebreak request contain-user AIDACKCEVSQ6C2EXAMPLE --account 222222222222 --reason 'made by \
             AKIAIOSFODNN7EXAMPLE'"
        ));
        let trust = json!({"eventTime": at, "requestParameters": {"roleName": "admin"}, "responseElements": null});
        assert!(told("UpdateAssumeRolePolicy", trust).unwrap().contains("role `admin`; look at who may assume it"));
    }

    #[test]
    fn what_failed_or_leaves_no_way_in_is_not_told() {
        let failed = json!({"errorCode": "AccessDenied", "requestParameters": {"userName": "bob"}});
        assert_eq!(told("CreateAccessKey", failed), None);
        assert_eq!(told("ListBuckets", json!({})), None);
        assert_eq!(told("CreateAccessKey", json!("not an object")), None);
    }

    #[test]
    fn names_in_events_are_escaped() {
        let evil = json!({"eventTime": "\u{1b}[31m", "requestParameters": {"userName": "<b>`x`\n"}});
        let line = told("CreateUser", evil).unwrap();
        assert!(!line.contains(['<', '\n', '\u{1b}']) && line.matches('`').count() == 2, "{line}");
    }

    #[test]
    fn the_table_is_sorted_and_names_each_event_once() {
        assert!(EVENTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
