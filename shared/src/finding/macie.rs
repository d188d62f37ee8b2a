//! Amazon Macie: `Macie Finding`, about a bucket's policy or about what lies in an object.
//!
//! The fields are those of the Macie API's `Finding`.
//! <https://docs.aws.amazon.com/macie/latest/user/findings-publish-event-schemas.html>

use super::json::{At, ParseError, Problem};
use super::resource::{self, Said};
use super::{Finding, Source, State, severity};
use crate::ids::{AccountId, FindingId, Partition, Region};

pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = at.field("accountId")?.required(At::id)?;
    let id: FindingId = at.field("id")?.required(At::id)?;
    let region_at = at.field("region")?;
    let region: Region =
        region_at.id()?.or_else(|| envelope_region.cloned()).ok_or_else(|| region_at.error(Problem::Missing))?;
    let partition_at = at.field("partition")?;
    if let Some(partition) = partition_at.id::<Partition>()? {
        partition_at.must_say(partition.as_str(), "the Region", region.partition().as_str())?;
    }
    let finding_type = at.field("type")?.required(|at| at.word("a finding type"))?;
    // Macie's score is 1, 2 or 3, which is no scale: the word is.
    let severity = severity::word(&at.down(&["severity", "description"])?)?;

    let mut finding = Finding {
        sample: at.field("sample")?.flag(),
        state: if at.field("archived")?.flag() { State::Archived } else { State::Active },
        first_seen: at.field("createdAt")?.time(),
        last_seen: at.field("updatedAt")?.time(),
        count: at.field("count")?.count(),
        resource_type: "S3Bucket".to_owned(),
        title: at.field("title")?.text()?.unwrap_or_default().to_owned(),
        ..Finding::new(Source::Macie, id, finding_type, severity, account, region)
    };
    let bucket = at.down(&["resourcesAffected", "s3Bucket"])?;
    let (arn, name) = (bucket.field("arn")?, bucket.field("name")?);
    let which = if arn.is_absent() { name } else { arn };
    if !which.is_absent() {
        let named = resource::read("AWS::S3::Bucket", &which, finding.place(), Said::default());
        finding.name(named)?;
    }
    Ok(finding)
}
