//! What can go wrong when AWS is called, and what it means for the run.

use std::error::Error;
use std::fmt;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use serde::{Deserialize, Serialize};

/// What a failure means: whether to retry, what to report, whom to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The input does not parse.
    Malformed,
    /// AWS or a rule of ours refuses; a repeat would be refused too. An outcome, not a fault.
    Refused,
    /// What was to be changed no longer exists.
    Gone,
    /// A throttle, a time-out, a fault of the service: worth another attempt.
    Transient,
    /// A permission is missing: the set-up is broken and somebody must be paged.
    Denied,
    /// The state is no longer what we left: for a person to decide.
    Conflict,
    /// An undo failed: for a person to finish.
    Stuck,
    /// An invariant of ours is broken.
    Bug,
}

impl Class {
    /// The class as it stands in logs, metrics and Lambda's `errorType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Transient => "transient",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::Stuck => "stuck",
            Self::Bug => "bug",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed operation: what was being done, to what, and how AWS answered.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {}", crate::text::quoted(target))]
pub struct Failure {
    /// What it means.
    pub class: Class,
    /// What was being done, as a verb phrase: `replace the security groups of`.
    pub doing: &'static str,
    /// To what: an id or a name.
    pub target: String,
    /// AWS's error code, when there was an answer.
    pub code: Option<String>,
    /// AWS's request id, when there was an answer.
    pub request_id: Option<String>,
    /// The cause.
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that no SDK call caused.
    pub fn new(class: Class, doing: &'static str, target: impl Into<String>) -> Self {
        Self { class, doing, target: target.into(), code: None, request_id: None, cause: None }
    }

    /// The same with its cause.
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Turns an SDK error into a failure, for `map_err`.
    pub fn from_sdk<E, R>(doing: &'static str, target: impl fmt::Display) -> impl FnOnce(SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'static,
        SdkError<E, R>: RequestId,
    {
        let target = target.to_string();
        move |error| {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned);
            let request_id = error.request_id().map(str::to_owned);
            let class = match (&error, &code) {
                (_, Some(code)) => classify(code),
                // No answer, a broken one, or one without a code: whether the call took effect is not known.
                (SdkError::ConstructionFailure(_), None) => Class::Bug,
                (_, None) => Class::Transient,
            };
            Self { class, doing, target, code, request_id, cause: Some(Box::new(error)) }
        }
    }

    /// The failure in one line for a report: what failed, AWS's code, never the whole answer.
    pub fn brief(&self) -> String {
        match &self.code {
            Some(code) => format!("{self}: {}", crate::text::plain(code, 64)),
            None => match self.cause.as_deref().and_then(innermost) {
                Some(cause) => format!("{self}: {}", crate::text::plain(&cause, 160)),
                None => self.to_string(),
            },
        }
    }
}

/// `Gone` as the absence of what was asked for.
///
/// # Errors
/// Any other failure.
pub fn gone_is_none<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.class == Class::Gone => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn innermost(error: &(dyn Error + Send + Sync)) -> Option<String> {
    let mut at: &dyn Error = error;
    while let Some(next) = at.source() {
        at = next;
    }
    Some(at.to_string())
}

/// Every message of an error's chain, for a log line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        at = cause.source();
    }
    text
}

/// The class of an AWS error code. Codes, never message texts, decide.
///
/// Sources: EC2 API reference "Error codes for the Amazon EC2 API", the common error pages of the
/// other services, and the SDK's own lists of throttling codes.
pub fn classify(code: &str) -> Class {
    match code {
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "UnauthorizedException"
        | "AuthFailure"
        | "AuthorizationError"
        | "NotAuthorized"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "SignatureDoesNotMatch"
        | "OptInRequired"
        | "Blocked"
        | "RegionDisabledException"
        | "KMSAccessDeniedException" => Class::Denied,
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "ProvisionedThroughputExceededException"
        | "TransactionInProgressException"
        | "TransactionConflictException"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException"
        | "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalErrorException"
        | "InternalException"
        | "InternalServerErrorException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ScalingActivityInProgress"
        | "ResourceContention"
        | "ConcurrentModificationException"
        | "ConcurrentModification"
        | "EntityTemporarilyUnmodifiable"
        | "ServiceFailure"
        | "IncorrectInstanceState"
        | "IncorrectState"
        | "VolumeInUse"
        | "SnapshotCreationPerVolumeRateExceeded"
        | "ConcurrentSnapshotLimitExceeded" => Class::Transient,
        "NoSuchEntity"
        | "NoSuchKey"
        | "NoSuchBucket"
        | "NoSuchConfigRuleException"
        | "TrailNotFoundException"
        | "DBSnapshotNotFound"
        | "DBClusterSnapshotNotFoundFault"
        | "ResourceNotFoundException"
        | "TargetGroupNotFound"
        | "TargetGroupNotFoundException"
        | "LoadBalancerNotFound"
        | "AccessPointNotFound"
        | "TableNotFoundException" => Class::Gone,
        code if code.ends_with(".NotFound") || code.ends_with(".Unknown") => Class::Gone,
        "InvalidInstance" => Class::Gone,
        "InvalidAddress.Locked" | "Resource.AlreadyAssociated" => Class::Conflict,
        _ => Class::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_the_class() {
        for (code, class) in [
            ("UnauthorizedOperation", Class::Denied),
            ("AccessDenied", Class::Denied),
            ("RequestLimitExceeded", Class::Transient),
            ("InternalError", Class::Transient),
            ("InvalidInstanceID.NotFound", Class::Gone),
            ("InvalidNetworkInterfaceID.NotFound", Class::Gone),
            ("InvalidGroup.NotFound", Class::Gone),
            ("UnsupportedOperation", Class::Refused),
            ("OperationNotPermitted", Class::Refused),
            ("ValidationError", Class::Refused),
            // IAM's own: a quota and a protected role, and what ends by itself.
            ("LimitExceeded", Class::Refused),
            ("UnmodifiableEntity", Class::Refused),
            ("EntityTemporarilyUnmodifiable", Class::Transient),
            ("NoSuchEntity", Class::Gone),
        ] {
            assert_eq!(classify(code), class, "{code}");
        }
    }

    #[test]
    fn display_leaves_the_cause_to_the_chain() {
        let failure = Failure::new(Class::Transient, "describe", "i-0abc\n").because("timed out");
        assert_eq!(failure.to_string(), "could not describe `i-0abc\\u{a}`");
        assert_eq!(chain(&failure), "could not describe `i-0abc\\u{a}`: timed out");
        assert_eq!(failure.brief(), "could not describe `i-0abc\\u{a}`: timed out");
    }
}
