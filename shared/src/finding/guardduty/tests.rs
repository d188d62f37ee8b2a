#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use crate::finding::{Credential, Direction, Finding, Kind, ParseError, Problem, ResourceRole, State, UserType, parse};

const INSTANCE: &str = "i-0a1b2c3d4e5f60718";

/// A bare `detail` that reads without error.
fn detail() -> Value {
    json!({
        "schemaVersion": "2.0", "accountId": "222222222222", "region": "eu-west-1", "partition": "aws",
        "id": "0ab1", "arn": "arn:aws:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1",
        "type": "Backdoor:EC2/C&CActivity.B", "severity": 8,
        "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": INSTANCE}},
        "service": {"detectorId": "d1", "resourceRole": "ACTOR", "archived": false, "count": 3,
            "eventFirstSeen": "2026-11-03T09:12:41.000Z", "eventLastSeen": "2026-11-03T09:27:05Z"},
        "title": "a title",
    })
}

/// `detail()` with the value at a JSON pointer replaced (or put in).
fn with(pointer: &str, value: Value) -> Value {
    let mut document = detail();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[key] = value;
    document
}

fn one(document: &Value) -> Result<Finding, ParseError> {
    parse(document).unwrap().findings.remove(0)
}

fn ok(pointer: &str, value: Value) -> Finding {
    one(&with(pointer, value)).unwrap()
}

fn error(pointer: &str, value: Value) -> String {
    one(&with(pointer, value)).unwrap_err().to_string()
}

#[test]
fn reads_the_whole_normal_form() {
    let finding = one(&detail()).unwrap();
    assert_eq!(finding.account.as_str(), "222222222222");
    assert_eq!(finding.severity, 8.0);
    assert_eq!(finding.role, ResourceRole::Actor);
    assert_eq!(finding.state, State::Active);
    assert_eq!(finding.instances[0].as_str(), INSTANCE);
    assert_eq!(finding.last_seen.unwrap().to_string(), "2026-11-03T09:27:05Z");
    assert_eq!(finding.count, Some(3));
    assert!(!finding.sample);
}

#[test]
fn severity_may_be_int_float_or_text() {
    for (value, expected) in
        [(json!(8), 8.0), (json!(8.7), 8.7), (json!("5.5"), 5.5), (json!(0), 0.0), (json!(10), 10.0)]
    {
        assert_eq!(ok("/severity", value).severity, expected);
    }
    for bad in [json!("high"), json!(11), json!(-1), json!("NaN"), json!("inf"), json!([8]), json!(true)] {
        assert!(error("/severity", bad.clone()).starts_with("`$.severity`: expected"), "{bad}");
    }
    assert_eq!(error("/severity", Value::Null), "`$.severity`: missing");
}

#[test]
fn times_may_be_text_seconds_or_milliseconds() {
    let expected = "2026-11-03T09:27:05Z";
    for value in [
        json!("2026-11-03T09:27:05Z"),
        json!("2026-11-03T10:27:05+01:00"),
        json!("2026-11-03 09:27:05.000000000"),
        json!("2026-11-03T09:27:05"),
        json!(1793698025),
        json!(1793698025.0),
        json!(1793698025000_u64),
        json!("1793698025"),
        json!("1793698025000"),
    ] {
        let seen = ok("/service/eventLastSeen", value.clone()).last_seen;
        assert_eq!(seen.map(|t| t.to_string()).as_deref(), Some(expected), "{value}");
    }
    for unknown in [json!(null), json!(""), json!("yesterday"), json!(1e300), json!({}), json!("NaN")] {
        assert_eq!(ok("/service/eventLastSeen", unknown).last_seen, None);
    }
}

#[test]
fn null_objects_are_absent_ones() {
    for pointer in ["/service", "/resource", "/resource/instanceDetails", "/arn", "/partition", "/title"] {
        assert!(one(&with(pointer, Value::Null)).is_ok(), "{pointer}");
    }
    let finding = ok("/resource", Value::Null);
    assert!(finding.instances.is_empty());
    assert_eq!(ok("/service", Value::Null).role, ResourceRole::Unknown);
}

