//! Security Hub's findings in the AWS Security Finding Format, from each product that imports them.
//!
//! Workflow status, severity and types can be written by the member account (`BatchUpdateFindings`), so they make the
//! answer stricter at most: where the product's own word is kept beside them, the lower severity and the product's
//! type count. `Id`, `ProductArn`, `AwsAccountId`, `Resources`, `Compliance` and `ProductFields` cannot be changed.
//! <https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html>

use std::collections::BTreeMap;

use serde_json::Value;

use super::control::{Compliance, Control};
use super::json::{At, ParseError, Problem};
use super::product::Product;
use super::resource::{self, Resource, ResourceId, Said};
use super::{Finding, Source, State, guardduty, kind_word, severity};
use crate::ids::{AccountId, Arn, FindingId, Partition, Region};
use crate::write_back::RESOLVER;

/// Where ASFF keeps what GuardDuty says of itself, today and before 2020.
const GUARDDUTY: [&str; 2] = ["aws/guardduty/service/", ""];

/// Reads one finding. `envelope_region` stands in where neither the finding nor its product names a Region.
pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let (product, product_region) = Product::of(at.field("ProductArn")?.required(At::text)?);
    let region = product_region.as_ref().or(envelope_region);
    read(at, &product, region).map_err(|error| product.error(error))
}

fn read(at: &At<'_>, product: &Product, other_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = at.field("AwsAccountId")?.required(At::id)?;
    let region_at = at.field("Region")?;
    let region: Region =
        region_at.id()?.or_else(|| other_region.cloned()).ok_or_else(|| region_at.error(Problem::Missing))?;
    let source = product.source();
    let (arn, id, detector_id) = identity(&at.field("Id")?, source, &region, &account)?;
    let compliance = at.down(&["Compliance", "Status"])?.text()?.map(Compliance::of);
    let control = control(at, product, &account, compliance)?;
    let finding_type = finding_type(at, source, control.as_ref())?;
    let fields = at.field("ProductFields")?;
    let own = |name: &str| of_guardduty(fields.value(), name).filter(|_| source == Source::GuardDuty);
    let title = at.field("Title")?.text()?.unwrap_or_default().to_owned();

    let mut finding = Finding {
        arn,
        sample: at.field("Sample")?.flag()
            || (source == Source::GuardDuty && is_sample(&title, fields.value(), &at.field("Resources")?)?),
        state: state(at, product, compliance, own("archived"))?,
        first_seen: text_time(own("eventFirstSeen"))
            .or(at.field("FirstObservedAt")?.time())
            .or(at.field("CreatedAt")?.time()),
        last_seen: text_time(own("eventLastSeen"))
            .or(at.field("LastObservedAt")?.time())
            .or(at.field("UpdatedAt")?.time()),
        count: own("count").and_then(|text| text.parse().ok()),
        detector_id,
        role: guardduty::role(own("resourceRole")),
        direction: guardduty::direction(own("action/networkConnectionAction/connectionDirection")),
        control,
        product: Some(product.clone()),
        title,
        ..Finding::new(source, id, finding_type, severity_of(at, source)?, account, region)
    };
    resources(at, &mut finding)?;
    Ok(finding)
}

/// The finding's ids. One of GuardDuty's has the same as its own event, so that both are one finding.
fn identity(
    at: &At<'_>,
    source: Source,
    region: &Region,
    account: &AccountId,
) -> Result<(Option<Arn>, FindingId, Option<String>), ParseError> {
    if source == Source::GuardDuty {
        let (arn, id, detector) = guardduty::of_arn(at, region, account)?;
        return Ok((Some(arn), id, detector));
    }
    let id: FindingId = at.required(At::id)?;
    let arn: Option<Arn> = id.as_str().parse().ok();
    if let Some(arn) = &arn {
        if let Some(there) = &arn.account {
            at.must_say(there.as_str(), "`AwsAccountId`", account.as_str())?;
        }
        // Of the others an ARN may be of the Region in which the service keeps what is global.
        if let (Source::SecurityHub | Source::Config, Some(there)) = (source, &arn.region) {
            at.must_say(there.as_str(), "`Region`", region.as_str())?;
        }
    }
    Ok((arn, id, None))
}

