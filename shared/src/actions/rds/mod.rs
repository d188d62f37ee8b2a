//! Actions on Amazon RDS.

pub mod unshare_db_cluster_snapshot;
pub mod unshare_db_snapshot;

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

fn change(what: String, before: bool) -> Change {
    let words = |public: bool| if public { "public: everybody may restore it" } else { "not public" };
    Change { what, from: words(before).to_owned(), to: words(false).to_owned() }
}