#[test]
fn ids_that_are_acted_on_must_be_well_formed() {
    let cases = [
        ("/accountId", json!("1234567891234"), "`$.accountId`: not a valid account id: `1234567891234`"),
        ("/accountId", json!("123456789"), "`$.accountId`: not a valid account id: `123456789`"),
        ("/accountId", json!("٢٢٢٢٢٢٢٢٢٢٢٢"), "`$.accountId`: not a valid account id"),
        ("/accountId", json!(222_222_222_222_u64), "`$.accountId`: expected a string, found `222222222222`"),
        ("/accountId", json!(""), "`$.accountId`: missing"),
        ("/id", json!("a b"), "`$.id`: not a valid finding id: `a b`"),
        ("/id", json!("a\n"), "`$.id`: not a valid finding id: `a\\u{a}`"),
        ("/region", json!("region"), "`$.region`: not a valid Region: `region`"),
        ("/partition", json!("aws-iso"), "`$.partition`: not a valid partition: `aws-iso`"),
        ("/arn", json!("arn:aws:guardduty"), "`$.arn`: not a valid ARN"),
        ("/type", json!(""), "`$.type`: missing"),
        ("/type", json!("a\u{202e}b"), "`$.type`: expected a finding type"),
        ("/service/detectorId", json!("../x"), "`$.service.detectorId`: expected a detector id"),
        ("/resource/instanceDetails/instanceId", json!("i-blart"), "not a valid instance id: `i-blart`"),
        ("/resource/instanceDetails/instanceId", json!("${instance_id}"), "`$.resource.instanceDetails.instanceId`"),
        ("/resource/instanceDetails/instanceId", json!(["i-0a1b2c3d4e5f60718"]), "expected a string, found `a list`"),
    ];
    for (pointer, value, expected) in cases {
        let shown = error(pointer, value);
        assert!(shown.contains(expected), "{shown}\n  does not contain {expected}");
    }
}

#[test]
fn the_finding_must_agree_with_itself() {
    let cases = [
        ("/region", json!("us-east-1"), "`$.arn`: says `eu-west-1`, but `region` says `us-east-1`"),
        ("/accountId", json!("333333333333"), "`$.arn`: says `222222222222`, but `accountId` says `333333333333`"),
        ("/id", json!("ffff"), "`$.arn`: says `0ab1`, but `id` says `ffff`"),
        ("/partition", json!("aws-cn"), "`$.partition`: says `aws-cn`, but the Region says `aws`"),
        (
            "/arn",
            json!("arn:aws:ec2:eu-west-1:222222222222:x/finding/0ab1"),
            "`$.arn`: says `ec2`, but the source says",
        ),
        (
            "/arn",
            json!("arn:aws-cn:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1"),
            "`$.arn`: not a valid ARN",
        ),
        ("/AccountId", json!("333333333333"), "`$.accountId`: says `222222222222`, but its twin with a capital letter"),
    ];
    for (pointer, value, expected) in cases {
        let shown = error(pointer, value);
        assert!(shown.contains(expected), "{shown}\n  does not contain {expected}");
    }
    assert_eq!(ok("/AccountId", json!("222222222222")).account.as_str(), "222222222222");
}

#[test]
fn the_region_comes_from_the_arn_or_the_envelope_when_absent() {
    assert_eq!(ok("/region", Value::Null).region.as_str(), "eu-west-1");
    let mut bare = with("/region", Value::Null);
    bare["arn"] = Value::Null;
    assert_eq!(one(&bare).unwrap_err().to_string(), "`$.region`: missing");
    let event = json!({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "account": "111111111111",
        "region": "ap-southeast-2", "detail": bare});
    let reported = parse(&event).unwrap();
    assert_eq!(reported.findings[0].as_ref().unwrap().region.as_str(), "ap-southeast-2");
    assert_eq!(reported.envelope_account.unwrap().as_str(), "111111111111");
}

