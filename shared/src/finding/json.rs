//! Reading JSON of unknown shape without losing where one is: every error names its JSON path.

use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;

use super::time;
use crate::ids::InvalidId;
use crate::text::quoted;

/// Why a document, or one finding in it, could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{at}`: {problem}")]
pub struct ParseError {
    /// Where: a JSON path from the root of the document, as in `$.detail.accountId`. Made of our own
    /// field names and indices only, never of keys from the document.
    pub at: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong at a place in a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not JSON at all.
    #[error("not JSON: {what} at line {line}, column {column}")]
    NotJson {
        /// What the JSON reader met.
        what: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// More bytes than any event can have.
    #[error("too large: {bytes} bytes, at most {most} are read")]
    TooLarge {
        /// Size given.
        bytes: usize,
        /// Size accepted.
        most: usize,
    },
    /// A field that must be there is absent, null or empty.
    #[error("missing")]
    Missing,
    /// Something of another JSON type, or outside its range.
    #[error("expected {expected}, found {}", quoted(found))]
    Expected {
        /// What was expected.
        expected: &'static str,
        /// What was found, shortened when shown.
        found: String,
    },
    /// A malformed identifier.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// Two fields that must agree do not.
    #[error("says {}, but {other} says {}", quoted(this), quoted(that))]
    Disagrees {
        /// What stands here.
        this: String,
        /// The field it must agree with.
        other: &'static str,
        /// What stands there.
        that: String,
    },
    /// A finding that no AWS service made, and that cannot be read besides. It would be turned away anyhow, so it
    /// is no fault of ours and nobody is woken: whoever may import findings could write as many as he likes.
    #[error("a finding of {}, which is no AWS service; besides, it cannot be read: {because}", quoted(product))]
    Foreign {
        /// Who made it, as it says.
        product: String,
        /// Why it cannot be read.
        because: String,
    },
    /// A document of a kind that is not read here.
    #[error("not a kind of event that is read here: {seen}; accepted are {ACCEPTED}")]
    UnknownShape {
        /// What was seen, already escaped.
        seen: String,
    },
}

/// What [`super::Trigger::parse`] accepts, for people.
const ACCEPTED: &str = "the EventBridge events of GuardDuty, Security Hub, AWS Config, AWS Health, Trusted Advisor, IAM Access Analyzer, Macie and Inspector that report a finding, most of them also as bare `detail` or as `get-findings` prints them, a scheduled event, and `Firebreak Decision`";

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    value: &'a Value,
    path: String,
}

static NULL: Value = Value::Null;

/// The longest list that is read. What is kept of an item takes hundreds of times the space of the shortest, so that an
/// event full of them would need more memory than a function has. None that is meant is near as long: Security Hub answers
/// with a hundred findings at once (`GetFindings`), of 32 resources each.
const MOST_ITEMS: usize = 5000;

impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: "$".to_owned() }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn error(&self, problem: impl Into<Problem>) -> ParseError {
        ParseError { at: self.path.clone(), problem: problem.into() }
    }

    fn expected(&self, expected: &'static str) -> ParseError {
        let found = match self.value {
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            other => other.to_string(),
        };
        self.error(Problem::Expected { expected, found })
    }

    /// The field `name` (camelCase, as on the wire) of an object. `GetFindings` as the SDKs and the
    /// command line print it writes the same field with a capital, and some senders mix both. Absent,
    /// null, and a field of something that is not an object are all [`At::is_absent`].
    ///
    /// When both spellings are there they must say the same: what we act on cannot hide behind a twin.
    pub(super) fn field(&self, name: &'static str) -> Result<At<'a>, ParseError> {
        let camel = self.value.get(name).filter(|v| !v.is_null());
        let pascal_name = capitalised(name);
        let pascal = self.value.get(&pascal_name).filter(|v| !v.is_null());
        let (value, spelt) = match (camel, pascal) {
            (Some(c), Some(p)) if c != p => {
                let at = At { value: c, path: format!("{}.{name}", self.path) };
                return Err(at.error(Problem::Disagrees {
                    this: shown(c),
                    other: "its twin with a capital letter",
                    that: shown(p),
                }));
            }
            (Some(c), _) => (c, name),
            (None, Some(p)) => (p, pascal_name.as_str()),
            (None, None) => (&NULL, name),
        };
        Ok(At { value, path: format!("{}.{spelt}", self.path) })
    }

    /// The field of exactly this name, for names that have no twin with a capital.
    pub(super) fn key(&self, name: &'static str) -> At<'a> {
        At { value: self.value.get(name).unwrap_or(&NULL), path: format!("{}.{name}", self.path) }
    }

    /// The field at the end of `names`, each inside the one before.
    pub(super) fn down(&self, names: &[&'static str]) -> Result<At<'a>, ParseError> {
        names.iter().try_fold(self.clone(), |at, name| at.field(name))
    }

    pub(super) fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// The elements of a list; none when it is absent.
    pub(super) fn items(&self) -> Result<Vec<At<'a>>, ParseError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) if items.len() > MOST_ITEMS => {
                let expected = "a list of at most 5000 items";
                Err(self.error(Problem::Expected { expected, found: format!("{} of them", items.len()) }))
            }
            Value::Array(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(n, value)| At { value, path: format!("{}[{n}]", self.path) })
                .collect()),
            _ => Err(self.expected("a list")),
        }
    }

    /// The text, if there is any.
    pub(super) fn text(&self) -> Result<Option<&'a str>, ParseError> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(s) if s.is_empty() => Ok(None),
            Value::String(s) => Ok(Some(s)),
            _ => Err(self.expected("a string")),
        }
    }

    /// One line of visible ASCII, if there is any: a type or a name that policies and journals compare and
    /// print. Those in use have at most about 130 characters.
    pub(super) fn word(&self, expected: &'static str) -> Result<Option<String>, ParseError> {
        match self.text()? {
            Some(text) if text.len() > 256 || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
                Err(self.error(Problem::Expected { expected, found: text.to_owned() }))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// The value here, or [`Problem::Missing`].
    pub(super) fn required<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<Option<T>, ParseError>,
    ) -> Result<T, ParseError> {
        read(self)?.ok_or_else(|| self.error(Problem::Missing))
    }

    /// An error if this says another thing than `that`, which `other` says.
    pub(super) fn must_say(&self, this: &str, other: &'static str, that: &str) -> Result<(), ParseError> {
        if this == that {
            return Ok(());
        }
        Err(self.error(Problem::Disagrees { this: this.to_owned(), other, that: that.to_owned() }))
    }

    /// A checked identifier, if there is one.
    pub(super) fn id<T: FromStr<Err = InvalidId>>(&self) -> Result<Option<T>, ParseError> {
        self.text()?.map(str::parse).transpose().map_err(|e: InvalidId| self.error(e))
    }

    /// A finite number, written as a number or as a string.
    pub(super) fn number(&self) -> Result<Option<f64>, ParseError> {
        let number = match self.value {
            Value::Null => return Ok(None),
            Value::Number(n) => n.as_f64(),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(n) if n.is_finite() => Ok(Some(n)),
            _ => Err(self.expected("a number")),
        }
    }

    /// Whether a flag is set: `true`, or the word in a string.
    pub(super) fn flag(&self) -> bool {
        match self.value {
            Value::Bool(b) => *b,
            Value::String(s) => s.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// How often: a number, or one in a string. What is not a number is unknown.
    pub(super) fn count(&self) -> Option<u64> {
        // Casting saturates, so a negative count is 0.
        self.number().ok().flatten().map(|number| number as u64)
    }

    /// When. What cannot be read is unknown rather than an error: a guard takes an unknown age at its strictest,
    /// and a new way of writing times must not stop containment.
    pub(super) fn time(&self) -> Option<Timestamp> {
        time::read(self.value)
    }

    /// Whether this is a text that starts so.
    pub(super) fn starts_with(&self, prefix: &str) -> bool {
        self.value.as_str().is_some_and(|s| s.starts_with(prefix))
    }
}

fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string().chars().take(200).collect(),
    }
}

/// The first line, column and kind of what is not JSON.
pub(super) fn not_json(error: &serde_json::Error) -> ParseError {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the text ends too early",
        _ => "unexpected text",
    };
    ParseError { at: "$".to_owned(), problem: Problem::NotJson { what, line: error.line(), column: error.column() } }
}
