//! Replaces an instance's profile by one whose role may do nothing, in one call, so that there is no
//! moment without and no race with whoever associates another.
//!
//! It ends everything on the instance that uses the role, SSM among it, and so wants its own leave.
//! Credentials that were handed out before stay valid: to end them is contain-identity's work.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceIamInstanceProfileAssociation.html>

use aws_sdk_ec2::types::{
    IamInstanceProfileAssociation, IamInstanceProfileAssociationState as AssociationState,
    IamInstanceProfileSpecification,
};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::InstanceId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Leave, Undo};
use crate::text::plain;

/// Gives an instance the profile without access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceInstanceProfile {
    /// The instance.
    pub instance: InstanceId,
    /// The ARN of the profile without access.
    pub profile_arn: String,
}

/// The profile without access, as the member template makes it.
pub const NO_ACCESS_PROFILE: &str = "instance-profile/firebreak/firebreak-no-access";
/// The role of that profile.
pub const NO_ACCESS_ROLE: &str = "role/firebreak/no-access";

impl Action for ReplaceInstanceProfile {
    const NAME: &'static str = "ec2.replace-instance-profile";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeIamInstanceProfileAssociations"),
        Permission::on("ec2:ReplaceIamInstanceProfileAssociation", &["ec2:*:*:instance/*"]),
        Permission::on("iam:PassRole", &["iam::*:role/firebreak/no-access"])
            .when("iam:PassedToService", "ec2.amazonaws.com"),
    ];
    const UNDO: Undo = Undo::Never {
        why: "to give a role back needs iam:PassRole on it, which Firebreak does not hold; a person associates it again",
    };
    const LEAVE: Option<Leave> = Some(Leave::ReplaceInstanceProfile);
    /// The profile's ARN.
    type State = String;

    fn subject(&self) -> String {
        self.instance.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("instance profile of {}", self.instance),
            from: plain(before, 256),
            to: self.profile_arn.clone(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let instance = aws.arn("ec2", &format!("instance/{}", self.instance));
        vec![
            Grant::new("ec2:ReplaceIamInstanceProfileAssociation", [instance]),
            Grant::new("iam:PassRole", [aws.iam_arn(NO_ACCESS_ROLE)]),
        ]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(association(cx.aws, &self.instance).await?.as_ref().and_then(profile_of))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(self.profile_arn.clone())
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let now = association(cx.aws, &self.instance).await?;
        let Some(id) = now.as_ref().and_then(|association| association.association_id()) else {
            return Err(Failure::new(Class::Gone, "find the instance profile of", self.instance.to_string()));
        };
        let call = cx.aws.ec2().replace_iam_instance_profile_association().association_id(id);
        let call = call.iam_instance_profile(IamInstanceProfileSpecification::builder().arn(to).build());
        call.send().await.map_err(Failure::from_sdk("replace the instance profile of", &self.instance))?;
        Ok(Set::Done)
    }
}

/// The association of an instance with its profile; none when it has no profile.
pub async fn association(aws: &Aws, instance: &InstanceId) -> Result<Option<IamInstanceProfileAssociation>, Failure> {
    let call = aws.ec2().describe_iam_instance_profile_associations();
    let call = call.filters(super::filter("instance-id", instance.as_str()));
    let answer = call.send().await.map_err(Failure::from_sdk("describe the instance profile of", instance))?;
    let live = |found: &IamInstanceProfileAssociation| {
        matches!(found.state(), Some(AssociationState::Associated | AssociationState::Associating))
    };
    Ok(answer.iam_instance_profile_associations.unwrap_or_default().into_iter().find(live))
}

/// The profile's ARN in an association.
pub fn profile_of(association: &IamInstanceProfileAssociation) -> Option<String> {
    association.iam_instance_profile().and_then(|profile| profile.arn()).map(str::to_owned)
}
