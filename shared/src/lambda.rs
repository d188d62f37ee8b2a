//! The Lambda function around the loop: start-up, one event at a time, and what Lambda is answered.

use std::time::{Duration, Instant, SystemTime};

pub use lambda_runtime::Error;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;

use crate::aws::{self, Aws, Connection};
use crate::config::{Config, ConfigError};
use crate::door::client::Client;
use crate::door::{Door, Requestable};
use crate::drill::{Drills, Rehearsals};
use crate::failure::{Class, Failure, chain};
use crate::hub::{Hub, Playbooks};
use crate::ids::Region;
use crate::telemetry;

/// Kept back from the function's time-out to write the journal's last line and to answer.
const RESERVE: Duration = Duration::from_secs(2);

/// Runs a function with these playbooks until Lambda ends it.
///
/// # Errors
/// When a setting is missing or wrong: the function's start fails, which Lambda reports as such.
pub async fn run(function: &'static str, playbooks: Playbooks) -> Result<(), Error> {
    let collector = telemetry::start(function);
    let config = Config::from_env()?;
    let hub = connect(function, playbooks, config, &Connection::default()).await?;
    let hub = &hub;
    // The first event finds connections open and credentials loaded; the runtime does not wait for it.
    let warm = Box::pin(hub.warm_up());
    let serve = lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        let deadline = deadline_of(event.context.deadline());
        let result = Box::pin(hub.serve(event.payload.get().as_bytes(), deadline)).await;
        if let Err(failure) = &result {
            tracing::error!(
                class = failure.class.as_str(),
                code = failure.code,
                request_id = failure.request_id,
                error = chain(failure),
                "event not answered"
            );
        }
        telemetry::flush(collector);
        result.map_err(|failure| diagnostic(&failure))
    }));
    let (served, ()) = tokio::join!(serve, warm);
    served
}

/// The stack of a thread that reads what Security Hub answers with. Its form of a finding has hundreds of parts, and an
/// unoptimised build puts each of them on the stack: more than the 8 MiB that a main thread has.
const STACK: usize = 64 * 1024 * 1024;

/// Runs to its end what `make` makes, on a thread of its own that has stack enough.
///
/// # Errors
/// When there is no thread or no runtime to be had; and what the future ends with.
pub fn on_a_long_stack<T, E, F>(make: impl FnOnce() -> F + Send + 'static) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
{
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(make())
    };
    match std::thread::Builder::new().stack_size(STACK).spawn(run)?.join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs people's door until Lambda ends it. It answers every request: what fails is an answer too, and Lambda would not
/// deliver it again.
///
/// # Errors
/// When a setting is missing or wrong: the function's start fails, which Lambda reports as such.
pub async fn run_door(function: &'static str, requestable: &'static [Requestable]) -> Result<(), Error> {
    let collector = telemetry::start(function);
    let config = Config::from_env()?;
    let aws = account(&config, &Connection::default()).await?;
    let door = Door::new(config, aws, requestable);
    let door = &door;
    let warm = door.warm_up();
    let serve = lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        let answer = door.receive(event.payload.get().as_bytes()).await;
        telemetry::flush(collector);
        Ok::<_, Error>(answer)
    }));
    let (served, ()) = tokio::join!(serve, warm);
    served
}

/// Runs the function that holds drills until Lambda ends it.
///
/// # Errors
/// When a setting is missing or wrong: the function's start fails, which Lambda reports as such.
pub async fn run_drills(function: &'static str) -> Result<(), Error> {
    const URL: &str = "FIREBREAK_OPERATE_URL";
    let collector = telemetry::start(function);
    let config = Config::from_env()?;
    let drills = config.drills_table.clone().ok_or(ConfigError::Missing("FIREBREAK_DRILLS_TABLE"))?;
    let url = std::env::var(URL).map_err(|_| ConfigError::Missing(URL))?;
    let connection = Connection::default();
    let aws = account(&config, &connection).await?;
    let drills = Drills::new(aws.dynamodb().clone(), drills);
    let door = Client::new(&url, aws::load_config(&connection).await)?;
    let rehearsals = Rehearsals::new(Hub::new(function, &[], config, aws), drills, door);
    let rehearsals = &rehearsals;
    let serve = service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        let result = Box::pin(rehearsals.serve(event.payload.get().as_bytes())).await;
        if let Err(failure) = &result {
            tracing::error!(
                class = failure.class.as_str(),
                code = failure.code,
                error = chain(failure),
                "not answered"
            );
        }
        telemetry::flush(collector);
        result.map_err(|failure| diagnostic(&failure))
    });
    lambda_runtime::run(serve).await
}

fn deadline_of(deadline: SystemTime) -> Instant {
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now() + left.saturating_sub(RESERVE)
}

/// The class, not a Rust type's name: alarms count classes.
fn diagnostic(failure: &Failure) -> Diagnostic {
    Diagnostic { error_type: failure.class.as_str().to_owned(), error_message: failure.brief() }
}

/// The hub of this process: Region and credentials from the environment, as every AWS tool has them.
///
/// # Errors
/// When the Region is not set or not one.
pub async fn connect(
    function: &'static str,
    playbooks: Playbooks,
    config: Config,
    connection: &Connection,
) -> Result<Hub, Failure> {
    let aws = account(&config, connection).await?;
    Ok(Hub::new(function, playbooks, config, aws))
}

/// The security account, by this process's environment.
async fn account(config: &Config, connection: &Connection) -> Result<Aws, Failure> {
    let sdk = aws::load_config(connection).await;
    let region: Region = match sdk.region() {
        Some(region) => region
            .as_ref()
            .parse()
            .map_err(|error| Failure::new(Class::Malformed, "use the Region", region.as_ref()).because(error))?,
        None => return Err(Failure::new(Class::Malformed, "find the Region in", "AWS_REGION")),
    };
    Ok(Aws::new(config.hub_account.clone(), region, sdk))
}

/// Lets the runtime ask for its first event, so that Lambda counts the function as started before it does anything else.
/// Connecting to the Runtime API and writing to it takes the executor a few turns, on loopback; what begins beside that has it
/// wait for as long as building and signing requests takes.
pub(crate) async fn event_asked_for() {
    const TURNS: usize = 16;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

impl Hub {
    /// Opens the connections that a run needs first. Failures show when they matter.
    pub async fn warm_up(&self) {
        event_asked_for().await;
        self.warm_policies();
        let _ = tokio::join!(
            self.ledger.groups(&self.config.hub_account, Some(&self.aws.region)),
            self.aws.sts().get_caller_identity().send(),
            async {
                if self.playbooks.iter().any(|playbook| playbook.meta().answers().count() > 0) {
                    let _ = self.aws.guardduty().list_detectors().send().await;
                }
            },
        );
    }
}