#[test]
fn errors_inside_an_envelope_are_placed_in_it() {
    let event = json!({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "account": "111111111111",
        "detail": with("/accountId", json!("x"))});
    assert_eq!(one(&event).unwrap_err().at, "$.detail.accountId");
    let two = json!({"Findings": [detail(), with("/id", json!(7))]});
    let reported = parse(&two).unwrap();
    assert_eq!(reported.kind, Kind::GuardDutyGetFindings);
    assert!(reported.findings[0].is_ok());
    assert_eq!(reported.findings[1].as_ref().unwrap_err().at, "$.Findings[1].id");
}

#[test]
fn samples_are_known_by_every_mark_of_guardduty() {
    let marks = [
        ("/service/additionalInfo", json!({"value": "{\"sample\":true}", "type": "default"})),
        ("/service/additionalInfo", json!({"Value": "{\"threatName\":\"x\",\"sample\":true}"})),
        ("/service/additionalInfo", json!({"sample": true})),
        ("/service/additionalInfo", json!({"Sample": "True"})),
        ("/service/additionalInfo", json!({"value": {"sample": true}})),
        ("/title", json!("[SAMPLE] The EC2 instance")),
        ("/resource/instanceDetails/instanceId", json!("i-99999999")),
        ("/resource/instanceDetails/instanceId", json!("GeneratedFindingInstanceId")),
        ("/resource/instanceDetails/availabilityZone", json!("GeneratedFindingInstaceAvailabilityZone")),
        ("/resource/accessKeyDetails", json!({"accessKeyId": "GeneratedFindingAccessKeyId"})),
        (
            "/service/action",
            json!({"networkConnectionAction": {"remoteIpDetails": {"country": {"countryName": "GeneratedFindingCountryName"}}}}),
        ),
    ];
    for (pointer, value) in marks {
        let finding = ok(pointer, value.clone());
        assert!(finding.sample, "{pointer} {value}");
        assert!(finding.instances.iter().all(|i| i.as_str() == INSTANCE), "{pointer}");
    }
}

/// Law: nothing that an account's owner can name makes a finding a sample, or it would be skipped.
#[test]
fn a_name_chosen_in_the_account_never_makes_a_sample() {
    let disguises = [
        (
            "/resource/instanceDetails/tags",
            json!([{"key": "GeneratedFindingTag", "value": "GeneratedFindingValue"}, {"key": "sample", "value": "true"}]),
        ),
        ("/resource/instanceDetails/imageDescription", json!("GeneratedFindingInstaceImageDescription")),
        ("/resource/instanceDetails/iamInstanceProfile", json!({"arn": "GeneratedFinding", "id": "GeneratedFinding"})),
        (
            "/resource/instanceDetails/networkInterfaces",
            json!([{"securityGroups": [{"groupName": "GeneratedFindingSecurityGroupName"}]}]),
        ),
        ("/resource/accessKeyDetails", json!({"userName": "GeneratedFindingUserName"})),
        ("/service/action", json!({"dnsRequestAction": {"domain": "GeneratedFindingDomainName"}})),
        (
            "/service/additionalInfo",
            json!({"value": "{\"domain\":\"{\\\"sample\\\":true}\",\"userAgent\":{\"sample\":true}}"}),
        ),
        ("/service/additionalInfo", json!({"value": "sample: true"})),
        ("/service/additionalInfo", json!({"sample": false, "value": "{\"sample\":false}"})),
        ("/title", json!("The user [SAMPLE] did something")),
        ("/description", json!("[SAMPLE]")),
    ];
    for (pointer, value) in disguises {
        let finding = ok(pointer, value.clone());
        assert!(!finding.sample, "{pointer} {value}");
        assert_eq!(finding.instances.len(), 1);
    }
}

