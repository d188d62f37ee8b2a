//! Roles whose sessions are never revoked: AWS does not allow it, or it would lock out who has to help.

use aws_sdk_iam::types::Role;
use firebreak::finding::identity::IDENTITY_CENTER_ROLE;
use firebreak::text::quoted;

/// A kind of protected role.
#[derive(Debug)]
pub struct Protected {
    /// The pattern of its ARN's resource part, as `template-member.yaml` denies it to the playbook's role.
    pub pattern: &'static str,
    /// Why it is left alone.
    pub why: &'static str,
}

/// Every kind. The member template denies each of them to the playbook's role besides, which a test checks.
pub const PROTECTED: &[Protected] = &[
    Protected {
        pattern: "role/aws-service-role/*",
        why: "it is linked to a service, whose policies nobody in the account can change",
    },
    Protected {
        pattern: "role/aws-reserved/*",
        why: "it is a role of IAM Identity Center: there disable the user, delete its sessions and assignments",
    },
    Protected { pattern: "role/firebreak/*", why: "it is Firebreak's own" },
    Protected {
        pattern: "role/OrganizationAccountAccessRole",
        why: "the organization enters the account by it: who has it is in the management account, so contain them there",
    },
    Protected {
        pattern: "role/AWSControlTowerExecution",
        why: "Control Tower enters the account by it: who has it is in the management account, so contain them there",
    },
    Protected {
        pattern: "role/AWSCloudFormationStackSet*",
        why: "stack sets enter the account by it: who has it is in their administrator's account, so contain them there",
    },
    Protected {
        pattern: "role/stacksets-exec-*",
        why: "stack sets enter the account by it: who has it is in their administrator's account, so contain them there",
    },
];

/// Why a role is left alone; `None` when it is not.
pub fn why_not(role: &Role) -> Option<String> {
    let resource = format!("role{}{}", role.path(), role.role_name());
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => resource.starts_with(prefix),
        None => resource == pattern,
    };
    let found = PROTECTED.iter().find(|protected| matches(protected.pattern)).map(|protected| protected.why);
    let reserved =
        role.role_name().starts_with(IDENTITY_CENTER_ROLE).then_some("it has the name of an Identity Center role");
    found.or(reserved).map(|why| format!("role {} is not touched: {why}", quoted(role.role_name())))
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::DateTime;

    use super::*;

    fn role(path: &str, name: &str) -> Role {
        let role = Role::builder().path(path).role_name(name).role_id("AROADBQP57FF2AEXAMPLE").arn("arn");
        role.create_date(DateTime::from_secs(0)).build().unwrap()
    }

    #[test]
    fn roles_by_which_help_comes_are_left_alone() {
        for (path, name) in [
            ("/aws-service-role/elasticloadbalancing.amazonaws.com/", "AWSServiceRoleForElasticLoadBalancing"),
            ("/aws-reserved/sso.amazonaws.com/eu-west-1/", "AWSReservedSSO_Admin_0123456789abcdef"),
            ("/firebreak/", "contain-user"),
            ("/", "OrganizationAccountAccessRole"),
            ("/", "AWSControlTowerExecution"),
            ("/", "AWSCloudFormationStackSetExecutionRole"),
            ("/", "stacksets-exec-0123456789abcdef"),
            ("/", "AWSReservedSSO_Admin_0123456789abcdef"),
        ] {
            assert!(why_not(&role(path, name)).is_some(), "{path}{name}");
        }
        for (path, name) in [("/", "shop-web"), ("/shop/", "firebreak"), ("/", "OrganizationAccountAccessRole2")] {
            assert_eq!(why_not(&role(path, name)), None, "{path}{name}");
        }
    }
}
