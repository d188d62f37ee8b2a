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
    pub request_id: Option<Box<str>>,
    /// The IAM action that is not allowed, where AWS's answer says which: `ec2:CreateTags`. A call may need others than
    /// the one of its own name.
    pub permission: Option<Box<str>>,
    /// The cause.
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that no SDK call caused.
    pub fn new(class: Class, doing: &'static str, target: impl Into<String>) -> Self {
        Self { class, doing, target: target.into(), code: None, request_id: None, permission: None, cause: None }
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
            let request_id = error.request_id().map(Box::from);
            let class = match (&error, &code) {
                (_, Some(code)) => classify(code),
                // No answer, a broken one, or one without a code: whether the call took effect is not known.
                (SdkError::ConstructionFailure(_), None) => Class::Bug,
                (_, None) => Class::Transient,
            };
            let said = error.as_service_error().and_then(ProvideErrorMetadata::message);
            let permission = said.filter(|_| class == Class::Denied).and_then(not_allowed);
            Self { class, doing, target, code, request_id, permission, cause: Some(Box::new(error)) }
        }
    }

    /// The failure in one line for a report: which permission it wants, as a report may cut the end off; what failed, and
    /// AWS's code; never the whole answer.
    pub fn brief(&self) -> String {
        match &self.code {
            Some(code) => {
                let wants = self.permission.as_ref().map(|action| format!("{action} is not allowed: "));
                format!("{}{self}: {}", wants.unwrap_or_default(), crate::text::plain(code, 64))
            }
            None => match self.cause.as_deref().and_then(innermost) {
                Some(cause) => format!("{self}: {}", crate::text::plain(&cause, 160)),
                None => self.to_string(),
            },
        }
    }
}

/// The IAM action in the message of a denial: `User: … is not authorized to perform: ec2:CreateTags on resource: …`.
/// What comes before it is AWS's own and the name of our session; names of resources come after it.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
fn not_allowed(message: &str) -> Option<Box<str>> {
    let (_, rest) = message.split_once("is not authorized to perform: ")?;
    let action = rest.split_whitespace().next()?;
    let (service, operation) = action.split_once(':')?;
    let is_service = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let named = !service.is_empty() && service.chars().all(is_service) && !operation.is_empty();
    let is_action = named && operation.chars().all(|c| c.is_ascii_alphanumeric()) && action.len() <= 128;
    is_action.then(|| action.into())
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
    fn a_denial_says_which_permission_it_wants() {
        let ec2 = "You are not authorized to perform this operation. User: arn:aws:sts::222222222222:assumed-role/isolate-instance/\
                   firebreak-01 is not authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:eu-west-1:222222222222:\
                   security-group/* because no session policy allows the ec2:CreateTags action. Encoded authorization failure \
                   message: abc";
        assert_eq!(not_allowed(ec2).as_deref(), Some("ec2:CreateTags"));
        let iam = "User: arn:aws:sts::2:assumed-role/r/s is not authorized to perform: iam:ListUsers because no identity-based \
                   policy allows the iam:ListUsers action";
        assert_eq!(not_allowed(iam).as_deref(), Some("iam:ListUsers"));
        for hostile in [
            "Access Denied",
            "is not authorized to perform: <b>ec2:StopInstances</b> on",
            "is not authorized to perform: ec2: on resource: x is not authorized to perform: iam:PassRole",
            "is not authorized to perform: ec2:Stop\u{202e}Instances",
        ] {
            assert_eq!(not_allowed(hostile), None, "{hostile}");
        }
        let denied = Failure {
            code: Some("UnauthorizedOperation".to_owned()),
            permission: Some("ec2:CreateTags".into()),
            ..Failure::new(Class::Denied, "create security group", "q")
        };
        let said = "ec2:CreateTags is not allowed: could not create security group `q`: UnauthorizedOperation";
        assert_eq!(denied.brief(), said);
    }

    #[test]
    fn display_leaves_the_cause_to_the_chain() {
        let failure = Failure::new(Class::Transient, "describe", "i-0abc\n").because("timed out");
        assert_eq!(failure.to_string(), "could not describe `i-0abc\\u{a}`");
        assert_eq!(chain(&failure), "could not describe `i-0abc\\u{a}`: timed out");
        assert_eq!(failure.brief(), "could not describe `i-0abc\\u{a}`: timed out");
    }
}
