//! What holds for every source alike, and what each source must be told apart by.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::screen::{TurnedAway, screen};

const MEMBER: &str = "222222222222";

/// The one finding in a document.
fn one(document: &Value) -> Result<Finding, ParseError> {
    let mut findings = parse(document).unwrap().findings;
    assert_eq!(findings.len(), 1);
    findings.remove(0)
}

/// The reason word of the screen.
fn away(document: &Value) -> Option<&'static str> {
    screen(&one(document).unwrap(), None, None).map(|away| away.as_str())
}

/// `document` with the value at a JSON pointer replaced (or put in).
fn with(document: &Value, pointer: &str, value: Value) -> Value {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[key] = value;
    document
}

/// A failed control, as `GetFindings` prints it.
fn failed_control() -> Value {
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": "arn:aws:securityhub:eu-west-1:222222222222:security-control/S3.8/finding/0ab1",
        "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/securityhub",
        "GeneratorId": "security-control/S3.8", "AwsAccountId": MEMBER, "Region": "eu-west-1",
        "Types": ["Software and Configuration Checks/Industry and Regulatory Standards"],
        "FirstObservedAt": "2026-11-03T09:12:41.000Z", "LastObservedAt": "2026-11-03T09:27:05Z",
        "Severity": {"Label": "HIGH", "Normalized": 70}, "Title": "S3.8",
        "Resources": [{"Type": "AwsS3Bucket", "Id": "arn:aws:s3:::shop-invoices", "Partition": "aws", "Region": "eu-west-1"}],
        "Compliance": {"Status": "FAILED", "SecurityControlId": "S3.8"},
        "Workflow": {"Status": "NEW"}, "WorkflowState": "NEW", "RecordState": "ACTIVE",
    })
}

/// GuardDuty's copy in Security Hub, of a finding of its own.
fn guardduty_copy() -> Value {
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": "arn:aws:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1",
        "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/guardduty",
        "GeneratorId": "arn:aws:guardduty:eu-west-1:222222222222:detector/d1", "AwsAccountId": MEMBER,
        "Region": "eu-west-1", "Types": ["TTPs/Command and Control/Backdoor:EC2-C&CActivity.B!DNS"],
        "Severity": {"Product": 8, "Label": "HIGH", "Normalized": 80}, "Title": "t",
        "ProductFields": {
            "aws/guardduty/service/archived": "false", "aws/guardduty/service/count": "3",
            "aws/guardduty/service/resourceRole": "TARGET",
            "aws/guardduty/service/action/networkConnectionAction/connectionDirection": "OUTBOUND",
            "aws/guardduty/service/additionalInfo/value": "{}",
            "aws/guardduty/service/eventFirstSeen": "2026-11-03T09:12:41.000Z",
            "aws/guardduty/service/eventLastSeen": "2026-11-03T09:27:05.000Z",
        },
        "Resources": [{"Type": "AwsEc2Instance", "Id": "arn:aws:ec2:eu-west-1:222222222222:instance/i-0a1b2c3d4e5f60718",
            "Partition": "aws", "Region": "eu-west-1"}],
        "Workflow": {"Status": "NEW"}, "RecordState": "ACTIVE",
    })
}

#[test]
fn a_control_is_known_by_its_own_id_or_its_standards() {
    let finding = one(&failed_control()).unwrap();
    assert_eq!((finding.source, finding.severity, finding.state), (Source::SecurityHub, 7.0, State::Active));
    assert_eq!(finding.resources[0].name(), "shop-invoices");
    assert_eq!(finding.control.unwrap().id, "S3.8");
    let unnamed = with(&failed_control(), "/Compliance/SecurityControlId", Value::Null);
    for (control, generator, expected) in [
        ("S3.8", "aws-foundational-security-best-practices/v/1.0.0/S3.8", "S3.8"),
        ("PCI.S3.5", "pci-dss/v/3.2.1/PCI.S3.5", "PCI.S3.5"),
        ("3.7", "cis-aws-foundations-benchmark/v/1.4.0/3.7", "cis-aws-foundations-benchmark/v/1.4.0/3.7"),
        (
            "",
            "arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/2.7",
            "cis-aws-foundations-benchmark/v/1.2.0/2.7",
        ),
        ("", "security-control/EC2.18", "EC2.18"),
    ] {
        let document = with(&unnamed, "/ProductFields", json!({"ControlId": control}));
        let finding = one(&with(&document, "/GeneratorId", json!(generator))).unwrap();
        assert_eq!(finding.control.unwrap().id, expected);
    }
}

