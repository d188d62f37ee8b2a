//! What both fixes of CloudTrail read.

use std::collections::BTreeMap;

use aws_sdk_cloudtrail::types::Trail;
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Resource, ResourceId};
use firebreak::ids::TrailName;
use firebreak::target::Target;

/// The target that a resource is, where it is a trail.
pub(crate) fn target(resource: &Resource) -> Option<Target> {
    match (&resource.id, &resource.region) {
        (ResourceId::Trail(name), Some(home)) => {
            Some(Target::trail(resource.account.clone(), home.clone(), name.clone()))
        }
        _ => None,
    }
}

/// The trails that are seen in the session's Region, by name: also those whose home is another Region and that record here,
/// and the organization's.
pub(crate) async fn seen(aws: &Aws) -> Result<Vec<(TrailName, Trail)>, Failure> {
    let answer = aws.cloudtrail().describe_trails().include_shadow_trails(true).send().await;
    let answer = answer.map_err(Failure::from_sdk("list the trails of", &aws.account))?;
    let found = answer.trail_list.unwrap_or_default().into_iter();
    let mut found: Vec<(TrailName, Trail)> =
        found.filter_map(|trail| Some((trail.name()?.parse().ok()?, trail))).collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// Whether it is the account's own, and not the organization's, which its management account alone can change.
pub(crate) fn is_own(trail: &Trail, aws: &Aws) -> bool {
    let owner = trail.trail_arn().and_then(|arn| arn.split(':').nth(4));
    owner == Some(aws.account.as_str()) && !trail.is_organization_trail().unwrap_or_default()
}

/// Whether it is the trail of this name that the account itself has made in the session's Region, where alone it can be changed.
pub(crate) fn is_at_home(name: &TrailName, (found, trail): &(TrailName, Trail), aws: &Aws) -> bool {
    found == name && is_own(trail, aws) && trail.home_region() == Some(aws.region.as_str())
}

/// The tags of a trail; nothing when it is gone.
pub(crate) async fn tags_of(aws: &Aws, trail: &TrailName) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let arn = aws.arn("cloudtrail", &format!("trail/{trail}"));
    let answer = aws.cloudtrail().list_tags().resource_id_list(arn).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("read the tags of trail", trail)))?;
    Ok(answer.map(|answer| {
        let tags = answer.resource_tag_list.unwrap_or_default().into_iter();
        let tags = tags.flat_map(|one| one.tags_list.unwrap_or_default());
        tags.map(|tag| (tag.key, tag.value.unwrap_or_default())).collect()
    }))
}
