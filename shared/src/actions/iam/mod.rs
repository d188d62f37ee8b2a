//! Actions on AWS Identity and Access Management, which is global: an account has one.

pub mod attach_deny_policy;
pub mod deactivate_access_key;
pub mod deactivate_service_credential;
pub mod deactivate_signing_certificate;
pub mod deactivate_ssh_key;
pub mod retire_access_key;
pub mod revoke_sessions;

use aws_sdk_iam::types::{StatusType, User};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{RoleName, UserId, UserName};

/// Whether a credential works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It does.
    Active,
    /// It was switched off.
    Inactive,
    /// It has ended by itself.
    Expired,
}

impl Status {
    /// The status as AWS writes it; nothing for a word that it has not used so far.
    pub fn of(status: &StatusType) -> Option<Self> {
        match status {
            StatusType::Active => Some(Self::Active),
            StatusType::Inactive => Some(Self::Inactive),
            StatusType::Expired => Some(Self::Expired),
            _ => None,
        }
    }

    /// The status in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Expired => "expired",
        }
    }

    fn as_aws(self) -> StatusType {
        match self {
            Self::Active => StatusType::Active,
            Self::Inactive => StatusType::Inactive,
            Self::Expired => StatusType::Expired,
        }
    }
}

/// The status in an answer about `what`.
fn status_of(status: Option<&StatusType>, what: &str) -> Result<Status, Failure> {
    status.and_then(Status::of).ok_or_else(|| Failure::new(Class::Bug, "read the status of", what))
}

/// The name that the user with this unique id has now; nothing when there is none.
pub async fn name_of(aws: &Aws, id: &UserId) -> Result<Option<UserName>, Failure> {
    let pages = aws.iam().list_users().max_items(1000).into_paginator().items().send();
    let users: Vec<User> = pages.try_collect().await.map_err(Failure::from_sdk("look for user", id))?;
    Ok(users.iter().find(|user| user.user_id() == id.as_str()).and_then(|user| user.user_name().parse().ok()))
}

/// The ARNs that a user of this name can have. Names are unique in an account whatever the path, which can be changed.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-friendly-names>
fn user_arns(aws: &Aws, user: &UserName) -> [String; 2] {
    [aws.iam_arn(&format!("user/{user}")), aws.iam_arn(&format!("user/*/{user}"))]
}

/// The ARNs that a role of this name can have.
fn role_arns(aws: &Aws, role: &RoleName) -> [String; 2] {
    [aws.iam_arn(&format!("role/{role}")), aws.iam_arn(&format!("role/*/{role}"))]
}

/// A policy document as IAM answers with it: JSON, percent-encoded (RFC 3986).
pub fn document(encoded: &str) -> String {
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}