/// What Security Hub lets anybody in the account write makes the answer stricter and never laxer.
#[test]
fn what_the_account_may_write_only_tightens() {
    for (pointer, value, word) in [
        ("/RecordState", json!("ARCHIVED"), "archived"),
        ("/Workflow/Status", json!("SUPPRESSED"), "suppressed"),
        ("/Workflow/Status", json!("RESOLVED"), "resolved"),
        ("/Compliance/Status", json!("PASSED"), "passed"),
        ("/Compliance/Status", json!("WARNING"), "not-evaluated"),
        ("/Compliance/Status", json!("NOT_AVAILABLE"), "not-evaluated"),
        ("/Compliance/Status", json!("SOMETHING_NEW"), "not-evaluated"),
        ("/Compliance", Value::Null, "not-evaluated"),
        ("/Sample", json!(true), "sample"),
        (
            "/ProductArn",
            json!("arn:aws:securityhub:eu-west-1:222222222222:product/222222222222/default"),
            "foreign-product",
        ),
        ("/Resources/0/Id", json!("arn:aws:ec2:eu-west-1:333333333333:security-group/sg-0a1b2c3d"), "other-account"),
    ] {
        let mut document = with(&failed_control(), pointer, value.clone());
        if word == "other-account" {
            document["Resources"][0]["Type"] = json!("AwsEc2SecurityGroup");
        }
        assert_eq!(away(&document), Some(word), "{pointer} {value}");
    }
    let legacy = with(&with(&failed_control(), "/Workflow", Value::Null), "/WorkflowState", json!("RESOLVED"));
    assert_eq!(away(&legacy), Some("resolved"));
    for (pointer, value) in [("/RecordState", json!("DELETED")), ("/Workflow/Status", json!("DONE"))] {
        assert!(one(&with(&failed_control(), pointer, value)).unwrap_err().to_string().contains("expected"));
    }
    let told = one(&with(&failed_control(), "/Workflow/Status", json!("NOTIFIED"))).unwrap();
    assert_eq!((told.state, told.state.is_live()), (State::Notified, true));
    // The product's own words are kept beside those that can be changed.
    let mut raised = with(&failed_control(), "/Severity", json!({"Label": "CRITICAL"}));
    raised["Types"] = json!(["Backdoor:EC2/C&CActivity.B"]);
    raised["FindingProviderFields"] = json!({"Severity": {"Label": "LOW"}, "Types": ["Its own"]});
    let finding = one(&raised).unwrap();
    assert_eq!((finding.severity, finding.finding_type.as_str()), (1.0, "Its own"));
}

#[test]
fn a_guardduty_finding_is_the_same_whoever_hands_it_on() {
    let event = json!({
        "source": "aws.guardduty", "detail-type": "GuardDuty Finding", "account": "111111111111", "region": "eu-west-1",
        "detail": {
            "accountId": MEMBER, "region": "eu-west-1", "partition": "aws", "id": "0ab1",
            "arn": "arn:aws:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1",
            "type": "Backdoor:EC2/C&CActivity.B!DNS", "severity": 8, "title": "t",
            "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "i-0a1b2c3d4e5f60718"}},
            "service": {"detectorId": "d1", "resourceRole": "TARGET", "archived": false, "count": 3,
                "action": {"networkConnectionAction": {"connectionDirection": "OUTBOUND"}},
                "eventFirstSeen": "2026-11-03T09:12:41.000Z", "eventLastSeen": "2026-11-03T09:27:05.000Z"},
        },
    });
    let own = one(&event).unwrap();
    let copy = one(&guardduty_copy()).unwrap();
    assert_eq!(copy.product, Some(Product::Aws("guardduty".to_owned())));
    assert_eq!(Finding { product: None, resource_type: own.resource_type.clone(), ..copy }, own);
    let ocsf = json!({
        "class_uid": 2004, "activity_id": 1, "severity_id": 4, "status_id": 1, "count": 3,
        "cloud": {"account": {"uid": MEMBER}, "region": "eu-west-1", "provider": "AWS"},
        "metadata": {"product": {"uid": "arn:aws:securityhub:eu-west-1::productv2/aws/guardduty"}},
        "finding_info": {"uid": "arn:aws:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1", "title": "t",
            "types": ["Threats", "Backdoor:EC2/C&CActivity.B!DNS"],
            "first_seen_time": 1793697161000_u64, "last_seen_time_dt": "2026-11-03T09:27:05.000Z"},
        "evidences": [{"connection_info": {"direction_id": 2}}],
        "resources": [{"uid": "i-0a1b2c3d4e5f60718", "type": "AWS::EC2::Instance", "region": "eu-west-1", "role_id": 1,
            "owner": {"account": {"uid": MEMBER}}}],
    });
    let v2 = one(&ocsf).unwrap();
    // OCSF has words for severities only.
    let same = Finding { product: None, severity: 8.0, resource_type: own.resource_type.clone(), ..v2.clone() };
    assert_eq!((same, v2.severity), (own, 7.0));
}

