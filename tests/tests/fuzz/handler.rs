//! The handler of each function: bytes in, and which calls are made. Every call is refused here, so that nothing gets
//! further than reading; that a malformed event changes nothing where every call would be carried out is in the laws
//! (`bad_input.rs`).

use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use firebreak::aws::{Aws, Connection};
use firebreak::config::Config;
use firebreak::finding::Trigger;
use firebreak::hub::Hub;
use firebreak_tests::faults::{Fault, Faults, Place, Request};
use firebreak_tests::in_process::{FUNCTIONS, Function, REGION};
use firebreak_tests::regressions;
use firebreak_tests::spoil::{runner, spoils, spoilt};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{CASES, document, documents, on_a_long_stack, try_all};

/// The key of the function's own role.
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// The security account of the events here.
pub const HUB: &str = "111111111111";

/// A client's settings over this HTTP client, with one attempt for each call.
pub fn sdk_config(http: SharedHttpClient) -> SdkConfig {
    let connection = Connection { attempts: 1, backoff: Duration::ZERO, attempt_timeout: Duration::from_secs(5), http };
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(aws_config::Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(KEY, "secret", None, None, "fuzz")))
        .http_client(connection.http.clone())
        .retry_config(connection.retries())
        .timeout_config(connection.timeouts())
        .build()
}

/// A client that refuses every call and keeps a record of each.
pub fn refusing() -> Faults {
    let faults = Faults::new(firebreak::aws::http_client(), vec![KEY.to_owned()]);
    faults.rule(|_| Some(Fault::Denied));
    faults
}

/// Settings as the template gives them.
pub fn config() -> Config {
    let vars = [
        ("FIREBREAK_HUB_ACCOUNT", HUB),
        ("FIREBREAK_LEDGER_TABLE", "ledger"),
        ("FIREBREAK_DECISIONS_TABLE", "decisions"),
        ("FIREBREAK_EVIDENCE_BUCKET", "evidence"),
        ("FIREBREAK_TOPIC_ARN", "arn:aws:sns:eu-west-1:111111111111:firebreak"),
        ("FIREBREAK_DRILLS_TABLE", "drills"),
        ("FIREBREAK_POLICY_BUCKET", "policies"),
        ("FIREBREAK_POLICY_KEY", "policies.cedar"),
        ("FIREBREAK_BREAK_GLASS", "arn:aws:iam::*:user/break-glass/admin"),
    ];
    Config::from_vars(&vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into()).unwrap()
}

/// The security account over a client.
pub fn account(http: &Faults) -> Aws {
    Aws::new(HUB.parse().unwrap(), REGION.parse().unwrap(), sdk_config(SharedHttpClient::new(http.clone())))
}

/// Hands bytes to a function. Answers with the calls that it made.
async fn served(function: &Function, bytes: &[u8]) -> Vec<Request> {
    let faults = refusing();
    let hub = Hub::new(function.name, function.playbooks, config(), account(&faults));
    // What fails is answered as well: Lambda delivers again.
    let _ = hub.serve(bytes, Instant::now() + Duration::from_secs(43)).await;
    faults.requests()
}

/// What is called for an event that cannot be read: it is kept, and people are told.
const FOR_THE_UNREADABLE: [&str; 5] =
    ["s3:PutObject", "sns:Publish", "events:PutEvents", "dynamodb:PutItem", "dynamodb:UpdateItem"];

fn check(bytes: &[u8], requests: &[Request]) -> Result<(), TestCaseError> {
    for request in requests {
        let name = request.name();
        let allowed = request.reads() || FOR_THE_UNREADABLE.contains(&name.as_str());
        prop_assert!(request.place == Place::Hub && allowed, "{:?} {name}: {}", request.place, request.body);
    }
    // One event makes a number of calls that its findings bound.
    let findings = match Trigger::parse(bytes) {
        Ok(Trigger::Findings(reported)) => reported.findings.len(),
        _ => 1,
    };
    let most = 20 + 60 * findings;
    prop_assert!(requests.len() <= most, "{} calls for {findings} findings", requests.len());
    Ok(())
}

/// The events as a queue hands them over, one of them or two.
fn batch(bodies: &[&str]) -> Value {
    let record = |body: &&str| json!({"messageId": "1", "body": body, "eventSource": "aws:sqs", "attributes": {}});
    json!({"Records": bodies.iter().map(record).collect::<Vec<_>>()})
}

fn try_to_serve(name: &'static str, short: u32, file: &'static str, of: impl Fn(&Value) -> Value + Send + 'static) {
    on_a_long_stack(move |runtime| {
        let strategy = (document(), spoils());
        try_all(name, runner(CASES, short, file, 512), &strategy, |(document, spoils)| {
            let bytes = spoilt(&of(document), &spoils);
            for function in FUNCTIONS {
                let requests = runtime.block_on(served(function, &bytes));
                check(&bytes, &requests)?;
            }
            Ok(())
        });
    });
}

#[test]
fn no_spoilt_event_makes_the_handler_panic_or_call_what_changes_anything() {
    try_to_serve("spoilt events, handled", 100, regressions!("fuzz-handler"), Value::clone);
}

#[test]
fn no_spoilt_batch_of_a_queue_makes_it_panic_or_call_what_changes_anything() {
    try_to_serve("spoilt batches, handled", 60, regressions!("fuzz-batches"), |document| {
        let text = document.to_string();
        batch(&[&text, "not JSON", &text])
    });
}

#[test]
fn no_spoilt_event_in_a_whole_batch_makes_it_panic() {
    on_a_long_stack(|runtime| {
        let strategy = (document(), spoils());
        let runner = runner(CASES, 60, regressions!("fuzz-bodies"), 512);
        try_all("spoilt events in batches", runner, &strategy, |(document, spoils)| {
            let body = String::from_utf8_lossy(&spoilt(document, &spoils)).into_owned();
            let bytes = batch(&[&body]).to_string().into_bytes();
            for function in FUNCTIONS {
                check(body.as_bytes(), &runtime.block_on(served(function, &bytes)))?;
            }
            Ok(())
        });
    });
}

/// Else the others would show nothing.
#[test]
fn an_event_that_is_answered_gets_as_far_as_it_can() {
    on_a_long_stack(|runtime| {
        for function in FUNCTIONS {
            let asks = documents().iter().any(|document| {
                let requests = runtime.block_on(served(function, document.to_string().as_bytes()));
                requests.iter().any(|request| request.operation == "AssumeRole")
            });
            assert!(asks, "{} takes no role on for any document", function.name);
        }
    });
}
