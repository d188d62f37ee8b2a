//! Faults: an HTTP client between the SDK and the emulator that names every request, and by a rule throttles it,
//! refuses it, loses it or its answer, never answers it, or ends the process at it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use firebreak::action::Boxed;
use firebreak::plan::StepId;
use serde_json::json;
use tokio::sync::{Notify, oneshot};

tokio::task_local! {
    static DOING: Doing;
}

/// What the code that makes a call is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// A playbook plans, or checks by planning again.
    Planning,
    /// An action carries a step out.
    Applying(StepId),
    /// An action takes a step back.
    Undoing(StepId),
    /// An action reads the state of a step.
    Reading(StepId),
    /// Anything else: the loop itself.
    Other,
}

impl Doing {
    /// The step, if it is about one.
    #[must_use]
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::Applying(id) | Self::Undoing(id) | Self::Reading(id) => Some(id),
            Self::Planning | Self::Other => None,
        }
    }
}

/// The same future, whose calls are recorded as made while `doing` this.
pub fn while_doing<'a, T: Send + 'a>(doing: Doing, future: Boxed<'a, T>) -> Boxed<'a, T> {
    Box::pin(DOING.scope(doing, future))
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// AWS answers that there are too many requests.
    Throttled,
    /// AWS answers that the permission is missing.
    Denied,
    /// AWS answers with a fault of its own.
    ServerError,
    /// The connection breaks before the request is sent.
    NotSent,
    /// AWS carries the request out; its answer is lost.
    ReplyLost,
    /// No answer ever comes; the request is not carried out.
    Hangs,
    /// AWS answers that it was done, and it was not. Only of calls to EC2 that answer with nothing else.
    Pretended,
    /// The process ends just before the request is sent.
    DiesBefore,
    /// The process ends when AWS has carried the request out, before it reads the answer.
    DiesAfter,
}

/// Where a request acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the security account, with the function's own role.
    Hub,
    /// In a member account, with a session of a playbook's role.
    Member,
}

/// A request, named.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its place among the requests of this process.
    pub index: usize,
    /// Where it acts.
    pub place: Place,
    /// The service that it is signed for, which is the prefix of its IAM actions: `ec2`.
    pub service: String,
    /// The operation: `DescribeInstances`.
    pub operation: String,
    /// The call that it is an attempt of: the SDK gives every attempt of a call the same id.
    pub call: String,
    /// The access key that signed it.
    pub access_key: String,
    /// Where it is sent: S3 has the bucket and the key in it.
    pub uri: String,
    /// Its body, as text.
    pub body: String,
    /// What the code that made it was doing.
    pub doing: Doing,
    /// What was done to it.
    pub fault: Option<Fault>,
    /// The request id in AWS's answer.
    pub answered: Option<String>,
}

impl Request {
    /// `ec2:DescribeInstances`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.service, self.operation)
    }

    /// Whether it only reads. The verb decides; `AssumeRole` gives power and changes nothing.
    #[must_use]
    pub fn reads(&self) -> bool {
        const READS: [&str; 6] = ["Describe", "List", "Get", "Lookup", "Query", "AssumeRole"];
        READS.iter().any(|prefix| self.operation.starts_with(prefix))
    }

    /// Whether it writes into the ledger or the decisions' table.
    #[must_use]
    pub fn writes_ledger(&self) -> bool {
        self.service == "dynamodb" && !self.reads()
    }
}

/// Says what happens to a request.
pub type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// What somebody else does while the function is at work.
struct Deed {
    which: Box<dyn Fn(&Request) -> bool + Send>,
    moment: Moment,
    does: Boxed<'static, Result<()>>,
    tell: oneshot::Sender<Result<()>>,
}

impl Deed {
    async fn done(self) {
        // Whoever does not want to know has let the receiver go.
        let _ = self.tell.send(self.does.await);
    }
}

/// What somebody else does each time.
struct Habit {
    which: Box<dyn Fn(&Request) -> bool + Send>,
    does: Box<dyn Fn() -> Boxed<'static, Result<()>> + Send>,
}

/// When somebody else does something: the request waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the request is sent.
    Before,
    /// When it was answered, before the function reads the answer.
    After,
}

