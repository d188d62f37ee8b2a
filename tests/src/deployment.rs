//! What is deployed here: every function of the workspace, and the clients of the accounts that it is deployed to.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials as SdkCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use firebreak::aws::{Aws, Connection};
use firebreak::hub::Playbooks;

use crate::emulator::{Credentials, Emulator};

/// The Region of every deployment.
pub const REGION: &str = "eu-west-1";

/// The organization that the templates are given.
pub const ORGANIZATION: &str = "o-firebreak01";

/// A function of the workspace.
#[derive(Clone, Copy)]
pub struct Function {
    /// Its folder in `functions/`, which is its name, its binary's and its role's.
    pub name: &'static str,
    /// Its logical id in `template.yaml`.
    pub logical: &'static str,
    /// Its playbooks; none of people's door.
    pub playbooks: Playbooks,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The function that contains compute.
pub const CONTAIN_COMPUTE: Function =
    Function { name: contain_compute::FUNCTION, logical: "ContainCompute", playbooks: contain_compute::PLAYBOOKS };

/// The function that contains identities.
pub const CONTAIN_IDENTITY: Function =
    Function { name: contain_identity::FUNCTION, logical: "ContainIdentity", playbooks: contain_identity::PLAYBOOKS };

/// The function that fixes what failed controls left open.
pub const HARDEN: Function = Function { name: harden::FUNCTION, logical: "Harden", playbooks: harden::PLAYBOOKS };

/// People's door: it has no playbook, and no power over any resource.
pub const OPERATE: Function = Function { name: operate::FUNCTION, logical: "Operate", playbooks: &[] };

/// Drills in the account: it has no playbook either.
pub const DRILL: Function = Function { name: drill::FUNCTION, logical: "Drill", playbooks: &[] };

/// Every function with playbooks. The one list: what is not in it has no law, no page and no role, and a test says so.
pub const FUNCTIONS: &[Function] = &[CONTAIN_COMPUTE, CONTAIN_IDENTITY, HARDEN];

/// Every function of `template.yaml`, those without playbooks among them.
pub fn deployed() -> impl Iterator<Item = Function> {
    FUNCTIONS.iter().copied().chain([OPERATE, DRILL])
}

/// An account of the emulator, as Firebreak's own clients reach it.
pub fn account(emulator: &Emulator, account: &str, held: &Credentials, connection: &Connection) -> anyhow::Result<Aws> {
    Ok(Aws::new(account.parse()?, REGION.parse()?, config(emulator, held, connection)))
}

/// The settings of a client that has these credentials.
pub fn config(emulator: &Emulator, held: &Credentials, connection: &Connection) -> SdkConfig {
    let credentials = SdkCredentials::new(
        &held.access_key_id,
        &held.secret_access_key,
        Some(held.session_token.clone()).filter(|token| !token.is_empty()),
        None,
        "emulator",
    );
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(aws_config::Region::new(REGION))
        .endpoint_url(emulator.endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(connection.http.clone())
        .retry_config(connection.retries())
        .timeout_config(connection.timeouts())
        .build()
}