#[test]
fn who_acted_is_read_out_of_each_copy() {
    let key = "AKIAIOSFODNN7EXAMPLE";
    let mut asff = guardduty_copy();
    asff["Types"] = json!(["TTPs/Discovery/Recon:IAMUser-MaliciousIPCaller"]);
    asff["Resources"] = json!([{"Type": "AwsIamAccessKey", "Id": format!("AWS::IAM::AccessKey:{key}"), "Region": "eu-west-1",
        "Details": {"AwsIamAccessKey": {"PrincipalId": "AIDACKCEVSQ6C2EXAMPLE", "PrincipalType": "IAMUser", "PrincipalName": "deploy"}}}]);
    let ocsf = json!({
        "class_uid": 2004, "severity_id": 4, "status_id": 1, "cloud": {"account": {"uid": MEMBER}, "region": "eu-west-1"},
        "metadata": {"product": {"uid": "arn:aws:securityhub:eu-west-1::productv2/aws/guardduty"}},
        "finding_info": {"uid": "arn:aws:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1",
            "types": ["Threats", "Recon:IAMUser/MaliciousIPCaller"]},
        "resources": [{"uid": key, "type": "AWS::IAM::AccessKey",
            "user": {"name": "deploy", "uid": "AIDACKCEVSQ6C2EXAMPLE", "type": "IAMUser"}}],
    });
    for document in [&asff, &ocsf] {
        let finding = one(document).unwrap();
        let [identity] = finding.identities.as_slice() else { panic!("{:?}", finding.identities) };
        assert_eq!(identity.access_key.as_ref().unwrap().as_str(), key);
        assert_eq!(identity.user_type, UserType::IamUser);
        assert_eq!(identity.user_id().unwrap().as_str(), "AIDACKCEVSQ6C2EXAMPLE");
        assert_eq!(identity.user_name.as_deref(), Some("deploy"));
        assert!(finding.resources.is_empty());
    }
    asff["Resources"][0]["Id"] = json!("ABC-made-up");
    assert_eq!(one(&asff).unwrap().identities[0].access_key, None);
}

/// An instance must be contained whatever else the finding names, so what is not understood of the rest is left out.
#[test]
fn a_bucket_that_is_none_does_not_keep_guardduty_from_naming_an_instance() {
    let detail = json!({
        "accountId": MEMBER, "region": "eu-west-1", "id": "0ab1", "type": "T", "severity": 8,
        "resource": {"instanceDetails": {"instanceId": "i-0a1b2c3d4e5f60718"},
            "s3BucketDetails": [{"name": "${bucket_name}"}, {"name": "shop-invoices"}],
            "ebsSnapshotDetails": {"snapshotArn": "arn:aws:ec2:eu-west-1:333333333333:snapshot/snap-0a1b2c3d"}},
        "service": {"detection": {"sequence": {"resources": [
            {"resourceType": "S3_BUCKET", "uid": "x"},
            {"resourceType": "S3_BUCKET", "uid": "arn:aws:s3:::shop-logs", "accountId": MEMBER},
            {"resourceType": "S3_BUCKET", "uid": "arn:aws:s3:::theirs", "accountId": "333333333333"},
        ]}}},
    });
    let finding = one(&detail).unwrap();
    let names: Vec<&str> = finding.resources.iter().map(Resource::name).collect();
    assert_eq!(names, ["i-0a1b2c3d4e5f60718", "shop-logs", "shop-invoices"]);
    assert_eq!(screen(&finding, None, None), None);
}

#[test]
fn every_type_of_guardduty_survives_security_hub() {
    let types = include_str!("../../../events/guardduty/TYPES.txt");
    let names: Vec<&str> = types.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(names.len() > 200);
    for name in names {
        for form in [
            format!("TTPs/Command and Control/{}", name.replacen('/', "-", 1)),
            name.replacen('/', "-", 1),
            name.to_owned(),
        ] {
            assert_eq!(securityhub::guardduty_type(&form).as_deref(), Some(name), "{form}");
        }
    }
    assert_eq!(
        securityhub::guardduty_type("Software and Configuration Checks/Backdoor:EC2.C&CActivity.B").as_deref(),
        Some("Backdoor:EC2/C&CActivity.B")
    );
    for none in ["Threats", "TTPs/Discovery", ":", "a:b", "a:-", "Recon:EC2/Port\nscan", ""] {
        assert_eq!(securityhub::guardduty_type(none), None, "{none:?}");
    }
}

