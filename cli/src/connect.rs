//! The hub, reached as an operator: with the role that a person's own credentials take on.

use anyhow::{Context, Result};
use firebreak::aws::Connection;
use firebreak::config::Config;
use firebreak::hub::Hub;
use firebreak::operator::Operator;

/// The functions whose playbooks the command knows.
pub(crate) const PLAYBOOKS: firebreak::hub::Playbooks = contain_compute::PLAYBOOKS;

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
    let own = firebreak::lambda::connect(contain_compute::FUNCTION, PLAYBOOKS, config, &Connection::default()).await?;
    let (operator, aws) = Operator::take(&own.aws).await.context(
        "you must be let take on the role `operator` of the security account: the parameter `OperatorPrincipals` of \
         template.yaml says who is",
    )?;
    Ok((Hub::new(contain_compute::FUNCTION, PLAYBOOKS, own.config, aws), operator))
}