#[test]
fn reads_role_direction_and_archive_only_as_guardduty_writes_them() {
    assert_eq!(ok("/service/resourceRole", json!("SOURCE")).role, ResourceRole::Unknown);
    assert_eq!(ok("/service/resourceRole", json!("TARGET")).role, ResourceRole::Target);
    assert_eq!(ok("/service/archived", json!(true)).state, State::Archived);
    assert_eq!(ok("/service/archived", json!("true")).state, State::Archived);
    assert_eq!(ok("/service/archived", Value::Null).state, State::Active);
    let action = |d: &str| json!({"networkConnectionAction": {"connectionDirection": d}});
    assert_eq!(ok("/service/action", action("OUTBOUND")).direction, Direction::Outbound);
    assert_eq!(ok("/service/action", action("INBOUND")).direction, Direction::Inbound);
    assert_eq!(ok("/service/action", action("UNKNOWN")).direction, Direction::Unknown);
}

/// A `detail` with an attack sequence over these resources.
fn sequence(resources: Value) -> Value {
    let mut document = with("/type", json!("AttackSequence:EC2/CompromisedInstanceGroup"));
    document["resource"] = json!({"resourceType": "AttackSequence"});
    document["service"]["detection"] = json!({"sequence": {"resources": resources}});
    document
}

#[test]
fn an_attack_sequence_names_its_instances_once_each() {
    let (a, b, c) = ("i-00000000000000001", "i-00000000000000002", "i-00000000000000003");
    let finding = one(&sequence(json!([
        {"uid": a, "resourceType": "EC2_INSTANCE", "accountId": "222222222222", "region": "eu-west-1",
         "data": {"ec2Instance": {"ec2NetworkInterfaceUids": ["eni-00000000000000001"]}}},
        {"uid": format!("arn:aws:ec2:eu-west-1:222222222222:instance/{b}"), "resourceType": "EC2_INSTANCE"},
        {"uid": "asg", "resourceType": "AUTOSCALING_AUTO_SCALING_GROUP", "data": {"autoscalingAutoScalingGroup": {"ec2InstanceUids": [a, b, c]}}},
        {"uid": "eni-00000000000000001", "resourceType": "EC2_NETWORK_INTERFACE"},
        {"uid": "arn:aws:ec2:eu-west-1:222222222222:network-interface/eni-00000000000000002", "resourceType": "EC2_NETWORK_INTERFACE"},
        {"uid": "x", "resourceType": "S3_BUCKET", "data": null},
    ])))
    .unwrap();
    let ids: Vec<&str> = finding.instances.iter().map(|i| i.as_str()).collect();
    assert_eq!(ids, [a, b, c]);
    let interfaces: Vec<&str> = finding.interfaces.iter().map(|i| i.as_str()).collect();
    assert_eq!(interfaces, ["eni-00000000000000002"]);
    assert!(finding.elsewhere.is_empty());
}

#[test]
fn nodes_of_a_cluster_are_not_named_as_compromised() {
    let finding = one(&sequence(json!([
        {"uid": "c", "resourceType": "EKS_CLUSTER", "data": {"eksCluster": {"ec2InstanceUids": ["i-00000000000000001"]}}},
        {"uid": "c", "resourceType": "ECS_CLUSTER", "data": {"ecsCluster": {"ec2InstanceUids": ["i-00000000000000002"]}}},
    ])))
    .unwrap();
    assert!(finding.instances.is_empty());
}

