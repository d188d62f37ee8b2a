//! The hub, reached with the operator's own credentials.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use firebreak::aws::Connection;
use firebreak::config::Config;
use firebreak::hub::{Hub, Playbooks};
use firebreak::playbook::Playbook;

/// The playbooks of every function.
pub(crate) fn playbooks() -> Playbooks {
    static ALL: LazyLock<Vec<&'static dyn Playbook>> =
        LazyLock::new(|| contain_compute::PLAYBOOKS.iter().chain(contain_identity::PLAYBOOKS).copied().collect());
    &ALL
}

/// Settings and credentials from the environment. The settings are the function's own variables, so one
/// file serves both.
pub(crate) async fn hub() -> Result<Hub> {
    let config = Config::from_env().context(
        "the settings of the deployment are missing: set the FIREBREAK_… variables (see README, \"Settings\")",
    )?;
    let hub = firebreak::lambda::connect("firebreak", playbooks(), config, &Connection::default()).await?;
    Ok(hub)
}

/// Who is asking, as STS says.
pub(crate) async fn caller(hub: &Hub) -> Result<String> {
    let identity = hub.aws.sts().get_caller_identity().send().await.context("could not ask STS who you are")?;
    identity.arn().map(str::to_owned).context("STS gave no ARN for you")
}
