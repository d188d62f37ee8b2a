//! People's door: requests to the function's URL, and what is asked in them.

use firebreak::door::Door;
use firebreak_tests::regressions;
use firebreak_tests::spoil::{runner, spoils, spoilt};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::handler::{HUB, account, config, refusing};
use crate::{CASES, on_a_long_stack, try_all};

const RUN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// One of everything that can be asked.
fn asked() -> Vec<Value> {
    let about = |verb: &str| json!({"do": verb, "run": RUN});
    let mut all: Vec<Value> = ["approve", "reject", "undo", "retry", "release", "show"].map(about).to_vec();
    all.extend([
        json!({"do": "extend", "run": RUN, "hours": 4}),
        json!({"do": "stop", "reason": "a mistake"}),
        json!({"do": "resume", "reason": "mended"}),
        json!({"do": "runs", "most": 5, "after": format!("2026-11-03T00:00:00Z~{RUN}")}),
        json!({
            "do": "request", "playbook": "isolate-instance", "reason": "seen by hand", "name": null,
            "target": "aws/222222222222/eu-west-1/ec2-instance/i-00000001",
        }),
    ]);
    all
}

/// As Lambda hands a request to its URL over.
fn request(body: &str) -> Value {
    json!({
        "version": "2.0", "rawPath": "/", "rawQueryString": "", "isBase64Encoded": false, "body": body,
        "headers": {"content-type": "application/json"},
        "requestContext": {
            "accountId": HUB, "timeEpoch": 0, "http": {"method": "POST", "path": "/"},
            "authorizer": {"iam": {
                "accessKey": "AKIAIOSFODNN7EXAMPLE", "accountId": HUB, "callerId": "AIDAEXAMPLE",
                "userArn": format!("arn:aws:iam::{HUB}:user/ann"), "userId": "AIDAEXAMPLE",
            }},
        },
    })
}

/// Asks, and answers with the status and with the calls that change something.
async fn ask(bytes: &[u8]) -> (u64, Vec<String>) {
    let faults = refusing();
    let door = Door::new(config(), account(&faults), operate::REQUESTABLE);
    let answer = door.receive(bytes).await;
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert!(body["answer"].is_string(), "{answer}");
    let changing = faults.requests().into_iter().filter(|request| !request.reads()).map(|request| request.name());
    (answer["statusCode"].as_u64().unwrap(), changing.collect())
}

#[test]
fn no_spoilt_request_makes_it_panic_or_changes_anything() {
    on_a_long_stack(|runtime| {
        let strategy = (select(asked()), any::<bool>(), spoils());
        let runner = runner(CASES, 1500, regressions!("fuzz-door"), 1024);
        try_all("spoilt requests", runner, &strategy, |(asked, inside, spoils)| {
            let bytes = match inside {
                true => {
                    let body = String::from_utf8_lossy(&spoilt(&asked, &spoils)).into_owned();
                    request(&body).to_string().into_bytes()
                }
                false => spoilt(&request(&asked.to_string()), &spoils),
            };
            let (status, changing) = runtime.block_on(ask(&bytes));
            prop_assert!([200, 202, 400, 403, 404, 409, 503].contains(&status), "{status}");
            // What is refused for what it is has changed nothing; what everything stops at is the ledger, refused here.
            prop_assert!(status == 503 || changing.is_empty(), "{status}: {changing:?}");
            Ok(())
        });
    });
}

/// Else the others would show nothing.
#[test]
fn each_request_that_is_whole_gets_as_far_as_the_ledger() {
    on_a_long_stack(|runtime| {
        for asked in asked() {
            let (status, _) = runtime.block_on(ask(request(&asked.to_string()).to_string().as_bytes()));
            assert_eq!(status, 503, "{asked}");
        }
    });
}