#[test]
fn an_instance_of_another_account_or_region_is_kept_apart() {
    let id = "i-00000000000000001";
    for resource in [
        json!({"uid": id, "resourceType": "EC2_INSTANCE", "accountId": "333333333333"}),
        json!({"uid": id, "resourceType": "EC2_INSTANCE", "region": "us-east-1"}),
        json!({"uid": id, "resourceType": "EC2_INSTANCE", "region": "cn-north-1"}),
        json!({"uid": format!("arn:aws:ec2:eu-west-1:333333333333:instance/{id}"), "resourceType": "EC2_INSTANCE"}),
        json!({"uid": format!("arn:aws-us-gov:ec2:us-gov-west-1:222222222222:instance/{id}"), "resourceType": "EC2_INSTANCE"}),
    ] {
        let finding = one(&sequence(json!([resource]))).unwrap();
        assert!(finding.instances.is_empty(), "{resource}");
        assert_eq!(finding.elsewhere.len(), 1, "{resource}");
        let stored = serde_json::to_string(&finding).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&stored).unwrap(), finding);
    }
}

#[test]
fn what_is_not_acted_on_is_said_in_words() {
    let eni = |n: u8| format!("eni-0000000000000000{n}");
    let finding = one(&sequence(json!([
        {"uid": "i-00000000000000001", "resourceType": "EC2_INSTANCE"},
        {"uid": "i-00000000000000002", "resourceType": "EC2_INSTANCE", "accountId": "333333333333", "region": "us-east-1",
         "data": {"ec2Instance": {"ec2NetworkInterfaceUids": [eni(1)]}}},
        {"uid": eni(1), "resourceType": "EC2_NETWORK_INTERFACE", "accountId": "333333333333", "region": "us-east-1"},
        {"uid": eni(2), "resourceType": "EC2_NETWORK_INTERFACE", "accountId": "333333333333"},
        {"uid": "not an interface", "resourceType": "EC2_NETWORK_INTERFACE", "accountId": "333333333333"},
        {"uid": eni(3), "resourceType": "EC2_NETWORK_INTERFACE"},
        {"uid": eni(4), "resourceType": "EC2_NETWORK_INTERFACE"},
    ])))
    .unwrap();
    assert_eq!(
        finding.not_touched(|id| id.as_str() == eni(4)),
        [
            "not touched: i-00000000000000002 in account 333333333333, us-east-1, which the finding names as well",
            "not touched: eni-00000000000000002 in account 333333333333, eu-west-1, which the finding names as well",
            "not touched, unless it is named itself: the instance of eni-00000000000000003",
        ]
    );
}

#[test]
fn a_malformed_member_of_a_sequence_is_an_error() {
    for (resource, at) in [
        (json!({"uid": "i-xyz", "resourceType": "EC2_INSTANCE"}), "$.service.detection.sequence.resources[0].uid"),
        (json!({"resourceType": "EC2_INSTANCE"}), "$.service.detection.sequence.resources[0].uid"),
        (
            json!({"uid": "arn:aws:s3:::b", "resourceType": "EC2_INSTANCE"}),
            "$.service.detection.sequence.resources[0].uid",
        ),
        (
            json!({"uid": "eni-1", "resourceType": "EC2_NETWORK_INTERFACE"}),
            "$.service.detection.sequence.resources[0].uid",
        ),
        (
            json!({"uid": "i-00000000000000001", "resourceType": "EC2_INSTANCE", "accountId": "12"}),
            "$.service.detection.sequence.resources[0].accountId",
        ),
    ] {
        let error = one(&sequence(json!([resource]))).unwrap_err();
        assert_eq!(error.at, at, "{resource}");
        assert!(!matches!(error.problem, Problem::UnknownShape { .. }));
    }
    assert_eq!(one(&sequence(json!("x"))).unwrap_err().at, "$.service.detection.sequence.resources");
}

#[test]
fn an_identity_is_read_from_the_access_key() {
    let details = json!({
        "accessKeyId": "ASIAIOSFODNN7EXAMPLE", "principalId": "AROADBQP57FF2AEXAMPLE:i-0a1b2c3d4e5f60718",
        "userType": "AssumedRole", "userName": "shop-web",
    });
    let finding = ok("/resource/accessKeyDetails", details);
    let [identity] = finding.identities.as_slice() else { panic!("{:?}", finding.identities) };
    assert_eq!(identity.credential(), Credential::Session);
    assert_eq!(identity.role_id().unwrap().as_str(), "AROADBQP57FF2AEXAMPLE");
    assert_eq!(identity.session_name().unwrap().as_str(), "i-0a1b2c3d4e5f60718");
    assert_eq!(identity.user_name.as_deref(), Some("shop-web"));
}