fn severity_of(at: &At<'_>, source: Source) -> Result<f64, ParseError> {
    let now = severity::asff(&at.field("Severity")?, source == Source::GuardDuty)?;
    let imported = at.down(&["FindingProviderFields", "Severity"])?;
    // Whoever lowers it asks for less, and may; whoever raises it may not.
    Ok(match severity::asff(&imported, false) {
        Ok(imported) if source != Source::GuardDuty => now.min(imported),
        _ => now,
    })
}

fn finding_type(at: &At<'_>, source: Source, control: Option<&Control>) -> Result<String, ParseError> {
    let imported = at.down(&["FindingProviderFields", "Types"])?;
    let types = if imported.is_absent() { at.field("Types")? } else { imported };
    let items = types.items()?;
    if source == Source::GuardDuty {
        let mut named = items.iter().filter_map(|item| guardduty_type(item.value().as_str()?));
        return named.next().ok_or_else(|| types.error(Problem::Missing));
    }
    match (items.first(), control) {
        (Some(first), _) => first.required(|at| at.word("a finding type")),
        (None, Some(control)) => Ok(control.id.clone()),
        (None, None) => Err(types.error(Problem::Missing)),
    }
}

/// GuardDuty's own type of a type in ASFF's taxonomy, `TTPs/Command and Control/Backdoor:EC2-C&CActivity.B!DNS`; or in
/// OCSF's, where it is as GuardDuty writes it.
/// <https://docs.aws.amazon.com/guardduty/latest/ug/securityhub-integration.html#interpreting-findings-in-securityhub>
pub(super) fn guardduty_type(text: &str) -> Option<String> {
    let (before, after) = text.split_once(':')?;
    let purpose = before.rsplit('/').next().unwrap_or(before);
    let (resource, family) =
        after.split_once('/').or_else(|| after.split_once('-')).or_else(|| after.split_once('.'))?;
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
    let all = [purpose, resource, family].into_iter().all(word);
    (all && text.len() <= 256).then(|| format!("{purpose}:{resource}/{family}"))
}

fn control(
    at: &At<'_>,
    product: &Product,
    account: &AccountId,
    compliance: Option<Compliance>,
) -> Result<Option<Control>, ParseError> {
    let Product::Aws(name) = product else { return Ok(None) };
    let fields = at.field("ProductFields")?;
    let (id, rule) = match name.as_str() {
        "securityhub" => (control_id(at, &fields)?, None),
        "config" => {
            let rule_at = fields.key("aws/config/ConfigRuleArn");
            let rule: Option<Arn> = rule_at.id()?;
            if let Some(there) = rule.as_ref().and_then(|arn| arn.account.as_ref()) {
                rule_at.must_say(there.as_str(), "`AwsAccountId`", account.as_str())?;
            }
            (fields.key("aws/config/ConfigRuleName").word("the name of a Config rule")?, rule)
        }
        _ => (None, None),
    };
    let parameters = parameters(&at.down(&["Compliance", "SecurityControlParameters"])?)?;
    let compliance = compliance.unwrap_or(Compliance::Unknown);
    Ok(id.map(|id| Control { id, compliance, rule, check: None, known_as: None, parameters }))
}

/// What a control was evaluated with: names, each with its values.
/// <https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_SecurityControlParameter.html>
fn parameters(at: &At<'_>) -> Result<BTreeMap<String, Vec<String>>, ParseError> {
    let mut found = BTreeMap::new();
    for one in at.items()? {
        let name = one.field("Name")?.required(|at| at.word("the name of a parameter"))?;
        let values = one.field("Value")?.items()?;
        let values = values.iter().map(|value| value.required(|at| at.word("the value of a parameter")));
        found.insert(name, values.collect::<Result<_, _>>()?);
    }
    Ok(found)
}

/// The control's id: Security Hub's own where the account has consolidated controls, else that of the standard. The
/// numbers of CIS say nothing without the standard and its version, which stand in `GeneratorId`.
fn control_id(at: &At<'_>, fields: &At<'_>) -> Result<Option<String>, ParseError> {
    let expected = "a control";
    if let Some(id) = at.down(&["Compliance", "SecurityControlId"])?.word(expected)? {
        return Ok(Some(id));
    }
    if let Some(id) = fields.key("ControlId").word(expected)?
        && id.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
    {
        return Ok(Some(id));
    }
    let generator = at.field("GeneratorId")?.word(expected)?;
    Ok(generator.map(|generator| {
        let rule = generator.rsplit(":ruleset/").next().unwrap_or(&generator);
        let rule = rule.strip_prefix("security-control/").unwrap_or(rule);
        rule.replace("/rule/", "/")
    }))
}

