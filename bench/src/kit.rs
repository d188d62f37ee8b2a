//! What is measured: the peers, built and packed as they are deployed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use firebreak_tests::deployment::{self, CONTAIN_COMPUTE, CONTAIN_IDENTITY};
use firebreak_tests::emulator::{Emulator, state_directory, workspace};
use firebreak_tests::lab::{Binary, Program};
use firebreak_tests::python::{self, Environment};
use tempfile::TempDir;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The functions of this repository, as they ship.
    Firebreak,
    /// A plain handler of ours over boto3 (`bench/peers/boto3/`).
    Boto3,
    /// Cloud Custodian's own handler with a policy (`bench/peers/custodian/`).
    Custodian,
}

impl Peer {
    /// All, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Firebreak, Self::Boto3, Self::Custodian];

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Firebreak => "Firebreak",
            Self::Boto3 => "boto3 handler",
            Self::Custodian => "Cloud Custodian",
        }
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incident {
    /// An instance of three interfaces and three volumes speaks to an attacker.
    Instance,
    /// A user's access key is in an attacker's hands.
    Key,
}

impl Incident {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Instance, Self::Key];

    /// The world in the member account (`tests/worlds/`).
    #[must_use]
    pub fn world(self) -> &'static str {
        match self {
            Self::Instance => "web-server",
            Self::Key => "plain-user",
        }
    }

    /// The finding (`events/guardduty/`).
    #[must_use]
    pub fn finding(self) -> &'static str {
        match self {
            Self::Instance => "command-and-control",
            Self::Key => "iam-user",
        }
    }

    /// Firebreak's function that answers.
    #[must_use]
    pub fn function(self) -> deployment::Function {
        match self {
            Self::Instance => CONTAIN_COMPUTE,
            Self::Key => CONTAIN_IDENTITY,
        }
    }

    /// Cloud Custodian's policy that works here, and the one that its documentation suggests.
    #[must_use]
    pub fn policies(self) -> [&'static str; 2] {
        match self {
            Self::Instance => ["isolate-instance", "isolate-instance-as-documented"],
            Self::Key => ["deny-user", "disable-key-as-documented"],
        }
    }
}

/// Everything that is measured, ready to be started.
#[derive(Debug)]
pub struct Kit {
    /// The emulator that all of them act on.
    pub emulator: Emulator,
    functions: BTreeMap<Incident, Binary>,
    runtime: Environment,
    code: TempDir,
    sizes: BTreeMap<String, u64>,
}

impl Kit {
    /// Packs the peers and takes Firebreak's functions out of `built`, or builds them as they ship.
    ///
    /// # Errors
    /// When something cannot be built, fetched or packed.
    pub async fn new(built: Option<&Path>, tell: &dyn Fn(&str)) -> Result<Self> {
        let mut functions = BTreeMap::new();
        for incident in Incident::ALL {
            let function = incident.function();
            let binary = match built {
                // It is started in another folder.
                Some(folder) => Binary {
                    path: fs::canonicalize(folder.join(function.name))
                        .with_context(|| format!("no {} in {}", function.name, folder.display()))?,
                    profile: "ship".to_owned(),
                },
                None => Binary::shipped(function).await?,
            };
            functions.insert(incident, binary);
        }
        let (state, peers) = (state_directory(), peers());
        let runtime = python::environment("the peers", &state, "peers", &[peers.join("runtime.txt")], tell)?;
        let packer = python::environment("Cloud Custodian", &state, "custodian", &[peers.join("custodian.txt")], tell)?;
        let code = TempDir::new().context("cannot make a folder for the peers")?;
        let policies = Incident::ALL.iter().flat_map(|incident| incident.policies());
        let policies = policies.map(|name| peers.join("custodian").join(format!("{name}.json")));
        let mut sizes = pack(&packer, code.path(), policies)?;
        sizes.extend(pack(&packer, code.path(), [PathBuf::from("--plain"), peers.join("boto3/contain.py")])?);
        let emulator = Emulator::start().await?;
        for (incident, binary) in &functions {
            sizes.insert(incident.function().name.to_owned(), zipped(&packer, &binary.path)?);
        }
        Ok(Self { emulator, functions, runtime, code, sizes })
    }

    /// Firebreak's function that answers an incident.
    ///
    /// # Errors
    /// When there is none.
    pub fn function(&self, incident: Incident) -> Result<&Binary> {
        self.functions.get(&incident).context("there is no function for it")
    }

    /// What Lambda starts of a peer; `policy` is Cloud Custodian's.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn program(&self, peer: Peer, incident: Incident, policy: &str) -> Result<Program> {
        let (folder, handler) = match peer {
            Peer::Firebreak => return Ok(Program::alone(&self.function(incident)?.path)),
            Peer::Boto3 => ("contain", "contain.handler"),
            Peer::Custodian => (policy, "custodian_policy.run"),
        };
        Ok(Program {
            path: self.runtime.python(),
            arguments: vec![peers().join("start.py").into(), handler.into()],
            directory: Some(self.code.path().join(folder)),
        })
    }

    /// The bytes of what is uploaded to Lambda.
    ///
    /// # Errors
    /// When it was not packed.
    pub fn bytes_shipped(&self, peer: Peer, incident: Incident) -> Result<u64> {
        let name = match peer {
            Peer::Firebreak => incident.function().name,
            Peer::Boto3 => "contain",
            Peer::Custodian => incident.policies()[0],
        };
        self.sizes.get(name).copied().with_context(|| format!("{name} was not packed"))
    }

    /// Where Cloud Custodian writes, in the place of `/tmp`.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.code.path().join("output")
    }

    /// The versions of what the peers are made of.
    ///
    /// # Errors
    /// When Python does not say.
    pub fn versions(&self) -> Result<String> {
        let code = "import sys, boto3, awslambdaric; print('Python', '.'.join(map(str, sys.version_info[:3])) + ',', \
                    'boto3', boto3.__version__ + ',', 'awslambdaric', awslambdaric.__version__)";
        let said = std::process::Command::new(self.runtime.python()).args(["-c", code]).output()?;
        let custodian = fs::read_to_string(peers().join("custodian.txt"))?;
        let custodian = custodian.lines().find_map(|line| line.strip_prefix("c7n==")?.split_whitespace().next());
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Ok(format!("{said}, Cloud Custodian {}", custodian.unwrap_or("of no known version")))
    }
}

fn peers() -> PathBuf {
    workspace().join("bench").join("peers")
}

fn pack(packer: &Environment, into: &Path, what: impl IntoIterator<Item = PathBuf>) -> Result<BTreeMap<String, u64>> {
    let mut command = std::process::Command::new(packer.python());
    command.arg(peers().join("pack.py")).arg(into).args(what).env("PYTHONPYCACHEPREFIX", "");
    let output = command.output().context("cannot pack the peers")?;
    if !output.status.success() {
        bail!("the peers cannot be packed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("packing the peers said something else than sizes")
}

/// The size of a function's package: it alone, named `bootstrap`, deflated.
fn zipped(packer: &Environment, function: &Path) -> Result<u64> {
    let code = "import io, sys, zipfile\nb = io.BytesIO()\nz = zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED, \
                compresslevel=9)\nz.write(sys.argv[1], 'bootstrap')\nz.close()\nprint(len(b.getvalue()))";
    let output = std::process::Command::new(packer.python()).args(["-c", code]).arg(function).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("cannot zip a function")
}