#[test]
fn what_iam_could_not_have_given_is_absent_and_hides_nothing_else() {
    for (field, bad) in [
        ("accessKeyId", json!("${key}")),
        ("principalId", json!("AIDA\u{202e}CKCEVSQ6C2EXAMPLE")),
        ("userName", json!("../admin")),
        ("userName", json!(["deploy"])),
        ("userType", json!(7)),
    ] {
        let mut details = json!({
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE", "principalId": "AIDACKCEVSQ6C2EXAMPLE", "userType": "IAMUser",
            "userName": "deploy",
        });
        details[field] = bad.clone();
        let finding = ok("/resource/accessKeyDetails", details);
        let [identity] = finding.identities.as_slice() else { panic!("{bad}: {:?}", finding.identities) };
        let absent = match field {
            "accessKeyId" => identity.access_key.is_none(),
            "principalId" => identity.principal_id.is_none(),
            "userName" => identity.user_name.is_none(),
            _ => identity.user_type == UserType::Other,
        };
        assert!(absent, "{field}: {identity:?}");
        assert_eq!(finding.instances[0].as_str(), INSTANCE);
    }
    assert!(ok("/resource/accessKeyDetails", json!({"userName": "deploy"})).identities.is_empty());
    assert!(ok("/resource/accessKeyDetails", json!({})).identities.is_empty());
}

#[test]
fn an_attack_sequence_names_its_identities_once_each() {
    let sequence = json!({"sequence": {
        "resources": [
            {"resourceType": "ACCESS_KEY", "uid": "AKIAIOSFODNN7EXAMPLE", "accountId": "222222222222",
             "data": {"accessKey": {"principalId": "AIDACKCEVSQ6C2EXAMPLE", "userName": "deploy", "userType": "IAMUser"}}},
            {"resourceType": "ACCESS_KEY", "uid": "AKIAIOSFODNN7ELSE000", "accountId": "333333333333"},
            {"resourceType": "S3_BUCKET", "uid": "arn:aws:s3:::bucket"},
        ],
        "actors": [
            {"user": {"name": "deploy", "uid": "AIDACKCEVSQ6C2EXAMPLE", "credentialUid": "AKIAIOSFODNN7EXAMPLE"}},
            {"user": {"name": "shop-web", "uid": "AROADBQP57FF2AEXAMPLE:web", "type": "AssumedRole",
                      "credentialUid": "ASIAIOSFODNN7EXAMPLE", "account": {"uid": "222222222222"}},
             "session": {"issuer": "arn:aws:iam::222222222222:role/shop/shop-web"}},
            {"user": {"uid": "AROADBQP57FF2AFOREIGN:x", "type": "AssumedRole", "account": {"uid": "333333333333"}}},
            {"user": null},
        ],
    }});
    let finding = ok("/service/detection", sequence);
    let keys: Vec<_> = finding.identities.iter().map(|i| i.access_key.as_ref().unwrap().as_str()).collect();
    assert_eq!(keys, ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"]);
    assert_eq!(finding.identities[0].user_type, UserType::IamUser);
    assert_eq!(finding.identities[1].arn.as_ref().unwrap().resource, "role/shop/shop-web");
}

#[test]
fn a_sample_names_nobody() {
    let mut document = with("/title", json!("[SAMPLE] a title"));
    document["resource"]["accessKeyDetails"] =
        json!({"accessKeyId": "GeneratedFindingAccessKeyId", "principalId": "GeneratedFindingPrincipalId"});
    assert!(one(&document).unwrap().identities.is_empty());
}
