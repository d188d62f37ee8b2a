//! The hub, reached as an operator: with the role that a person's own credentials take on.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use firebreak::aws::Connection;
use firebreak::config::Config;
use firebreak::failure::{Class, Failure};
use firebreak::hub::{Hub, Playbooks};
use firebreak::operator::{OPERATOR, Operator, PUBLISHER};
use firebreak::playbook::Playbook;

/// What the command is called where a function has a name. No due row has it: the command takes none up.
const COMMAND: &str = "firebreak";

/// The playbooks of every function.
pub(crate) fn playbooks() -> Playbooks {
    static ALL: LazyLock<Vec<&'static dyn Playbook>> =
        LazyLock::new(|| [contain_compute::PLAYBOOKS, contain_identity::PLAYBOOKS, harden::PLAYBOOKS].concat());
    &ALL
}

/// Settings and credentials from the environment. The settings are the function's own variables, so one
/// file serves both. The credentials are used for nothing but to take on the operators' role.
pub(crate) async fn hub() -> Result<Hub> {
    operator().await.map(|(hub, _)| hub)
}

/// The same, and who is asking.
pub(crate) async fn operator() -> Result<(Hub, Operator)> {
    taking(OPERATOR).await
}

/// The same with another of the roles for people.
pub(crate) async fn taking(role: &'static str) -> Result<(Hub, Operator)> {
    let config = Config::from_env().context(
        "the settings of the deployment are missing: set the FIREBREAK_… variables (see README, \"Settings\")",
    )?;
    let own = firebreak::lambda::connect(COMMAND, playbooks(), config, &Connection::default()).await?;
    let endpoint = std::env::var("AWS_ENDPOINT_URL").ok();
    let taken = Operator::take(&own.aws, role).await;
    let (operator, aws) = taken.map_err(|failure| {
        let why = why_not(role, &failure, endpoint.as_deref());
        anyhow::Error::new(failure).context(why)
    })?;
    Ok((Hub::new(COMMAND, playbooks(), own.config, aws), operator))
}

/// What a person can do about not being let in. No answer is something else than a no.
fn why_not(role: &str, failure: &Failure, endpoint: Option<&str>) -> String {
    match endpoint {
        Some(endpoint) if failure.class == Class::Transient && failure.code.is_none() && is_loopback(endpoint) => {
            let endpoint = firebreak::text::plain(endpoint, 120);
            format!("could not reach AWS at {endpoint} (AWS_ENDPOINT_URL): is the drill still running?")
        }
        _ => {
            let parameter = if role == PUBLISHER { "PublisherPrincipals" } else { "OperatorPrincipals" };
            format!(
                "you must be let take on the role `{role}` of the security account: the parameter `{parameter}` of \
                 template.yaml says who is"
            )
        }
    }
}

/// Whether an endpoint is on this machine, as that of a drill is.
fn is_loopback(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| authority.parse::<IpAddr>()) {
        Ok(ip) => ip.is_loopback(),
        Err(_) => authority.split(':').next() == Some("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_on_this_machine_is_not_blamed_on_the_role() {
        let silent = Failure::new(Class::Transient, "ask STS who calls in", "eu-west-1");
        for endpoint in ["http://127.0.0.1:5000", "http://localhost:5000/", "http://[::1]:5000", "http://127.0.0.1"] {
            let why = why_not(OPERATOR, &silent, Some(endpoint));
            assert_eq!(
                why,
                format!("could not reach AWS at {endpoint} (AWS_ENDPOINT_URL): is the drill still running?")
            );
        }
        let denied = Failure { code: Some("AccessDenied".to_owned()), ..Failure::new(Class::Denied, "take on", "r") };
        for (failure, endpoint) in [
            (&denied, Some("http://127.0.0.1:5000")),
            (&silent, None),
            (&silent, Some("https://localhost.example.com")),
            (&silent, Some("https://10.0.0.1:443")),
        ] {
            assert!(why_not(OPERATOR, failure, endpoint).contains("OperatorPrincipals"), "{endpoint:?}");
            assert!(why_not(PUBLISHER, failure, endpoint).contains("PublisherPrincipals"), "{endpoint:?}");
        }
    }
}