/// Whether it came to what somebody else was to do.
#[derive(Debug)]
pub struct Meanwhile(oneshot::Receiver<Result<()>>);

impl Meanwhile {
    /// Fails when it did not come to that, or when it failed.
    pub fn happened(mut self) -> Result<()> {
        self.0.try_recv().context("it did not come to what somebody else was to do")?
    }
}

/// The client with its rule and its record. Clones share both.
#[derive(Clone)]
pub struct Faults {
    inner: SharedHttpClient,
    shared: Arc<Shared>,
}

struct Shared {
    hub_keys: Vec<String>,
    rule: Mutex<Option<Rule>>,
    requests: Mutex<Vec<Request>>,
    sessions: Mutex<BTreeMap<String, String>>,
    /// What changes something in a member account, as it was sent, by its place among the requests.
    sent: Mutex<BTreeMap<usize, HttpRequest>>,
    connector: Mutex<Option<SharedHttpConnector>>,
    meanwhile: Mutex<Option<Deed>>,
    habit: Mutex<Option<Habit>>,
    dead: AtomicBool,
    died: Notify,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Faults").field("requests", &held(&self.shared.requests).len()).finish_non_exhaustive()
    }
}

impl Faults {
    /// A client without faults over `inner`. Requests signed with one of `hub_keys` act in the security account.
    #[must_use]
    pub fn new(inner: SharedHttpClient, hub_keys: Vec<String>) -> Self {
        let shared = Shared {
            hub_keys,
            rule: Mutex::default(),
            requests: Mutex::default(),
            sessions: Mutex::default(),
            sent: Mutex::default(),
            connector: Mutex::default(),
            meanwhile: Mutex::default(),
            habit: Mutex::default(),
            dead: AtomicBool::new(false),
            died: Notify::new(),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    /// Sets the rule from now on.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        *held(&self.shared.rule) = Some(Box::new(rule));
    }

    /// Injects `fault` at the first request that `which` names, once. Answers with whether it came to that, later.
    pub fn once(&self, fault: Fault, which: impl Fn(&Request) -> bool + Send + 'static) -> Arc<AtomicBool> {
        let hit = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&hit);
        self.rule(move |request| (which(request) && !flag.swap(true, Ordering::SeqCst)).then_some(fault));
        hit
    }

    /// No faults from now on.
    pub fn mend(&self) {
        *held(&self.shared.rule) = None;
    }

    /// Lets somebody else do something at the first request that `which` names, once.
    pub fn meanwhile(
        &self,
        moment: Moment,
        which: impl Fn(&Request) -> bool + Send + 'static,
        does: Boxed<'static, Result<()>>,
    ) -> Meanwhile {
        let (tell, told) = oneshot::channel();
        *held(&self.shared.meanwhile) = Some(Deed { which: Box::new(which), moment, does, tell });
        Meanwhile(told)
    }

    /// Lets somebody else do something whenever a request that `which` names was answered, before the function reads the
    /// answer.
    pub fn whenever(
        &self,
        which: impl Fn(&Request) -> bool + Send + 'static,
        does: impl Fn() -> Boxed<'static, Result<()>> + Send + 'static,
    ) {
        *held(&self.shared.habit) = Some(Habit { which: Box::new(which), does: Box::new(does) });
    }

    /// Nobody does anything any more.
    pub fn nobody(&self) {
        *held(&self.shared.habit) = None;
        *held(&self.shared.meanwhile) = None;
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        held(&self.shared.requests).clone()
    }

