//! Makes one service-specific credential of a user inactive: a password for CodeCommit or Keyspaces, a key for Bedrock.
//!
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateServiceSpecificCredential.html>

use aws_sdk_iam::types::ServiceSpecificCredentialMetadata;
use serde::{Deserialize, Serialize};

use super::{Status, status_of, user_arns};
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::{CredentialId, UserName};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes a service credential inactive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeactivateServiceCredential {
    /// Whose it is.
    pub user: UserName,
    /// Its id.
    pub id: CredentialId,
}

impl Action for DeactivateServiceCredential {
    const NAME: &'static str = "iam.deactivate-service-credential";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("iam:ListServiceSpecificCredentials", &["iam::*:user/*"]),
        Permission::on("iam:UpdateServiceSpecificCredential", &["iam::*:user/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    type State = Status;

    fn subject(&self) -> String {
        format!("{} {}", self.user, self.id)
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("service credential {} of {}", self.id, self.user),
            from: before.words().to_owned(),
            to: Status::Inactive.words().to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("iam:UpdateServiceSpecificCredential", user_arns(aws, &self.user))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let Some(found) = gone_is_none(credentials_of(cx.aws, &self.user).await)? else { return Ok(None) };
        let found = found.iter().find(|one| Some(one.service_specific_credential_id()) == Some(self.id.as_str()));
        found.map(|one| status_of(Some(one.status()), self.id.as_str())).transpose()
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Status::Inactive)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let call = cx.aws.iam().update_service_specific_credential().user_name(self.user.as_str());
        let call = call.service_specific_credential_id(self.id.as_str()).status(to.as_aws());
        call.send().await.map_err(Failure::from_sdk("set the status of service credential", &self.id))?;
        Ok(Set::Done)
    }

    fn satisfied(&self, now: &Self::State, wanted: &Self::State) -> bool {
        // What has expired does not work either, and cannot be made inactive.
        now == wanted || (*wanted == Status::Inactive && *now == Status::Expired)
    }
}

/// The service-specific credentials of a user, of every service.
pub async fn credentials_of(aws: &Aws, user: &UserName) -> Result<Vec<ServiceSpecificCredentialMetadata>, Failure> {
    let mut found = Vec::new();
    let mut marker = None;
    loop {
        let call = aws.iam().list_service_specific_credentials().user_name(user.as_str()).set_marker(marker.take());
        let answer = call.send().await.map_err(Failure::from_sdk("list the service credentials of", user))?;
        found.extend(answer.service_specific_credentials.unwrap_or_default());
        marker = answer.marker.filter(|_| answer.is_truncated);
        if marker.is_none() {
            return Ok(found);
        }
    }
}
