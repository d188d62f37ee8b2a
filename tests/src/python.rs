//! Python: virtual environments with pinned packages, each made once.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The oldest Python that everything pinned runs on.
const OLDEST: (u32, u32) = (3, 10);

/// A virtual environment.
#[derive(Debug, Clone)]
pub struct Environment(PathBuf);

impl Environment {
    /// The directory of its commands.
    #[must_use]
    pub fn commands(&self) -> PathBuf {
        self.0.join(if cfg!(windows) { "Scripts" } else { "bin" })
    }

    /// Its Python.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.commands().join(if cfg!(windows) { "python.exe" } else { "python" })
    }
}

/// A virtual environment in the directory `state` that holds pinned requirements; made at the first use. `whose` says what it
/// is for.
///
/// # Errors
/// When there is no Python that is new enough, or a package cannot be had as it is pinned.
pub fn environment(
    whose: &str,
    state: &Path,
    name: &str,
    requirements: &[PathBuf],
    tell: &dyn Fn(&str),
) -> Result<Environment> {
    let mut pinned = Vec::new();
    for path in requirements {
        pinned.extend(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
    let digest = Sha256::digest(&pinned);
    let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let home = state.join(format!("{name}-{short}"));
    let environment = Environment(home.clone());
    let stamp = home.join("ready");
    if stamp.exists() {
        return Ok(environment);
    }
    // Test processes run side by side: one of them makes the environment, the others wait for it.
    let lock = File::create(state.join(format!("{name}.lock"))).context("cannot make a lock file")?;
    lock.lock().context("cannot take a lock")?;
    if stamp.exists() {
        return Ok(environment);
    }
    let base = find_python()?;
    tell(&format!("setting up a Python environment for {whose} (once)"));
    if home.exists() {
        fs::remove_dir_all(&home).context("cannot remove an unfinished Python environment")?;
    }
    let made = Command::new(&base).args(["-m", "venv"]).arg(&home).output().context("cannot run Python")?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
        if said.contains("ensurepip") || said.contains("No module named venv") {
            bail!("Python's venv module is missing: install it (on Debian and Ubuntu: apt install python3-venv)");
        }
        bail!("cannot make a Python environment: {}", last_line(&said));
    }
    let installed = Command::new(environment.python())
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2"])
        // The files name everything: pip, left to look, would want another version where an extra is asked for.
        .args(["--timeout", "20", "--no-deps", "--require-hashes"])
        .args(requirements.iter().flat_map(|path| [OsStr::new("--requirement"), path.as_os_str()]))
        .output()
        .context("cannot run pip")?;
    if !installed.status.success() {
        bail!("{}", pip_failure(&String::from_utf8_lossy(&installed.stderr)));
    }
    fs::write(&stamp, b"").context("cannot finish the Python environment")?;
    Ok(environment)
}

/// One line for a person out of what pip wrote.
fn pip_failure(said: &str) -> String {
    const NO_NETWORK: &[&str] = &[
        "NewConnectionError",
        "ConnectTimeoutError",
        "NameResolutionError",
        "Failed to establish a new connection",
        "Temporary failure in name resolution",
        "Max retries exceeded",
        "ReadTimeoutError",
        "ProxyError",
        "Could not fetch URL",
    ];
    if said.contains("DO NOT MATCH THE HASHES") {
        "a Python package is not the one that was pinned (its hash differs): check the package index that pip uses"
            .to_owned()
    } else if NO_NETWORK.iter().any(|sign| said.contains(sign)) {
        "pip cannot reach the Python package index: packages are fetched once, so connect to the \
         network (or set PIP_INDEX_URL to a mirror) and run this again"
            .to_owned()
    } else {
        format!("pip could not install the packages: {}", last_line(said))
    }
}

/// The last line of a text that says something.
pub(crate) fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given")
}

/// A Python that is new enough: the one in `FIREBREAK_PYTHON`, else the first on the path.
fn find_python() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("FIREBREAK_PYTHON") {
        let given = PathBuf::from(given);
        return match python_version(&given) {
            Some(version) if version >= OLDEST => Ok(given),
            Some((major, minor)) => bail!("FIREBREAK_PYTHON is Python {major}.{minor}; 3.10 or newer is needed"),
            None => bail!("FIREBREAK_PYTHON names no Python that runs: {}", given.display()),
        };
    }
    let mut too_old = None;
    for name in ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"] {
        match python_version(Path::new(name)) {
            Some(version) if version >= OLDEST => return Ok(PathBuf::from(name)),
            Some(version) => too_old = too_old.or(Some(version)),
            None => {}
        }
    }
    match too_old {
        Some((major, minor)) => bail!(
            "Python {major}.{minor} is too old: install Python 3.10 or newer, or name one in \
             FIREBREAK_PYTHON"
        ),
        None => bail!("Python is missing: install Python 3.10 or newer (what stands in for AWS is written in it)"),
    }
}

fn python_version(python: &Path) -> Option<(u32, u32)> {
    let output =
        Command::new(python).args(["-c", "import sys; print(*sys.version_info[:2])"]).stderr(Stdio::null()).output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
