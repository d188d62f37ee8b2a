//! The stop switch: a row of the decisions' table, so that people's door alone can set it and take it back, and no function
//! that it stops. It is data, not configuration: a deployment does not touch it.

use jiff::Timestamp;

use super::items::{self, Item, n, s, text};
use super::{Ledger, decisions::MOST_NAMES};
use crate::door::wire::LONGEST_REASON;
use crate::failure::Failure;
use crate::text::plain;

/// The row's key. No event can carry it as a decision's id.
pub const STOP: &str = "STOP#all";

/// How what is said of a stop begins.
pub const STOPPED: &str = "Firebreak is stopped";

/// What the row says when nothing is stopped. Whatever else it says, everything is.
const LIFTED: &str = "lifted";

/// That everything is stopped: every function observes and changes nothing, but for undoing what a person undoes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Who stopped it, as AWS names the caller.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// Since when, where the row says so.
    pub since: Option<Timestamp>,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{STOPPED} by {}", crate::report::names(&self.by))?;
        if let Some(since) = self.since {
            write!(f, " since {}", since.strftime("%Y-%m-%d %H:%M UTC"))?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Reads the row. One that a person wrote by other means than the door may lack all but the key.
fn read(item: &Item) -> Option<Stopped> {
    if text(item, "state").as_deref() == Some(LIFTED) {
        return None;
    }
    let said = |key: &str, most: usize| {
        text(item, key).map(|text| plain(&text, most)).filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
    };
    Some(Stopped { by: said("by", MOST_NAMES), why: said("why", LONGEST_REASON), since: items::timestamp(item, "at") })
}

impl Ledger {
    /// Whether everything is stopped, read consistently.
    ///
    /// # Errors
    /// When the table cannot be read. Whoever asks must not act then.
    pub async fn stopped(&self) -> Result<Option<Stopped>, Failure> {
        Ok(self.switch().await?.as_ref().and_then(read))
    }

    /// When the switch was set last, either way; nothing where it never was.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn last_switched(&self) -> Result<Option<Timestamp>, Failure> {
        Ok(self.switch().await?.as_ref().and_then(|item| items::timestamp(item, "at")))
    }

    async fn switch(&self) -> Result<Option<Item>, Failure> {
        let asked = self.client.get_item().table_name(&self.decisions).key("id", s(STOP)).consistent_read(true);
        asked.send().await.map(|answer| answer.item).map_err(Failure::from_sdk("read the switch", STOP))
    }

    /// Stops everything, or takes that back. What stood there before is replaced: who says it last says it.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn set_stopped(&self, stop: bool, by: &str, why: &str, now: Timestamp) -> Result<(), Failure> {
        let put = self
            .client
            .put_item()
            .table_name(&self.decisions)
            .item("id", s(STOP))
            .item("state", s(if stop { "stopped" } else { LIFTED }))
            .item("by", s(plain(by, MOST_NAMES)))
            .item("why", s(plain(why, LONGEST_REASON)))
            .item("at", n(now.as_millisecond()));
        put.send().await.map(|_| ()).map_err(Failure::from_sdk("set the switch", STOP))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn row(pairs: &[(&str, &str)]) -> Item {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), s(*value))).collect()
    }

    #[test]
    fn whatever_the_row_says_everything_is_stopped_unless_it_says_that_nothing_is() {
        let bare = read(&row(&[("id", STOP)])).unwrap();
        assert_eq!(bare.to_string(), "Firebreak is stopped by ?: ?");
        assert!(read(&row(&[("state", "Lifted")])).is_some());
        assert!(read(&row(&[("state", "lifted"), ("by", "ann")])).is_none());
        let mut whole =
            row(&[("state", "stopped"), ("by", "arn:aws:iam::111111111111:user/ann"), ("why", "a\u{1b}[31m")]);
        whole.insert("at".to_owned(), n(1_700_000_000_000_u64));
        let said = read(&whole).unwrap().to_string();
        assert!(said.contains("since 2023-11-14 22:13 UTC") && !said.contains('\u{1b}'), "{said}");
    }
}
