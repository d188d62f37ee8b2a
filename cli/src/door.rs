//! People's door, called with a person's own credentials: what is decided, and what is to be seen there.

use anyhow::{Context, Result, bail};
use firebreak::aws::{self, Connection};
use firebreak::door::client::Client;
use firebreak::door::wire::{Answer, Asked, RefusalKind};
use firebreak::ids::RunId;
use firebreak::run::Run;

/// What the door refused. The exit status tells it from a failure.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refused {
    /// The kind of refusal.
    pub(crate) kind: RefusalKind,
    why: String,
}

/// The door of the deployment.
pub(crate) struct Door(Client);

impl Door {
    /// The door at this URL, with the credentials of the environment.
    pub(crate) async fn at(url: Option<&str>) -> Result<Self> {
        let url = url.context(
            "it is not known where people's door is: give --operate-url, or set FIREBREAK_OPERATE_URL, to the output \
             `OperateUrl` of the stack",
        )?;
        let config = aws::load_config(&Connection::default()).await;
        Ok(Self(Client::new(url, config)?))
    }

    /// Asks. A refusal is an error.
    pub(crate) async fn ask(&self, asked: &Asked) -> Result<Answer> {
        match self.0.ask(asked).await? {
            Answer::Refused { kind: RefusalKind::Failed, why } => bail!(why),
            Answer::Refused { kind, why } => Err(Refused { kind, why }.into()),
            answer => Ok(answer),
        }
    }

    /// A run with all that is known of it.
    pub(crate) async fn run(&self, id: &RunId) -> Result<Run> {
        match self.ask(&Asked::Show { run: id.clone() }).await? {
            Answer::Run { run } => Ok(*run),
            _ => bail!("the door gave another answer than a run"),
        }
    }
}