/// The strictest of what the record, the workflow and the control say.
fn state(
    at: &At<'_>,
    product: &Product,
    compliance: Option<Compliance>,
    archived: Option<&str>,
) -> Result<State, ParseError> {
    let unknown =
        |at: &At<'_>, expected, found: &str| Err(at.error(Problem::Expected { expected, found: found.to_owned() }));
    let record = at.field("RecordState")?;
    match record.text()? {
        Some("ARCHIVED") => return Ok(State::Archived),
        None | Some("ACTIVE") if archived.is_some_and(|flag| flag.eq_ignore_ascii_case("true")) => {
            return Ok(State::Archived);
        }
        None | Some("ACTIVE") => {}
        Some(word) => return unknown(&record, "ACTIVE or ARCHIVED", word),
    }
    let status = at.down(&["Workflow", "Status"])?;
    // The older field is kept beside the newer one and says NEW for ever.
    let older = at.field("WorkflowState")?;
    let workflow = match status.text()? {
        Some("NEW") => State::Active,
        Some("NOTIFIED") => State::Notified,
        Some("SUPPRESSED") => State::Suppressed,
        // Fixed by us, and not evaluated since.
        Some("RESOLVED") if at.down(&["Note", "UpdatedBy"])?.value().as_str() == Some(RESOLVER) => State::Notified,
        Some("RESOLVED") => State::Resolved,
        Some(word) => return unknown(&status, "NEW, NOTIFIED, SUPPRESSED or RESOLVED", word),
        None => match older.text()? {
            None | Some("NEW") => State::Active,
            Some("ASSIGNED" | "IN_PROGRESS") => State::Notified,
            Some("DEFERRED") => State::Suppressed,
            Some("RESOLVED") => State::Resolved,
            Some(word) => return unknown(&older, "NEW, ASSIGNED, IN_PROGRESS, DEFERRED or RESOLVED", word),
        },
    };
    if !workflow.is_live() {
        return Ok(workflow);
    }
    let of_config = *product == Product::Aws("config".to_owned());
    let evaluates = of_config || *product == Product::Aws("securityhub".to_owned());
    Ok(match compliance {
        Some(Compliance::Passed) if of_config => State::Compliant,
        Some(Compliance::Passed) => State::Passed,
        Some(Compliance::Unknown) => State::NotEvaluated,
        // A control that does not say that it failed has not.
        None if evaluates => State::NotEvaluated,
        Some(Compliance::Failed) | None => workflow,
    })
}

