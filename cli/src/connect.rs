//! The hub, reached as an operator: with the role that a person's own credentials take on.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use firebreak::aws::Connection;
use firebreak::config::Config;
use firebreak::hub::{Hub, Playbooks};
use firebreak::operator::Operator;
use firebreak::playbook::Playbook;

/// What the command is called where a function has a name. No due row has it: the command takes none up.
const COMMAND: &str = "firebreak";

/// The playbooks of every function.
pub(crate) fn playbooks() -> Playbooks {
    static ALL: LazyLock<Vec<&'static dyn Playbook>> =
        LazyLock::new(|| contain_compute::PLAYBOOKS.iter().chain(contain_identity::PLAYBOOKS).copied().collect());
    &ALL
}

/// Settings and credentials from the environment. The settings are the function's own variables, so one
/// file serves both. The credentials are used for nothing but to take on the operators' role.
pub(crate) async fn hub() -> Result<Hub> {
    operator().await.map(|(hub, _)| hub)
}

/// The same, and who is asking.
pub(crate) async fn operator() -> Result<(Hub, Operator)> {
    let config = Config::from_env().context(
        "the settings of the deployment are missing: set the FIREBREAK_… variables (see README, \"Settings\")",
    )?;
    let own = firebreak::lambda::connect(COMMAND, playbooks(), config, &Connection::default()).await?;
    let (operator, aws) = Operator::take(&own.aws).await.context(
        "you must be let take on the role `operator` of the security account: the parameter `OperatorPrincipals` of \
         template.yaml says who is",
    )?;
    Ok((Hub::new(COMMAND, playbooks(), own.config, aws), operator))
}
