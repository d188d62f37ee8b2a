//! Makes one X.509 signing certificate of a user inactive: some old APIs take what is signed with it.
//!
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateSigningCertificate.html>

use aws_sdk_iam::types::SigningCertificate;
use serde::{Deserialize, Serialize};

use super::{Status, status_of, user_arns};
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::{CredentialId, UserName};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes a signing certificate inactive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeactivateSigningCertificate {
    /// Whose it is.
    pub user: UserName,
    /// Its id.
    pub id: CredentialId,
}

impl Action for DeactivateSigningCertificate {
    const NAME: &'static str = "iam.deactivate-signing-certificate";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("iam:ListSigningCertificates", &["iam::*:user/*"]),
        Permission::on("iam:UpdateSigningCertificate", &["iam::*:user/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    type State = Status;

    fn subject(&self) -> String {
        format!("{} {}", self.user, self.id)
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("signing certificate {} of {}", self.id, self.user),
            from: before.words().to_owned(),
            to: Status::Inactive.words().to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("iam:UpdateSigningCertificate", user_arns(aws, &self.user))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let Some(found) = gone_is_none(certificates_of(cx.aws, &self.user).await)? else { return Ok(None) };
        let found = found.iter().find(|one| Some(one.certificate_id()) == Some(self.id.as_str()));
        found.map(|one| status_of(Some(one.status()), self.id.as_str())).transpose()
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Status::Inactive)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let call = cx.aws.iam().update_signing_certificate().user_name(self.user.as_str());
        let call = call.certificate_id(self.id.as_str()).status(to.as_aws());
        call.send().await.map_err(Failure::from_sdk("set the status of signing certificate", &self.id))?;
        Ok(Set::Done)
    }

    fn satisfied(&self, now: &Self::State, wanted: &Self::State) -> bool {
        // What has expired does not work either, and cannot be made inactive.
        now == wanted || (*wanted == Status::Inactive && *now == Status::Expired)
    }
}

/// The signing certificates of a user.
pub async fn certificates_of(aws: &Aws, user: &UserName) -> Result<Vec<SigningCertificate>, Failure> {
    let pages = aws.iam().list_signing_certificates().user_name(user.as_str()).into_paginator().items().send();
    pages.try_collect().await.map_err(Failure::from_sdk("list the signing certificates of", user))
}