#[test]
fn a_sample_is_known_by_what_guardduty_sets_and_by_nothing_from_the_account() {
    let copy = guardduty_copy();
    let own = |name: &str, value: &str| {
        let mut document = copy.clone();
        document["ProductFields"][format!("aws/guardduty/service/{name}")] = json!(value);
        document
    };
    for marked in [
        own("additionalInfo/sample", "true"),
        own("additionalInfo/value", r#"{"threatListName":"x","sample":true}"#),
        own("action/networkConnectionAction/remoteIpDetails/country/countryName", "GeneratedFindingCountryName"),
        with(&copy, "/Title", json!("[SAMPLE] The EC2 instance")),
        with(&copy, "/Sample", json!(true)),
        with(&copy, "/Resources/0/Id", json!("arn:aws:ec2:eu-west-1:222222222222:instance/i-99999999")),
    ] {
        let finding = one(&marked).unwrap();
        assert!(finding.sample, "{marked}");
        assert!(!finding.instances.iter().any(|id| id.as_str() == "i-99999999"));
    }
    for disguised in [
        with(&copy, "/Resources/0/Tags", json!({"GeneratedFindingTag": "[SAMPLE]", "sample": "true"})),
        with(&copy, "/Description", json!("[SAMPLE]")),
        own("additionalInfo/value", r#"{"userAgent":{"sample":true}}"#),
        own("action/dnsRequestAction/domain", "GeneratedFindingDomainName"),
        with(&copy, "/Note", json!({"Text": "sample"})),
    ] {
        assert!(!one(&disguised).unwrap().sample, "{disguised}");
    }
    // A rule may be named so by anybody.
    let mut named = failed_control();
    named["Title"] = json!("[SAMPLE] my rule");
    assert!(!one(&named).unwrap().sample);
}

#[test]
fn a_finding_in_security_hub_agrees_with_itself() {
    for (base, pointer, value, expected) in [
        (
            guardduty_copy(),
            "/AwsAccountId",
            json!("333333333333"),
            "`$.Id`: says `222222222222`, but the finding's account says",
        ),
        (guardduty_copy(), "/Region", json!("us-east-1"), "`$.Id`: says `eu-west-1`, but the finding's Region says"),
        (
            guardduty_copy(),
            "/Id",
            json!("arn:aws:guardduty:eu-west-1:222222222222:detector/d1"),
            "expected a GuardDuty finding's ARN",
        ),
        (guardduty_copy(), "/Id", json!("0ab1"), "not a valid ARN"),
        (guardduty_copy(), "/Types", json!(["TTPs/Discovery"]), "`$.Types`: missing"),
        (
            failed_control(),
            "/AwsAccountId",
            json!("333333333333"),
            "`$.Id`: says `222222222222`, but `AwsAccountId` says",
        ),
        (failed_control(), "/Region", json!("us-east-1"), "but `Region` says `us-east-1`"),
        (failed_control(), "/AwsAccountId", json!("12345678910"), "not a valid account id"),
        (failed_control(), "/Severity", Value::Null, "`$.Severity`: missing"),
        (failed_control(), "/Resources/0/Id", json!("No trails"), "`$.Resources[0].Id`: not a valid bucket name"),
        (failed_control(), "/Resources", json!("x"), "`$.Resources`: expected a list"),
        (failed_control(), "/ProductArn", Value::Null, "`$.ProductArn`: missing"),
        (failed_control(), "/Id", json!("a b"), "`$.Id`: not a valid finding id"),
    ] {
        let shown = one(&with(&base, pointer, value)).unwrap_err().to_string();
        assert!(shown.contains(expected), "{shown}\n  does not contain {expected}");
    }
    let global = with(&failed_control(), "/Region", Value::Null);
    assert_eq!(one(&global).unwrap().region.as_str(), "eu-west-1");
}

/// Whoever can import findings under a product of his own can write what he likes into them: none of it is worth
/// waking somebody.
#[test]
fn what_is_malformed_in_a_foreign_finding_is_no_fault() {
    let foreign =
        with(&failed_control(), "/ProductArn", json!("arn:aws:securityhub:eu-west-1::product/prowler/prowler"));
    assert_eq!(away(&with(&foreign, "/Resources/0/Id", json!("No trails"))), Some("foreign-product"));
    assert_eq!(away(&with(&foreign, "/Resources", json!("x"))), Some("foreign-product"));
    let unreadable = one(&with(&foreign, "/Id", json!("a\nb"))).unwrap_err();
    assert!(matches!(&unreadable.problem, Problem::Foreign { product, .. } if product.ends_with("prowler/prowler")));
    assert!(unreadable.to_string().contains("not a valid finding id"), "{unreadable}");
    let archived =
        with(&with(&failed_control(), "/RecordState", json!("ARCHIVED")), "/Resources/0/Id", json!("No trails"));
    assert_eq!(away(&archived), Some("archived"));
}

#[test]
fn a_user_named_like_an_id_is_told_from_the_user_of_that_id() {
    let id = "AIDACKCEVSQ6C2EXAMPLE";
    let mut document = failed_control();
    document["Resources"][0] = json!({"Type": "AwsIamUser", "Id": format!("arn:aws:iam::222222222222:user/{id}")});
    assert_eq!(one(&document).unwrap().resources[0].kind(), "iam-user-id");
    document["Resources"][0]["Details"] = json!({"AwsIamUser": {"UserName": id, "UserId": "AIDAOTHEROTHEROTHER"}});
    assert_eq!(one(&document).unwrap().resources[0].kind(), "iam-user");
    document["Resources"][0]["Details"] = json!({"AwsIamUser": {"UserName": "alice", "UserId": id}});
    assert_eq!(one(&document).unwrap().resources[0].kind(), "iam-user-id");
}

#[test]
fn ocsf_says_in_many_ways_that_nothing_is_to_be_done() {
    let base = json!({
        "class_uid": 2003, "activity_id": 1, "severity_id": 3, "status_id": 1,
        "cloud": {"account": {"uid": MEMBER}, "region": "eu-west-1"},
        "metadata": {"product": {"uid": "arn:aws:securityhub:eu-west-1::productv2/aws/securityhub"}},
        "finding_info": {"uid": "arn:aws:securityhub:eu-west-1:222222222222:security-control/S3.8/finding/0ab1",
            "title": "t", "types": ["Posture Management"]},
        "compliance": {"status": "Fail", "status_id": 3, "control": "S3.8"},
        "resources": [{"uid": "shop-invoices", "type": "AWS::S3::Bucket", "region": "eu-west-1"}],
    });
    let finding = one(&base).unwrap();
    assert_eq!((finding.control.unwrap().id.as_str(), finding.severity), ("S3.8", 4.0));
    for (pointer, value, word) in [
        ("/activity_id", json!(3), "archived"),
        ("/status_id", json!(3), "suppressed"),
        ("/status_id", json!(4), "resolved"),
        ("/status_id", json!(5), "archived"),
        ("/compliance/status_id", json!(1), "passed"),
        ("/compliance/status_id", json!(2), "not-evaluated"),
        ("/compliance", Value::Null, "not-evaluated"),
        ("/metadata/product/uid", json!("prowler"), "foreign-product"),
        ("/resources/0/owner", json!({"account": {"uid": "333333333333"}}), "other-account"),
    ] {
        assert_eq!(away(&with(&base, pointer, value.clone())), Some(word), "{pointer} {value}");
    }
    let by_word = with(&with(&base, "/status_id", Value::Null), "/status", json!("Suppressed"));
    assert_eq!(away(&by_word), Some("suppressed"));
    let by_word = with(&with(&base, "/compliance/status_id", Value::Null), "/compliance/status", json!("pass"));
    assert_eq!(away(&by_word), Some("passed"));
    for (pointer, value) in [("/status_id", json!(42)), ("/severity_id", json!(42)), ("/finding_info/types", json!([]))]
    {
        assert!(one(&with(&base, pointer, value)).is_err(), "{pointer}");
    }
    let exposure = with(&with(&base, "/compliance", Value::Null), "/class_uid", json!(2007));
    assert_eq!(away(&exposure), None);
}

#[test]
fn a_change_of_compliance_names_rule_and_resource() {
    let base = json!({
        "awsAccountId": MEMBER, "awsRegion": "eu-west-1", "messageType": "ComplianceChangeNotification",
        "configRuleName": "s3-bucket-public-read-prohibited",
        "configRuleARN": "arn:aws:config:eu-west-1:222222222222:config-rule/config-rule-abc123",
        "resourceType": "AWS::S3::Bucket", "resourceId": "shop-invoices",
        "newEvaluationResult": {"complianceType": "NON_COMPLIANT", "resultRecordedTime": "2026-11-03T09:27:05Z"},
    });
    let finding = one(&base).unwrap();
    assert_eq!(
        finding.id.as_str(),
        "arn:aws:config:eu-west-1:222222222222:config-rule/config-rule-abc123/AWS::S3::Bucket/shop-invoices"
    );
    assert_eq!(finding.control.as_ref().unwrap().id, "s3-bucket-public-read-prohibited");
    assert_eq!((finding.resources[0].kind(), finding.severity), ("s3-bucket", 0.0));
    for (pointer, value, word) in [
        ("/newEvaluationResult/complianceType", json!("COMPLIANT"), "compliant"),
        ("/newEvaluationResult/complianceType", json!("NOT_APPLICABLE"), "not-evaluated"),
        ("/newEvaluationResult/complianceType", json!("INSUFFICIENT_DATA"), "not-evaluated"),
        ("/newEvaluationResult", Value::Null, "not-evaluated"),
    ] {
        assert_eq!(away(&with(&base, pointer, value.clone())), Some(word), "{pointer} {value}");
    }
    for (pointer, value, expected) in [
        ("/awsAccountId", json!(["222222222222"]), "`$.awsAccountId`: expected a string"),
        ("/awsAccountId", json!("333333333333"), "`$.configRuleARN`: says `222222222222`"),
        ("/awsRegion", json!("us-east-1"), "but `awsRegion` says `us-east-1`"),
        ("/messageType", json!("ConfigurationItemChangeNotification"), "expected ComplianceChangeNotification"),
        ("/resourceId", json!("shop invoices"), "`$.resourceId`: not a valid"),
        ("/resourceId", json!("../x"), "`$.resourceId`: not a valid bucket name"),
        ("/configRuleName", Value::Null, "`$.configRuleName`: missing"),
    ] {
        let shown = one(&with(&base, pointer, value)).unwrap_err().to_string();
        assert!(shown.contains(expected), "{shown}\n  does not contain {expected}");
    }
    let user =
        with(&with(&base, "/resourceType", json!("AWS::IAM::User")), "/resourceId", json!("AIDACKCEVSQ6C2EXAMPLE"));
    assert_eq!(one(&user).unwrap().resources[0].kind(), "iam-user-id");
}

#[test]
fn a_key_that_lies_open_is_rated_by_what_aws_says_of_it() {
    let event = |source: &str, kind: &str, detail: Value| json!({"source": source, "detail-type": kind, "account": MEMBER, "region": "us-east-1", "detail": detail});
    let notice = |code: &str, entity: &str| {
        event(
            "aws.health",
            "AWS Health Event",
            json!({
                "eventArn": format!("arn:aws:health:us-east-1::event/RISK/{code}/{code}_1"), "service": "RISK",
                "eventTypeCode": code, "eventTypeCategory": "issue", "startTime": "Tue, 03 Nov 2026 09:27:05 GMT",
                "affectedEntities": [{"entityValue": entity}],
            }),
        )
    };
    for (code, severity) in [
        ("AWS_RISK_CREDENTIALS_EXPOSED", 9.0),
        ("AWS_RISK_CREDENTIALS_COMPROMISED", 9.0),
        ("AWS_RISK_CREDENTIALS_EXPOSURE_SUSPECTED", 7.0),
    ] {
        let finding = one(&notice(code, "AKIAIOSFODNN7EXAMPLE")).unwrap();
        assert_eq!((finding.severity, finding.resources[0].kind()), (severity, "iam-access-key"), "{code}");
        assert!(matches!(finding.identities[0].credential(), Credential::Key(_)));
        assert!(finding.id.as_str().ends_with("/222222222222"));
        assert_eq!(finding.last_seen.unwrap().to_string(), "2026-11-03T09:27:05Z");
    }
    assert!(one(&notice("AWS_RISK_CREDENTIALS_EXPOSED", "ACCESS_KEY_ID_HERE")).is_err());
    let other = one(&notice("AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", "cr-1 | us-east-1b")).unwrap();
    assert_eq!((other.severity, other.resources[0].kind()), (0.0, "other"));
    let mut closed = notice("AWS_RISK_CREDENTIALS_EXPOSED", "AKIAIOSFODNN7EXAMPLE");
    closed["detail"]["statusCode"] = json!("closed");
    assert_eq!(away(&closed), Some("resolved"));
    // An organisation's events arrive elsewhere.
    let mut organisation = notice("AWS_RISK_CREDENTIALS_EXPOSED", "AKIAIOSFODNN7EXAMPLE");
    organisation["account"] = json!("111111111111");
    organisation["detail"]["affectedAccount"] = json!(MEMBER);
    assert_eq!(one(&organisation).unwrap().account.as_str(), MEMBER);

    let item = |check: &str, status: &str, detail: Value, resource: &str| {
        event(
            "aws.trustedadvisor",
            "Trusted Advisor Check Item Refresh Notification",
            json!({
                "check-name": check, "check-item-detail": detail, "status": status, "resource_id": resource,
                "uuid": "aa12345f-55c7-498e-b7ac-123456781234",
            }),
        )
    };
    let key = |kind: &str| json!({"Access Key ID": "AKIAIOSFODNN7EXAMPLE", "Fraud Type": kind, "Time Updated": "1793698025000"});
    for (kind, severity) in [("Exposed", 9.0), ("Suspected", 7.0), ("", 7.0)] {
        let finding = one(&item("Exposed Access Keys", "ERROR", key(kind), "")).unwrap();
        assert_eq!((finding.severity, finding.resources[0].kind()), (severity, "iam-access-key"));
        assert_eq!(finding.last_seen.unwrap().to_string(), "2026-11-03T09:27:05Z");
    }
    assert_eq!(away(&item("Exposed Access Keys", "OK", key("Exposed"), "")), Some("passed"));
    assert!(one(&item("Exposed Access Keys", "ERROR", json!({}), "")).is_err());
    assert!(one(&item("Exposed Access Keys", "BAD", key("Exposed"), "")).is_err());
    let volume = one(&item(
        "Underutilized Amazon EBS Volumes",
        "WARN",
        json!({}),
        "arn:aws:ec2:us-east-1:222222222222:volume/vol-0a1b2c3d",
    ))
    .unwrap();
    assert_eq!(volume.resources[0].kind(), "other");
    let stranger = item("Idle", "WARN", json!({}), "arn:aws:ec2:us-east-1:333333333333:instance/i-0a1b2c3d");
    assert_eq!(away(&stranger), Some("other-account"));
}

#[test]
fn the_states_of_the_other_sources_are_known() {
    let analyzer = json!({"accountId": MEMBER, "id": "a1", "region": "eu-west-1", "resource": "arn:aws:s3:::shop-invoices",
        "resourceType": "AWS::S3::Bucket", "status": "ACTIVE", "isDeleted": false, "isPublic": true});
    let macie = json!({"accountId": MEMBER, "id": "m1", "region": "eu-west-1", "partition": "aws", "sample": false,
        "type": "Policy:IAMUser/S3BucketPublic", "severity": {"score": 3, "description": "High"}, "archived": false,
        "resourcesAffected": {"s3Bucket": {"arn": "arn:aws:s3:::shop-invoices", "name": "shop-invoices"}}});
    let inspector = json!({"awsAccountId": MEMBER, "findingArn": "arn:aws:inspector2:eu-west-1:222222222222:finding/0ab1",
        "type": "NETWORK_REACHABILITY", "severity": "MEDIUM", "status": "ACTIVE", "title": "t",
        "firstObservedAt": "Thu Sep 05 13:06:56.334 UTC 2024", "resources": [{"id": "i-0a1b2c3d", "type": "AWS_EC2_INSTANCE"}]});
    for (base, pointer, value, word) in [
        (&analyzer, "/status", json!("ARCHIVED"), "archived"),
        (&analyzer, "/status", json!("RESOLVED"), "resolved"),
        (&analyzer, "/isDeleted", json!(true), "archived"),
        (&analyzer, "/error", json!("ACCESS_DENIED"), "not-evaluated"),
        (&analyzer, "/resourceOwnerAccount", json!("333333333333"), "other-account"),
        (&macie, "/archived", json!(true), "archived"),
        (&macie, "/sample", json!(true), "sample"),
        (&inspector, "/status", json!("SUPPRESSED"), "suppressed"),
        (&inspector, "/status", json!("CLOSED"), "resolved"),
        (
            &inspector,
            "/resources/0/id",
            json!("arn:aws:ec2:eu-west-1:333333333333:instance/i-0a1b2c3d"),
            "other-account",
        ),
    ] {
        assert_eq!(away(base), None);
        assert_eq!(away(&with(base, pointer, value.clone())), Some(word), "{pointer} {value}");
    }
    for (base, pointer, value) in [
        (&analyzer, "/status", json!("OPEN")),
        (&analyzer, "/resource", json!("arn:aws:s3:::a/b")),
        (&macie, "/severity/description", json!("Huge")),
        (&macie, "/partition", json!("aws-cn")),
        (&inspector, "/status", json!("OPEN")),
        (&inspector, "/findingArn", json!("arn:aws:inspector2:eu-west-1:333333333333:finding/0ab1")),
        (&inspector, "/severity", json!("9.8")),
    ] {
        assert!(one(&with(base, pointer, value)).is_err(), "{pointer}");
    }
    assert_eq!(one(&analyzer).unwrap().finding_type, "ExternalAccess");
    assert_eq!(one(&macie).unwrap().severity, 7.0);
    let finding = one(&inspector).unwrap();
    assert_eq!((finding.severity, finding.instances.len()), (4.0, 1));
    assert_eq!(finding.first_seen.unwrap().to_string(), "2024-09-05T13:06:56.334Z");
}

/// A row that was written before a field existed is read as one that does not say it.
#[test]
fn rows_of_older_versions_are_still_read() {
    let old = json!({
        "source": "guardduty", "id": "0ab1", "arn": null, "finding_type": "Backdoor:EC2/C&CActivity.B", "severity": 8.0,
        "account": MEMBER, "region": "eu-west-1", "partition": "aws", "sample": false, "state": "active",
        "first_seen": null, "last_seen": "2026-11-03T09:27:05Z", "count": 3, "detector_id": "d1", "role": "actor",
        "resource_type": "Instance", "instances": ["i-0a1b2c3d4e5f60718"], "title": "t",
    });
    let finding: Finding = serde_json::from_value(old).unwrap();
    assert!(finding.resources.is_empty() && finding.control.is_none() && finding.request.is_none());
    assert_eq!(finding.instances.len(), 1);
}

#[test]
fn a_type_of_guardduty_means_nothing_in_the_mouth_of_another() {
    let mut control = failed_control();
    control["Types"] = json!(["Backdoor:EC2/C&CActivity.B"]);
    let finding = one(&control).unwrap();
    assert_eq!(finding.source, Source::SecurityHub);
    assert!(unanswered_source(&finding).contains("control of Security Hub"));
    for source in Source::ALL {
        let of = Finding { source, ..finding.clone() };
        let why = unanswered_source(&of);
        assert!(why.is_ascii() && why.len() < 200 && !why.ends_with('.'), "{why}");
        assert_eq!(serde_json::to_value(source).unwrap(), source.as_str());
    }
}

/// JSON made of the field names that are read and of values that are nearly right.
fn arbitrary_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "source",
        "detail-type",
        "detail",
        "account",
        "accountId",
        "AccountId",
        "id",
        "Id",
        "type",
        "Type",
        "severity",
        "region",
        "partition",
        "arn",
        "resource",
        "service",
        "Findings",
        "findings",
        "instanceDetails",
        "instanceId",
        "additionalInfo",
        "value",
        "sample",
        "detection",
        "sequence",
        "resources",
        "uid",
        "resourceType",
        "data",
        "ec2Instance",
        "ec2NetworkInterfaceUids",
        "ec2InstanceUids",
        "ec2Vpc",
        "eventLastSeen",
        "count",
        "title",
        "archived",
        "ProductArn",
        "AwsAccountId",
        "Region",
        "Types",
        "Severity",
        "Label",
        "Normalized",
        "Product",
        "Resources",
        "Compliance",
        "Status",
        "SecurityControlId",
        "Workflow",
        "RecordState",
        "ProductFields",
        "FindingProviderFields",
        "actionName",
        "class_uid",
        "finding_info",
        "metadata",
        "product",
        "cloud",
        "severity_id",
        "status_id",
        "types",
        "awsAccountId",
        "awsRegion",
        "configRuleName",
        "configRuleARN",
        "messageType",
        "newEvaluationResult",
        "complianceType",
        "resourceId",
        "eventArn",
        "eventTypeCode",
        "affectedEntities",
        "entityValue",
        "check-name",
        "check-item-detail",
        "Access Key ID",
        "status",
        "resource_id",
        "uuid",
        "resourcesAffected",
        "s3Bucket",
        "name",
        "findingArn",
        "description",
        "isDeleted",
        "s3BucketDetails",
        "signals",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "aws.guardduty",
            "GuardDuty Finding",
            "aws.securityhub",
            "Security Hub Findings - Imported",
            "Security Hub Findings - Custom Action",
            "Findings Imported V2",
            "aws.config",
            "Config Rules Compliance Change",
            "aws.health",
            "AWS Health Event",
            "aws.trustedadvisor",
            "Trusted Advisor Check Item Refresh Notification",
            "aws.access-analyzer",
            "Access Analyzer Finding",
            "aws.macie",
            "Macie Finding",
            "aws.inspector2",
            "Inspector2 Finding",
            "222222222222",
            "eu-west-1",
            "aws",
            "i-99999999",
            "i-0a1b2c3d4e5f60718",
            "EC2_INSTANCE",
            "EC2_NETWORK_INTERFACE",
            "{\"sample\":true}",
            "{",
            "arn:aws:ec2:::",
            "9e99",
            "[SAMPLE] é",
            "arn:aws:securityhub:eu-west-1::product/aws/guardduty",
            "arn:aws:securityhub:eu-west-1::product/aws/securityhub",
            "arn:aws:guardduty:eu-west-1:222222222222:detector/d1/finding/0ab1",
            "TTPs/Discovery/Recon:EC2-Portscan",
            "AwsS3Bucket",
            "AWS::S3::Bucket",
            "arn:aws:s3:::shop",
            "AwsIamUser",
            "arn:aws:iam::222222222222:user/a/b",
            "AKIAIOSFODNN7EXAMPLE",
            "AwsIamAccessKey",
            "FAILED",
            "HIGH",
            "NON_COMPLIANT",
            "ComplianceChangeNotification",
            "AWS_RISK_CREDENTIALS_EXPOSED",
            "Exposed Access Keys",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// The files under `events/`, those that are JSON.
fn our_events() -> Vec<Value> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            paths.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    paths.sort();
    let events: Vec<Value> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).ok())
        .collect();
    assert!(events.len() > 50, "{} events", events.len());
    events
}