    /// What people were told, in the words of each message that was sent and not hindered.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let sent =
            self.requests().into_iter().filter(|request| request.operation == "Publish" && request.fault.is_none());
        let text = |body: &str| body.split('&').find_map(|pair| pair.strip_prefix("Message=")).map(decoded);
        sent.filter_map(|request| text(&request.body)).collect()
    }

    /// The session policies that were asked for, by the access key of the session.
    #[must_use]
    pub fn sessions(&self) -> BTreeMap<String, String> {
        held(&self.shared.sessions).clone()
    }

    /// Sends a request of [`Faults::requests`] once more, as whoever holds its session could: with texts in the place of
    /// others, raw or encoded. Only of those that change something in a member account. Answers with status and body;
    /// nothing where none of the texts is in it.
    pub async fn again(&self, request: &Request, swaps: &[(&str, &str)]) -> Result<Option<(u16, String)>> {
        let mut sent = {
            let sent = held(&self.shared.sent);
            let sent = sent.get(&request.index).and_then(HttpRequest::try_clone);
            sent.with_context(|| format!("{} was not kept", request.name()))?
        };
        // Longest first, and each only once: a name may be the beginning of another, and of what takes its place.
        let mut pairs: Vec<(String, String)> = swaps
            .iter()
            .flat_map(|(old, new)| [((*old).to_owned(), (*new).to_owned()), (encoded(old), encoded(new))])
            .collect();
        pairs.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        let (mut uri, mut body) = (sent.uri().to_owned(), request.body.clone());
        for (n, (old, _)) in pairs.iter().enumerate() {
            (uri, body) = (uri.replace(old, &format!("\u{1}{n}\u{1}")), body.replace(old, &format!("\u{1}{n}\u{1}")));
        }
        for (n, (_, new)) in pairs.iter().enumerate() {
            (uri, body) = (uri.replace(&format!("\u{1}{n}\u{1}"), new), body.replace(&format!("\u{1}{n}\u{1}"), new));
        }
        if uri == sent.uri() && body == request.body {
            return Ok(None);
        }
        sent.set_uri(uri)?;
        sent.headers_mut().insert("content-length", body.len().to_string());
        *sent.body_mut() = SdkBody::from(body);
        let connector = held(&self.shared.connector).clone().context("nothing was sent yet")?;
        let answered = connector.call(sent).await.map_err(|error| anyhow!("{error:?}"))?;
        let (answered, body) = whole(answered).await.map_err(|error| anyhow!("{error:?}"))?;
        Ok(Some((answered.status().as_u16(), body)))
    }

    /// Whether a rule has ended the process.
    #[must_use]
    pub fn dead(&self) -> bool {
        self.shared.dead.load(Ordering::SeqCst)
    }

    /// Waits until a rule ends the process.
    pub async fn died(&self) {
        let died = self.shared.died.notified();
        if !self.dead() {
            died.await;
        }
    }

    fn die(&self) {
        self.shared.dead.store(true, Ordering::SeqCst);
        self.shared.died.notify_waiters();
    }

    fn note(&self, request: &HttpRequest) -> (Request, Option<Deed>) {
        let header = |name: &str| request.headers().get(name).unwrap_or_default();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let (access_key, service) = signed_by(header("authorization"));
        let operation = operation(&service, request.method(), request.uri(), header("x-amz-target"), &body);
        let place = if self.shared.hub_keys.contains(&access_key) { Place::Hub } else { Place::Member };
        let doing = DOING.try_with(Clone::clone).unwrap_or(Doing::Other);
        let (uri, call) = (request.uri().to_owned(), header("amz-sdk-invocation-id").to_owned());
        let mut requests = held(&self.shared.requests);
        let index = requests.len();
        let mut noted = Request {
            index,
            place,
            service,
            operation,
            call,
            access_key,
            uri,
            body,
            doing,
            fault: None,
            answered: None,
        };
        noted.fault = held(&self.shared.rule).as_mut().and_then(|rule| rule(&noted));
        if place == Place::Member && !noted.reads() {
            held(&self.shared.sent).extend(request.try_clone().map(|sent| (index, sent)));
        }
        requests.push(noted.clone());
        let mut meanwhile = held(&self.shared.meanwhile);
        let deed = if meanwhile.as_ref().is_some_and(|deed| (deed.which)(&noted)) { meanwhile.take() } else { None };
        (noted, deed)
    }
}

