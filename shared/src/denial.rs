//! The only policies that are ever written: denials. There is no value of these types that allows anything, so no
//! mistake and no text from outside can make one. They are rendered and read by a serializer alone.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{RoleId, SessionName};

macro_rules! only {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        enum $name {
            #[serde(rename = $text)]
            Only,
        }
    };
}

only!(Version, "2012-10-17");
only!(Effect, "Deny");
only!(Everything, "*");

/// A policy of one statement, which denies every action on every resource, always or to older sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    #[serde(rename = "Version")]
    version: Version,
    #[serde(rename = "Statement")]
    statement: [Statement; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "Effect")]
    effect: Effect,
    #[serde(rename = "Action")]
    action: Everything,
    #[serde(rename = "Resource")]
    resource: Everything,
    #[serde(rename = "Condition", default, skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(rename = "DateLessThan")]
    date_less_than: Issued,
    #[serde(rename = "StringEquals", default, skip_serializing_if = "Option::is_none")]
    string_equals: Option<User>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    #[serde(rename = "aws:TokenIssueTime")]
    at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    #[serde(rename = "aws:userid")]
    id: SessionId,
}

/// What `aws:userid` is in the calls of a role's session: `AROA…:name`. Both parts can hold nothing that means
/// something in a policy, no wildcard and no variable.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#principaltable>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId {
    /// The role.
    pub role: RoleId,
    /// The session's name.
    pub name: SessionName,
}

impl TryFrom<String> for SessionId {
    type Error = crate::ids::InvalidId;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        let (role, name) = value.split_once(':').unwrap_or((&value, ""));
        Ok(Self { role: role.parse()?, name: name.parse()? })
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        format!("{}:{}", id.role, id.name)
    }
}

impl Denial {
    /// Denies everything, to whatever credentials, for as long as it is attached.
    pub const fn of_everything() -> Self {
        Self::when(None)
    }

    /// Denies everything to sessions that were issued before `before`: those of one name, or all. Long-term keys have
    /// no issue time and are not concerned.
    pub fn of_sessions(before: Timestamp, session: Option<SessionId>) -> Self {
        let string_equals = session.map(|id| User { id });
        Self::when(Some(Condition { date_less_than: Issued { at: before }, string_equals }))
    }

    const fn when(condition: Option<Condition>) -> Self {
        let statement =
            Statement { effect: Effect::Only, action: Everything::Only, resource: Everything::Only, condition };
        Self { version: Version::Only, statement: [statement] }
    }

    /// Which sessions it denies: those issued before this time, of this name. Nothing when it denies everything.
    pub fn sessions(&self) -> Option<(Timestamp, Option<&SessionId>)> {
        let condition = self.statement[0].condition.as_ref()?;
        Some((condition.date_less_than.at, condition.string_equals.as_ref().map(|user| &user.id)))
    }

    /// The document.
    pub fn render(&self) -> String {
        // Ids, times and fixed words; they always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The denial that a document is; nothing when it is anything else.
    pub fn read(document: &str) -> Option<Self> {
        serde_json::from_str(document).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn session(id: &str) -> SessionId {
        id.to_owned().try_into().unwrap()
    }

    #[test]
    fn a_denial_is_written_as_aws_reads_it() {
        let before = "2026-11-22T01:02:03Z".parse().unwrap();
        let narrow = Denial::of_sessions(before, Some(session("AROADBQP57FF2AEXAMPLE:i-0123456789abcdef0")));
        let written: Value = serde_json::from_str(&narrow.render()).unwrap();
        let expected = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Action": "*", "Resource": "*",
            "Condition": {
                "DateLessThan": {"aws:TokenIssueTime": "2026-11-22T01:02:03Z"},
                "StringEquals": {"aws:userid": "AROADBQP57FF2AEXAMPLE:i-0123456789abcdef0"},
            },
        }]});
        assert_eq!(written, expected);
        let always =
            json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
        assert_eq!(serde_json::from_str::<Value>(&Denial::of_everything().render()).unwrap(), always);
    }

    #[test]
    fn what_is_not_a_denial_of_everything_is_not_read_as_one() {
        let good = Denial::of_everything().render();
        for (from, to) in [
            ("Deny", "Allow"),
            ("\"Action\":\"*\"", "\"Action\":\"s3:*\""),
            ("\"Resource\":\"*\"", "\"NotResource\":\"*\""),
            ("\"Resource\":\"*\"", "\"Resource\":\"*\",\"Condition\":{\"Bool\":{\"aws:SecureTransport\":\"false\"}}"),
            ("}]", "},{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}]"),
        ] {
            assert!(good.contains(from));
            assert_eq!(Denial::read(&good.replace(from, to)), None, "{from} → {to}");
        }
        assert_eq!(Denial::read(&good), Some(Denial::of_everything()));
        assert_eq!(Denial::read("not JSON"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a finding says, the document denies, denies nothing but the session that is named, and comes back.
        #[test]
        fn no_name_gets_out_of_its_quotes(role in "AROA[A-Z0-9]{17}", name in "\\PC{0,70}|[a-z\"${}*?:,\\\\]{2,20}", secs in 0i64..4_000_000_000) {
            let Ok(id) = SessionId::try_from(format!("{role}:{name}")) else { return Ok(()) };
            let denial = Denial::of_sessions(Timestamp::from_second(secs).unwrap(), Some(id));
            let written: Value = serde_json::from_str(&denial.render()).unwrap();
            prop_assert_eq!(&written["Statement"][0]["Effect"], "Deny");
            prop_assert_eq!(&written["Statement"][0]["Condition"]["StringEquals"]["aws:userid"], &json!(format!("{role}:{name}")));
            let special = name.contains(['*', '?', '$', '"']);
            prop_assert!(!special);
            prop_assert_eq!(Denial::read(&denial.render()), Some(denial));
        }
    }
}