fn resources(at: &At<'_>, finding: &mut Finding) -> Result<(), ParseError> {
    let items = match at.field("Resources")?.items() {
        Ok(items) => items,
        Err(_) if finding.is_out() => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(first) = items.first() {
        finding.resource_type = kind_word(first.field("Type")?.value().as_str().unwrap_or_default());
    }
    for item in items {
        if finding.source == Source::GuardDuty && item.field("Type")?.value().as_str() == Some("AwsIamAccessKey") {
            identity_of(&item, finding)?;
            continue;
        }
        let named = one(&item, finding);
        take(finding, named)?;
    }
    Ok(())
}

/// Who acted, in a finding of GuardDuty's: read as leniently as in its own.
fn identity_of(item: &At<'_>, finding: &mut Finding) -> Result<(), ParseError> {
    let details = item.down(&["Details", "AwsIamAccessKey"])?;
    let (user, principal) = (details.field("UserName")?, details.field("PrincipalName")?);
    let name = if user.is_absent() { principal } else { user };
    let id = item.field("Id")?;
    let key = id.value().as_str().unwrap_or_default();
    let key = key.strip_prefix("AWS::IAM::AccessKey:").unwrap_or(key);
    if !finding.sample {
        let (user_type, principal) = (details.field("PrincipalType")?, details.field("PrincipalId")?);
        guardduty::identity_of_copy(key, &user_type, &principal, &name, &mut finding.identities);
    }
    Ok(())
}

fn one(item: &At<'_>, finding: &Finding) -> Result<Resource, ParseError> {
    let word = item.field("Type")?.text()?.unwrap_or_default();
    let owner = item.down(&["Details", "AwsS3Bucket", "OwnerAccountId"])?;
    let said = Said {
        account: owner.id().unwrap_or_default(),
        // What is global may have a Region that is none.
        region: item.field("Region")?.id().unwrap_or_default(),
    };
    let mut resource = resource::read(word, &item.field("Id")?, finding.place(), said)?;
    // A user may be named like a unique id. The details know the name.
    let details = item.field("Details")?;
    let name = match &resource.id {
        ResourceId::UserId(id) => details.down(&["AwsIamUser", "UserName"])?.value().as_str() == Some(id.as_str()),
        ResourceId::RoleId(id) => details.down(&["AwsIamRole", "RoleName"])?.value().as_str() == Some(id.as_str()),
        _ => false,
    };
    if name {
        resource.id = match resource.id {
            ResourceId::UserId(id) => ResourceId::User(parsed(item, id.as_str())?),
            ResourceId::RoleId(id) => ResourceId::Role(parsed(item, id.as_str())?),
            other => other,
        };
    }
    Ok(resource)
}

fn parsed<T: std::str::FromStr<Err = crate::ids::InvalidId>>(at: &At<'_>, text: &str) -> Result<T, ParseError> {
    text.parse().map_err(|error: crate::ids::InvalidId| at.error(error))
}

/// Adds what a finding in Security Hub names. What GuardDuty names in another account or Region is kept apart, as in
/// its own findings; in any other finding another account turns it away later, in the screen.
pub(super) fn take(finding: &mut Finding, named: Result<Resource, ParseError>) -> Result<(), ParseError> {
    let resource = match named {
        Ok(resource) => resource,
        Err(error) => return finding.name(Err(error)),
    };
    let here = resource.account == finding.account && resource.region.as_ref() == Some(&finding.region);
    if let ResourceId::Instance(id) = &resource.id {
        if finding.sample && id.as_str() == guardduty::PLACEHOLDER_INSTANCE {
            return Ok(());
        }
        if here {
            if !finding.instances.contains(id) {
                finding.instances.push(id.clone());
            }
        } else if finding.source == Source::GuardDuty {
            let elsewhere = Arn {
                partition: resource.region.as_ref().map_or(Partition::Aws, Region::partition),
                service: "ec2".to_owned(),
                region: resource.region.clone(),
                account: Some(resource.account.clone()),
                resource: format!("instance/{id}"),
            };
            if !finding.elsewhere.contains(&elsewhere) {
                finding.elsewhere.push(elsewhere);
            }
        }
    }
    if finding.source == Source::GuardDuty && resource.account != finding.account {
        return Ok(());
    }
    finding.name(Ok(resource))
}

/// Whether a finding of GuardDuty's is a sample, by the marks that GuardDuty sets or AWS assigns; never by a name from
/// the account.
fn is_sample(title: &str, fields: &Value, resources: &At<'_>) -> Result<bool, ParseError> {
    if title.trim_start().starts_with("[SAMPLE]") {
        return Ok(true);
    }
    let flag = of_guardduty(fields, "additionalInfo/sample").is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
    if flag {
        return Ok(true);
    }
    for name in ["additionalInfo/value", "additionalInfo"] {
        if let Some(text) = of_guardduty(fields, name)
            && guardduty::says_sample(text)?
        {
            return Ok(true);
        }
    }
    for action in guardduty::ACTIONS {
        for place in ["country/countryName", "city/cityName"] {
            let name = format!("action/{action}/remoteIpDetails/{place}");
            if of_guardduty(fields, &name).is_some_and(|text| text.starts_with(guardduty::GENERATED)) {
                return Ok(true);
            }
        }
    }
    for item in resources.items().unwrap_or_default() {
        let id = item.field("Id")?;
        let text = id.value().as_str().unwrap_or_default();
        let last = text.rsplit(['/', ':']).next().unwrap_or_default();
        let assigned = matches!(item.field("Type")?.value().as_str(), Some("AwsEc2Instance" | "AwsIamAccessKey"));
        if assigned && (last == guardduty::PLACEHOLDER_INSTANCE || last.starts_with(guardduty::GENERATED)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A field of GuardDuty's `service`, by its path.
fn of_guardduty<'a>(fields: &'a Value, name: &str) -> Option<&'a str> {
    GUARDDUTY.iter().find_map(|prefix| fields.get(format!("{prefix}{name}"))).and_then(Value::as_str)
}

fn text_time(text: Option<&str>) -> Option<jiff::Timestamp> {
    super::time::read(&Value::from(text?))
}