/// Replaces the `nth` value of a document, counted in depth-first order.
fn replace_nth(value: &mut Value, nth: &mut usize, new: &Value) {
    if *nth == 0 {
        *value = new.clone();
    }
    *nth = nth.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace_nth(item, nth, new)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace_nth(field, nth, new)),
        _ => {}
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// What holds for any document at all: it is read or refused in plain words; what is read can be stored and read back,
/// which checks every id in it again; and what may be acted on under it is the finding's own.
fn check(bytes: &[u8]) {
    let plain = |error: &ParseError| {
        let shown = error.to_string();
        assert!(shown.chars().all(|c| !c.is_control()) && shown.len() < 4000, "{shown:?}");
    };
    let reported = match Trigger::parse(bytes) {
        Err(error) => return plain(&error),
        Ok(Trigger::Schedule | Trigger::Decision { .. } | Trigger::Drill { .. }) => return,
        Ok(Trigger::Findings(reported)) => reported,
    };
    assert!(!reported.findings.is_empty());
    for finding in reported.findings {
        let finding = match finding {
            Err(error) => {
                plain(&error);
                continue;
            }
            Ok(finding) => finding,
        };
        let stored = serde_json::to_string(&finding).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&stored).unwrap(), finding);
        assert!((0.0..=10.0).contains(&finding.severity));
        assert_eq!(finding.region.partition(), finding.partition);
        assert_eq!(finding.request.is_some(), reported.kind == Kind::SecurityHubCustomAction);
        for resource in &finding.resources {
            assert!(
                resource
                    .region
                    .as_ref()
                    .is_none_or(|region| resource.kind() == "other" || region.partition() == finding.partition)
            );
            assert!(resource.name().chars().all(|c| !c.is_control()), "{resource:?}");
        }
        let away = screen(&finding, reported.envelope_account.as_ref(), None);
        match &away {
            None => {
                assert!(!finding.sample && finding.state.is_live());
                assert!(!matches!(finding.product, Some(Product::Foreign(_))));
                assert!(finding.resources.iter().all(|resource| resource.account == finding.account));
            }
            Some(TurnedAway::NotLive(state, _)) => assert!(!state.is_live()),
            Some(_) => {}
        }
        if finding.source == Source::GuardDuty {
            assert!(!matches!(away, Some(TurnedAway::OtherAccount { .. })));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_json_makes_it_panic(document in arbitrary_json()) {
        check(document.to_string().as_bytes());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        check(&bytes);
    }

    #[test]
    fn no_changed_byte_of_a_real_event_makes_it_panic(
        event in prop::sample::select(our_events()), place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = event.to_string().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        check(&bytes);
        bytes.truncate(place);
        check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_to_a_real_event_makes_it_panic(
        event in prop::sample::select(our_events()), place in any::<prop::sample::Index>(), new in arbitrary_json(),
    ) {
        let mut event = event;
        let mut nth = place.index(size(&event));
        replace_nth(&mut event, &mut nth, &new);
        check(event.to_string().as_bytes());
    }
}