/// Access key and service of a Signature Version 4 header.
pub(crate) fn signed_by(authorization: &str) -> (String, String) {
    let scope = authorization.split("Credential=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    let parts: Vec<&str> = scope.split('/').collect();
    let part = |n: usize| parts.get(n).map_or_else(String::new, |part| (*part).to_owned());
    (part(0), part(3))
}

/// The operation of a request, by what the protocols write it into.
pub(crate) fn operation(service: &str, method: &str, uri: &str, target: &str, body: &str) -> String {
    if let Some((_, operation)) = target.rsplit_once('.') {
        return operation.to_owned();
    }
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    match service {
        "s3" => match (method, query.split(['&', '=']).next().unwrap_or_default()) {
            ("GET", "list-type") => "ListObjectsV2",
            ("GET", "acl") => "GetBucketAcl",
            ("GET", "policyStatus") => "GetBucketPolicyStatus",
            ("GET", "publicAccessBlock") => "GetPublicAccessBlock",
            ("GET", "tagging") => "GetBucketTagging",
            ("GET", "website") => "GetBucketWebsite",
            ("PUT", "publicAccessBlock") => "PutPublicAccessBlock",
            ("DELETE", "publicAccessBlock") => "DeletePublicAccessBlock",
            ("GET", _) => "GetObject",
            ("PUT", _) => "PutObject",
            _ => method,
        }
        .to_owned(),
        "cloudfront" if path.ends_with("/distribution") => "ListDistributions".to_owned(),
        "securityhub" if path.ends_with("/findings") => "GetFindings".to_owned(),
        "securityhub" if path.ends_with("/findings/batchupdate") => "BatchUpdateFindings".to_owned(),
        "guardduty" if path.ends_with("/findings/get") => "GetFindings".to_owned(),
        "guardduty" if path.ends_with("/detector") => "ListDetectors".to_owned(),
        _ => body
            .split('&')
            .find_map(|pair| pair.strip_prefix("Action="))
            .map_or_else(|| format!("{method} {path}"), str::to_owned),
    }
}

impl HttpClient for Faults {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        *held(&self.shared.connector) = Some(inner.clone());
        SharedHttpConnector::new(Connector { inner, faults: self.clone() })
    }
}

#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    faults: Faults,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let faults = self.faults.clone();
        if faults.dead() {
            return HttpConnectorFuture::new(std::future::pending());
        }
        let (noted, deed) = faults.note(&request);
        let inner = self.inner.clone();
        HttpConnectorFuture::new(async move {
            let (before, after) = match deed {
                Some(deed) if deed.moment == Moment::Before => (Some(deed), None),
                deed => (None, deed),
            };
            if let Some(deed) = before {
                deed.done().await;
            }
            let answer = carried_out(&inner, request, &noted, &faults).await;
            if let Some(deed) = after {
                deed.done().await;
            }
            let again = {
                let habit = held(&faults.shared.habit);
                habit.as_ref().filter(|habit| (habit.which)(&noted)).map(|habit| (habit.does)())
            };
            match again {
                Some(does) => does.await.map_err(|error| ConnectorError::other(error.into(), None)).and(answer),
                None => answer,
            }
        })
    }
}

/// The request's answer, or what its fault makes of it.
async fn carried_out(
    inner: &SharedHttpConnector,
    request: HttpRequest,
    noted: &Request,
    faults: &Faults,
) -> Result<HttpResponse, ConnectorError> {
    match noted.fault {
        None if noted.operation == "AssumeRole" => {
            let (response, body) = whole(inner.call(request).await?).await?;
            if let Some(key) = between(&body, "<AccessKeyId>", "</AccessKeyId>") {
                held(&faults.shared.sessions).insert(key, policy_in(&noted.body));
            }
            Ok(response)
        }
        None => {
            let response = inner.call(request).await?;
            if let Some(request) = held(&faults.shared.requests).get_mut(noted.index) {
                request.answered = response.headers().get("x-amzn-requestid").map(str::to_owned);
            }
            Ok(response)
        }
        Some(fault @ (Fault::Throttled | Fault::Denied | Fault::ServerError)) => answer(noted, fault),
        Some(Fault::Pretended) => {
            let name = &noted.operation;
            let body = format!("<{name}Response><return>true</return></{name}Response>");
            let ok = StatusCode::try_from(200).map_err(|error| ConnectorError::other(Box::new(error), None))?;
            Ok(HttpResponse::new(ok, SdkBody::from(body)))
        }
        Some(Fault::NotSent) => Err(broken("the connection could not be made")),
        Some(Fault::ReplyLost) => {
            whole(inner.call(request).await?).await?;
            Err(broken("the connection ended before the answer"))
        }
        Some(Fault::Hangs) => std::future::pending().await,
        Some(Fault::DiesBefore) => {
            faults.die();
            std::future::pending().await
        }
        Some(Fault::DiesAfter) => {
            whole(inner.call(request).await?).await?;
            faults.die();
            std::future::pending().await
        }
    }
}

