//! Security Hub's own word on a finding: fetched again in the security account, in the hub's Region.
//!
//! As the delegated administrator the security account sees the findings of every member there, and in the Region
//! that Security Hub aggregates into those of the other Regions too. Workflow status, severity and types may have
//! been written by the member account since; the product's ARN, the control and the resources cannot be.
//! <https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html>

use aws_sdk_securityhub::types as sh;
use serde_json::{Map, Value, json};

use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::finding::{Finding, Product};

/// Fetches the finding of this id that the same product of AWS's has put in about the same account. Others may have put
/// in a finding of the same id under a product of their own: those are not asked for.
///
/// # Errors
/// When Security Hub cannot be asked.
pub(crate) async fn fetch(hub: &Aws, reported: &Finding) -> Result<Option<Value>, Failure> {
    let Some(Product::Aws(product)) = &reported.product else { return Ok(None) };
    let (partition, region) = (reported.partition, &reported.region);
    let product = format!("arn:{partition}:securityhub:{region}::product/aws/{product}");
    let filters = sh::AwsSecurityFindingFilters::builder()
        .id(equals(reported.id.as_str()))
        .product_arn(equals(&product))
        .aws_account_id(equals(reported.account.as_str()))
        .build();
    let answer = hub
        .securityhub()
        .get_findings()
        .filters(filters)
        .send()
        .await
        .map_err(Failure::from_sdk("fetch finding", &reported.id))?;
    let found = answer.findings.unwrap_or_default();
    let same = |found: &&sh::AwsSecurityFinding| {
        found.id() == Some(reported.id.as_str()) && found.product_arn() == Some(product.as_str())
    };
    Ok(found.iter().find(same).map(as_asff))
}

fn equals(value: &str) -> sh::StringFilter {
    sh::StringFilter::builder().value(value).comparison(sh::StringFilterComparison::Equals).build()
}

/// What our parser reads of a finding, as `GetFindings` prints it: the same strictness as for an event.
fn as_asff(found: &sh::AwsSecurityFinding) -> Value {
    let compliance = found.compliance();
    let severity = found.severity().map(|severity| {
        json!({
            "Product": severity.product(),
            "Label": severity.label().map(|label| label.as_str()),
            "Normalized": severity.normalized(),
            "Original": severity.original(),
        })
    });
    let imported = found.finding_provider_fields().map(|fields| {
        let severity = fields.severity().map(|severity| {
            json!({ "Label": severity.label().map(|label| label.as_str()), "Original": severity.original() })
        });
        json!({ "Severity": severity, "Types": listed(fields.types()) })
    });
    let fields: Map<String, Value> = found
        .product_fields()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    let parameters: Vec<Value> = compliance
        .map(|compliance| compliance.security_control_parameters())
        .unwrap_or_default()
        .iter()
        .map(|one| json!({ "Name": one.name(), "Value": one.value() }))
        .collect();
    let resources: Vec<Value> = found.resources().iter().map(resource).collect();
    json!({
        "AwsAccountId": found.aws_account_id(),
        "Compliance": {
            "Status": compliance.and_then(|c| c.status()).map(|status| status.as_str()),
            "SecurityControlId": compliance.and_then(|c| c.security_control_id()),
            "SecurityControlParameters": parameters,
        },
        "CreatedAt": found.created_at(),
        "FindingProviderFields": imported,
        "FirstObservedAt": found.first_observed_at(),
        "GeneratorId": found.generator_id(),
        "Id": found.id(),
        "LastObservedAt": found.last_observed_at(),
        "Note": { "UpdatedBy": found.note().and_then(|note| note.updated_by()) },
        "ProductArn": found.product_arn(),
        "ProductFields": fields,
        "RecordState": found.record_state().map(|state| state.as_str()),
        "Region": found.region(),
        "Resources": resources,
        "Sample": found.sample(),
        "SchemaVersion": found.schema_version(),
        "Severity": severity,
        "Title": found.title(),
        "Types": listed(found.types()),
        "UpdatedAt": found.updated_at(),
        "Workflow": { "Status": found.workflow().and_then(|w| w.status()).map(|status| status.as_str()) },
        "WorkflowState": found.workflow_state().map(|state| state.as_str()),
    })
}

/// A list, absent where it is empty.
fn listed(items: &[String]) -> Option<&[String]> {
    (!items.is_empty()).then_some(items)
}

fn resource(resource: &sh::Resource) -> Value {
    let details = resource.details();
    json!({
        "Type": resource.r#type(),
        "Id": resource.id(),
        "Region": resource.region(),
        "Details": {
            "AwsS3Bucket": { "OwnerAccountId": details.and_then(|d| d.aws_s3_bucket()).and_then(|b| b.owner_account_id()) },
            "AwsIamUser": { "UserName": details.and_then(|d| d.aws_iam_user()).and_then(|user| user.user_name()) },
            "AwsIamRole": { "RoleName": details.and_then(|d| d.aws_iam_role()).and_then(|role| role.role_name()) },
        },
    })
}
