//! The faults, and how one strikes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::{Point, calls};
use crate::faults::Fault;
use crate::in_process::{Case, Settings};

/// What happens to a call. A call is tried three times by the SDK: of what that can mend, the first attempt is struck, which
/// the SDK answers by itself, or, `…-throughout`, every attempt, which the loop feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Trial {
    /// Too many requests, at the first attempt
    Throttled,
    /// Too many requests, at every attempt
    ThrottledThroughout,
    /// A fault of AWS's own, at the first attempt
    ServerError,
    /// A fault of AWS's own, at every attempt
    ServerErrorThroughout,
    /// The connection breaks before the first attempt is sent
    NotSent,
    /// The connection breaks before each attempt is sent
    NotSentThroughout,
    /// The first attempt is carried out, and its answer is lost
    ReplyLost,
    /// Every attempt is carried out, and its answer is lost
    ReplyLostThroughout,
    /// The first attempt is never answered
    Hangs,
    /// No attempt is answered
    HangsThroughout,
    /// The permission is missing
    Denied,
    /// The call is not answered before the function's time is over
    OutOfTime,
    /// The process ends before the call is sent
    DiesBefore,
    /// The process ends when the call was carried out, before it reads the answer
    DiesAfter,
}

/// The longest that an attempt may take where one is never answered: longer than a busy emulator takes.
const SHORT_ATTEMPT: Duration = Duration::from_secs(3);

/// What an attempt may take where the function's time ends first.
const ENDLESS: Duration = Duration::from_secs(120);

impl Trial {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Throttled,
        Self::ThrottledThroughout,
        Self::ServerError,
        Self::ServerErrorThroughout,
        Self::NotSent,
        Self::NotSentThroughout,
        Self::ReplyLost,
        Self::ReplyLostThroughout,
        Self::Hangs,
        Self::HangsThroughout,
        Self::Denied,
        Self::OutOfTime,
        Self::DiesBefore,
        Self::DiesAfter,
    ];

    fn fault(self) -> Fault {
        match self {
            Self::Throttled | Self::ThrottledThroughout => Fault::Throttled,
            Self::ServerError | Self::ServerErrorThroughout => Fault::ServerError,
            Self::NotSent | Self::NotSentThroughout => Fault::NotSent,
            Self::ReplyLost | Self::ReplyLostThroughout => Fault::ReplyLost,
            Self::Hangs | Self::HangsThroughout | Self::OutOfTime => Fault::Hangs,
            Self::Denied => Fault::Denied,
            Self::DiesBefore => Fault::DiesBefore,
            Self::DiesAfter => Fault::DiesAfter,
        }
    }

    /// Whether every attempt is struck.
    fn throughout(self) -> bool {
        matches!(
            self,
            Self::ThrottledThroughout
                | Self::ServerErrorThroughout
                | Self::NotSentThroughout
                | Self::ReplyLostThroughout
                | Self::HangsThroughout
                | Self::OutOfTime
        )
    }

    /// Whether nothing but the end of an undisturbed run will do: what the SDK mends, and the end of a process.
    #[must_use]
    pub fn must_converge(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::ServerError
                | Self::NotSent
                | Self::ReplyLost
                | Self::Hangs
                | Self::DiesBefore
                | Self::DiesAfter
        )
    }

    /// How the function is set up for it.
    pub(super) fn settings(self) -> Settings {
        let attempt_timeout = match self {
            Self::Hangs | Self::HangsThroughout => SHORT_ATTEMPT,
            Self::OutOfTime => ENDLESS,
            _ => Settings::default().attempt_timeout,
        };
        Settings { attempt_timeout, ..Settings::default() }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A fault that waits for its call.
pub(super) struct Armed {
    /// What is left of the function's time runs out at it.
    pub(super) ends_time: bool,
    struck: Arc<AtomicBool>,
}

impl Armed {
    /// No fault.
    pub(super) fn never() -> Self {
        Self { ends_time: false, struck: Arc::default() }
    }

    /// Whether the call was made.
    pub(super) fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }
}

/// Lets a fault wait for its call in the process of the case.
pub(super) fn arm(case: &Case, point: &Point) -> Result<Armed> {
    let armed = Armed { ends_time: point.trial == Trial::OutOfTime, struck: Arc::default() };
    let (trial, wanted, struck) = (point.trial, point.call.clone(), Arc::clone(&armed.struck));
    let mut names = calls::Names::of(case);
    let mut its = None;
    case.faults.rule(move |request| {
        if names.name(request).is_some_and(|name| name == wanted) {
            its = Some(request.call.clone());
            struck.store(true, Ordering::SeqCst);
            return Some(trial.fault());
        }
        (trial.throughout() && its.as_ref() == Some(&request.call)).then(|| trial.fault())
    });
    Ok(armed)
}