fn broken(why: &'static str) -> ConnectorError {
    ConnectorError::io(Box::new(std::io::Error::new(std::io::ErrorKind::ConnectionReset, why)))
}

/// The answer, read to its end, so that the server has carried the request out.
async fn whole(mut response: HttpResponse) -> Result<(HttpResponse, String), ConnectorError> {
    let body = std::mem::replace(response.body_mut(), SdkBody::empty());
    let bytes = ByteStream::new(body).collect().await.map_err(|error| ConnectorError::other(Box::new(error), None))?;
    let bytes = bytes.into_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    *response.body_mut() = SdkBody::from(bytes);
    Ok((response, text))
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    Some(text.split(start).nth(1)?.split(end).next()?.to_owned())
}

/// The `Policy` of an `AssumeRole` body.
fn policy_in(body: &str) -> String {
    let encoded = body.split('&').find_map(|pair| pair.strip_prefix("Policy=")).unwrap_or_default();
    decoded(encoded)
}

/// Form encoding undone.
#[must_use]
pub fn decoded(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits).into_owned();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text in form encoding.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// An error in the shape of the service's protocol, with the code that the service uses.
fn answer(request: &Request, fault: Fault) -> Result<HttpResponse, ConnectorError> {
    let service = request.service.as_str();
    let (status, code) = match (fault, service) {
        (Fault::Throttled, "ec2") => (503, "RequestLimitExceeded"),
        (Fault::Throttled, "s3") => (503, "SlowDown"),
        (Fault::Throttled, "dynamodb" | "events" | "cloudtrail") => (400, "ThrottlingException"),
        (Fault::Throttled, "organizations") => (400, "TooManyRequestsException"),
        (Fault::Throttled, "guardduty" | "securityhub") => (429, "TooManyRequestsException"),
        (Fault::Throttled, _) => (400, "Throttling"),
        (Fault::Denied, "ec2") => (403, "UnauthorizedOperation"),
        (
            Fault::Denied,
            "dynamodb" | "events" | "guardduty" | "organizations" | "cloudtrail" | "securityhub" | "config",
        ) => (400, "AccessDeniedException"),
        (Fault::Denied, _) => (403, "AccessDenied"),
        (_, "dynamodb" | "events" | "cloudtrail") => (500, "InternalServerError"),
        (_, "organizations") => (500, "ServiceException"),
        (_, "guardduty") => (500, "InternalServerErrorException"),
        (_, "securityhub") => (500, "InternalException"),
        (_, "ec2" | "s3") => (500, "InternalError"),
        (_, _) => (500, "InternalFailure"),
    };
    let message = "injected by a test";
    let body = match service {
        "ec2" => format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
             <RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
        ),
        "s3" => format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
        "dynamodb" | "events" | "guardduty" | "organizations" | "cloudtrail" | "securityhub" | "config" => {
            json!({"__type": code, "message": message}).to_string()
        }
        _ => format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
        ),
    };
    let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(Box::new(error), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    if matches!(service, "guardduty" | "securityhub") {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_names_key_and_service() {
        let header = "AWS4-HMAC-SHA256 Credential=ASIAX/20261103/eu-west-1/ec2/aws4_request, SignedHeaders=host";
        assert_eq!(signed_by(header), ("ASIAX".to_owned(), "ec2".to_owned()));
        assert_eq!(signed_by(""), (String::new(), String::new()));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let arn = "arn:aws:iam::1:user/a+b c";
        assert_eq!(encoded(arn), "arn%3Aaws%3Aiam%3A%3A1%3Auser%2Fa%2Bb%20c");
        assert_eq!(decoded(&encoded(arn)), arn);
    }

    #[test]
    fn a_session_policy_is_read_out_of_a_form() {
        assert_eq!(policy_in("Action=AssumeRole&Policy=%7B%22a+b%22%3A1%7D&Version=1"), "{\"a b\":1}");
    }
}
