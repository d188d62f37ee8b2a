//! Actions on Amazon RDS.

pub mod unshare_db_cluster_snapshot;
pub mod unshare_db_snapshot;

use aws_smithy_types::DateTime;
use serde::{Deserialize, Serialize};

use crate::plan::Change;

/// The attribute that says who may restore a snapshot.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBSnapshotAttribute.html>
const RESTORE: &str = "restore";

/// Everybody who has an AWS account.
const ALL: &str = "all";

/// Who may restore a snapshot, beside the account that owns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shared {
    /// Everybody.
    pub public: bool,
    /// Accounts by name.
    pub accounts: Vec<String>,
}

impl Shared {
    fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut shared = Self::default();
        for value in values {
            if value == ALL {
                shared.public = true;
            } else {
                shared.accounts.push(value.to_owned());
            }
        }
        shared
    }
}

/// Whether a snapshot is public. Its name is its owner's to give, and to give again: one that was made since is another, and
/// an undo must not publish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publicity {
    /// Everybody may restore it.
    pub public: bool,
    /// When it was made, in seconds since 1970.
    pub made: Option<i64>,
}

impl Publicity {
    fn of(shared: &Shared, made: Option<&DateTime>) -> Self {
        Self { public: shared.public, made: made.map(DateTime::secs) }
    }

    fn private(&self) -> Self {
        Self { public: false, made: self.made }
    }
}

fn change(what: String, before: &Publicity) -> Change {
    let words = |public: bool| if public { "public: everybody may restore it" } else { "not public" };
    Change { what, from: words(before.public).to_owned(), to: words(false).to_owned() }
}
