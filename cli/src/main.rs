//! The command `firebreak`: what would be done, what was done, and a person's word on it.

mod changes;
mod connect;
mod decide;
mod door;
mod evidence;
mod explain;
mod plan;
mod policy;
mod preflight;
mod settings;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use firebreak::door::wire::Asked;
use firebreak::ids::{AccountId, Region, RunId, VpcId};
use firebreak::ledger::Which;
use firebreak::run::RunState;
use jiff::Timestamp;

/// Firebreak contains security incidents on AWS, in seconds, and can take back what it did.
///
/// `explain`, `policy check`, `settings`, `completions` and `evidence verify --folder` need no AWS. What people decide, and `runs` and
/// `show`, goes through people's door: set FIREBREAK_OPERATE_URL. All else takes on the role `operator`: set the
/// FIREBREAK_… variables (see README, "Settings").
///
/// The exit status is 0 when all is well, 1 when it is not, 2 when the command failed, 3 when the door refused, 4 when more
/// persons must say the same.
#[derive(Debug, Parser)]
#[command(name = "firebreak", version, about)]
struct Arguments {
    /// The URL of people's door: the output `OperateUrl` of the stack
    #[arg(long, global = true, env = "FIREBREAK_OPERATE_URL")]
    operate_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what would answer each finding in these files: one JSON object a line, no AWS needed
    Explain {
        /// Files with events or findings; of a folder, every JSON file in it and below
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Ask this policy set instead of the compiled-in one
        #[arg(long)]
        policy: Option<PathBuf>,
        /// The security account, when policies depend on it
        #[arg(long, env = "FIREBREAK_HUB_ACCOUNT")]
        hub_account: Option<AccountId>,
        /// Decide as at this time; by default as if each finding came in the moment it was last seen
        #[arg(long)]
        at: Option<Timestamp>,
    },
    /// Make the real plan for an event and print it; changes nothing
    ///
    /// You must be an operator: one of `OperatorPrincipals` of template.yaml. The member account is read with the role `plan`,
    /// and the policies in force are asked. The file is one JSON document of a shape that `explain` reads: an event of
    /// EventBridge, its bare `detail`, or what `get-findings` prints.
    Plan {
        /// The file with the event
        #[arg(long)]
        event: PathBuf,
    },
    /// Check that accounts are ready: roles, GuardDuty, ledger, evidence, policy, quarantine groups
    Preflight {
        /// Member accounts, separated by commas, or the option given again; without any, only the security account is looked at
        #[arg(long, value_delimiter = ',')]
        accounts: Vec<AccountId>,
        /// Regions, separated by commas, or the option given again; by default the one of the environment
        #[arg(long, value_delimiter = ',')]
        regions: Vec<Region>,
    },
    /// Make quarantine groups ahead, so that the first containment has two calls less to wait for
    Onboard {
        /// The member account
        #[arg(long)]
        account: AccountId,
        /// Regions, separated by commas, or the option given again; by default the one of the environment
        #[arg(long, value_delimiter = ',')]
        regions: Vec<Region>,
        /// VPCs, separated by commas, or the option given again; by default every VPC of the Region that has a network interface
        #[arg(long = "vpc", value_delimiter = ',')]
        vpcs: Vec<VpcId>,
    },
    /// List the newest runs
    Runs {
        /// How many
        #[arg(long, default_value_t = 20)]
        most: u32,
        /// Those before, as the last line of the list names them
        #[arg(long)]
        after: Option<String>,
        /// Those in this state only
        #[arg(long, value_parser = states())]
        state: Option<RunState>,
        /// Those whose finding is at least so severe
        #[arg(long)]
        severity: Option<f64>,
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one run: the finding, who decided, each step with before and after, what is open
    Show {
        /// The run
        run: RunId,
        /// With the ids that AWS gave to the calls
        #[arg(long)]
        requests: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Carry a proposed run out
    ///
    /// The function asks GuardDuty for the finding and the policies for leave again, and plans anew: it does the plan that you
    /// saw, or, where the target has changed since, proposes the new one.
    Approve(Decide),
    /// Turn a proposed run down
    ///
    /// The function looks whether the run is still proposed, ends it, and changes nothing.
    Reject(Decide),
    /// Put back what a run changed
    ///
    /// Each resource is read first: what somebody else has changed since is left to you, and what AWS cannot give back is
    /// named under "Not as before".
    Undo(Decide),
    /// Do again what a run holds in part, or what was opened again since
    ///
    /// The target is planned anew and the policies are asked again: only what is not as wanted now is done. The finding is
    /// not asked for again.
    Retry(Decide),
    /// End a run's hold now: people are asked whether to undo it
    ///
    /// Nothing is undone by it. The question comes within a minute; answer it with `undo`.
    Release(Decide),
    /// Let a run's hold end at another time
    Extend {
        #[command(flatten)]
        decide: Decide,
        /// When it ends, in hours from now
        #[arg(long)]
        hours: u32,
    },
    /// Contain something by hand that no finding is about
    ///
    /// It goes the way of a finding of source `firebreak.request`: the policies say whether it is done at once or proposed.
    Request(decide::ByHandArguments),
    /// Stop everything now: from then on every function observes and changes nothing
    ///
    /// It holds from the next event on, and outlives deployments, until `resume`. What a function has in its hands it ends
    /// within a minute. To undo and to reject work meanwhile; to approve, retry and request do not.
    Stop(Switch),
    /// Take `stop` back
    ///
    /// What came in meanwhile was recorded and not acted on: a repeat of the finding is.
    Resume(Switch),
    /// Check or publish a policy set
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Look after evidence
    Evidence {
        #[command(subcommand)]
        command: EvidenceCommand,
    },
    /// Print the settings of a deployment for a shell, from what `aws cloudformation describe-stacks` prints; no AWS needed
    Settings {
        /// The file with it; standard input without one
        file: Option<PathBuf>,
    },
    /// Print what a shell needs to complete this command
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
struct Switch {
    /// Why, in one line: people are told
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct Decide {
    /// The run
    run: RunId,
    /// Do not wait for the function to act
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Parse a set, validate it strictly and warn of likely mistakes; no AWS needed
    Check {
        /// The file
        file: PathBuf,
        /// Say of each event in this folder how its answers change from the current set to this one
        #[arg(long)]
        events: Option<PathBuf>,
        /// The current set, for --events; by default the compiled-in one
        #[arg(long, requires = "events")]
        current: Option<PathBuf>,
        /// The security account, for --events, when policies depend on it
        #[arg(long, env = "FIREBREAK_HUB_ACCOUNT")]
        hub_account: Option<AccountId>,
    },
    /// Check a set, put it into the policy bucket and accept its hash
    Publish {
        /// The file
        file: PathBuf,
        /// Also when the check warns
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum EvidenceCommand {
    /// Copy a case's records into a folder
    Get {
        /// The case: the run's id
        case: RunId,
        /// The folder
        folder: PathBuf,
    },
    /// Check that a case's chain of records is whole
    Verify {
        /// The case: the run's id
        case: RunId,
        /// A folder with copied records; then no AWS is needed
        #[arg(long)]
        folder: Option<PathBuf>,
    },
}

/// A run's state by its name.
fn states() -> impl TypedValueParser<Value = RunState> {
    PossibleValuesParser::new(RunState::ALL.map(RunState::as_str))
        .try_map(|name| RunState::parse(&name).ok_or("a run is in no such state"))
}

fn main() -> ExitCode {
    match firebreak::lambda::on_a_long_stack(|| run(Arguments::parse())) {
        Ok(exit) => ExitCode::from(exit as u8),
        // Whoever reads it has read enough: as a shell says of one that SIGPIPE ended. What AWS was asked is another error.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(is_closed_pipe) => ExitCode::from(141),
        Err(error) => {
            let mut err = anstream::stderr().lock();
            // With standard error closed there is nobody left to tell.
            let _ = std::io::Write::write_fmt(&mut err, format_args!("firebreak: {error:#}\n"));
            ExitCode::from(if error.is::<door::Refused>() { Exit::Refused } else { Exit::Failed } as u8)
        }
    }
}

fn is_closed_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// The exit statuses. They are documented in the command's help and in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Well = 0,
    /// It is not.
    NotWell = 1,
    /// The command failed.
    Failed = 2,
    /// The door refused: the policies, or how the run stands.
    Refused = 3,
    /// More persons must say the same.
    Waits = 4,
}

impl From<bool> for Exit {
    fn from(well: bool) -> Self {
        if well { Self::Well } else { Self::NotWell }
    }
}

async fn run(arguments: Arguments) -> Result<Exit> {
    let url = arguments.operate_url.as_deref();
    let decide = async |asked: Asked, no_wait: bool| decide::run(url, asked, !no_wait).await;
    let well = match arguments.command {
        Command::Explain { files, policy, hub_account, at } => explain::run(&files, policy, hub_account, at),
        Command::Plan { event } => plan::run(&event).await,
        Command::Preflight { accounts, regions } => preflight::run(url, &accounts, regions).await,
        Command::Onboard { account, regions, vpcs } => preflight::onboard(&account, regions, vpcs).await,
        Command::Runs { most, after, state, severity, json } => {
            show::runs(url, most, after, Which { state, severity }, json).await
        }
        Command::Show { run, requests, json } => show::show(url, &run, requests, json).await,
        Command::Approve(Decide { run, no_wait }) => return decide(Asked::Approve { run }, no_wait).await,
        Command::Reject(Decide { run, no_wait }) => return decide(Asked::Reject { run }, no_wait).await,
        Command::Undo(Decide { run, no_wait }) => return decide(Asked::Undo { run }, no_wait).await,
        Command::Retry(Decide { run, no_wait }) => return decide(Asked::Retry { run }, no_wait).await,
        Command::Release(Decide { run, no_wait }) => return decide(Asked::Release { run }, no_wait).await,
        Command::Extend { decide: Decide { run, no_wait }, hours } => {
            return decide(Asked::Extend { run, hours }, no_wait).await;
        }
        Command::Request(asked) => return decide::request(url, asked).await,
        Command::Stop(Switch { reason }) => decide::switch(url, &Asked::Stop { reason }).await,
        Command::Resume(Switch { reason }) => decide::switch(url, &Asked::Resume { reason }).await,
        Command::Settings { file } => settings::run(file.as_deref()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "firebreak", &mut std::io::stdout());
            Ok(true)
        }
        Command::Policy { command: PolicyCommand::Check { file, events, current, hub_account } } => {
            policy::check(&file).and_then(|well| match events {
                None => Ok(well),
                Some(events) => changes::print(&file, current.as_deref(), &events, hub_account),
            })
        }
        Command::Policy { command: PolicyCommand::Publish { file, yes } } => policy::publish(&file, yes).await,
        Command::Evidence { command: EvidenceCommand::Get { case, folder } } => evidence::get(&case, &folder).await,
        Command::Evidence { command: EvidenceCommand::Verify { case, folder } } => {
            evidence::verify(&case, folder.as_deref()).await
        }
    };
    well.map(Exit::from)
}
