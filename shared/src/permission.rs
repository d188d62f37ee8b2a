//! The IAM permissions of an action, declared beside it, and the narrower grants of one step.

use serde::{Deserialize, Serialize};

/// One IAM action and what it may be used on. The roles of `template-member.yaml` are exactly the
/// union of these, which a test checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// The IAM action, as in `ec2:ModifyNetworkInterfaceAttribute`.
    pub action: &'static str,
    /// ARNs without `arn:<partition>:`, as in `ec2:*:*:network-interface/*`: the account `*` is the role's own, `any`
    /// is any. Empty where AWS supports no resource for the action (Service Authorization Reference): then the role
    /// must say `*`.
    pub on: &'static [&'static str],
    /// A condition the role adds: key and value, tested with `StringEquals`; with `ArnEquals` where the key's name ends
    /// in `ARN`, and then the value is written as in `on`.
    pub when: Option<(&'static str, &'static str)>,
}

impl Permission {
    /// A read for which AWS supports no resource-level permission.
    pub const fn read(action: &'static str) -> Self {
        Self { action, on: &[], when: None }
    }

    /// An action on resources.
    pub const fn on(action: &'static str, on: &'static [&'static str]) -> Self {
        Self { action, on, when: None }
    }

    /// The same only under a condition.
    pub const fn when(self, key: &'static str, value: &'static str) -> Self {
        Self { action: self.action, on: self.on, when: Some((key, value)) }
    }
}

/// A name for use inside an ARN of a policy. Some services let people put anything into names, and a
/// group called `*` would otherwise match every group.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-specialchars>
pub fn literal(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '*' | '?' | '$' => out.extend(['$', '{', c, '}']),
            c => out.push(c),
        }
    }
    out
}

/// One IAM action on exact resources: a line of a session policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The IAM action.
    pub action: String,
    /// Full ARNs, or `*` alone where AWS supports no narrower resource.
    pub on: Vec<String>,
}

impl Grant {
    /// An action on these ARNs.
    pub fn new(action: &str, on: impl IntoIterator<Item = String>) -> Self {
        Self { action: action.to_owned(), on: on.into_iter().collect() }
    }

    /// An action for which AWS supports no resource-level permission.
    pub fn any(action: &str) -> Self {
        Self::new(action, ["*".to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_policy_matches_only_itself() {
        assert_eq!(literal("web-asg"), "web-asg");
        assert_eq!(literal("*"), "${*}");
        assert_eq!(literal("a?${aws:username}"), "a${?}${$}{aws:username}");
    }
}
