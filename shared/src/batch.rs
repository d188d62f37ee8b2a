//! Events that come through a queue, several at once: each is answered for itself, and those that another delivery would
//! help go back into the queue alone.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting>

use std::time::{Duration, Instant};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use serde::Serialize;

use crate::failure::{Failure, chain};
use crate::hub::{Answer, Hub};

/// With less than this left of the function's time no further message is begun with: it comes again.
const LEAST_TIME: Duration = Duration::from_secs(20);

/// What only a message from a queue says of itself.
const FROM_A_QUEUE: &[u8] = b"\"aws:sqs\"";

/// What an invocation is answered with.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Served {
    /// One event.
    Event(Answer),
    /// Several from a queue: those that are to come again.
    Batch(SqsBatchResponse),
}

impl Hub {
    /// Answers an event, or each of those that a queue hands over.
    ///
    /// # Errors
    /// As [`Hub::receive`]. Of a queue's messages none is an error: those that failed are named.
    pub async fn serve(&self, bytes: &[u8], deadline: Instant) -> Result<Served, Failure> {
        let Some(batch) = batch(bytes) else { return self.receive(bytes, deadline).await.map(Served::Event) };
        let mut again = SqsBatchResponse::default();
        for message in batch.records {
            let left = deadline.saturating_duration_since(Instant::now());
            let answered = match (&message.body, left >= LEAST_TIME) {
                (_, false) => false,
                (None, true) => self.answered(b"", deadline).await,
                (Some(body), true) => self.answered(body.as_bytes(), deadline).await,
            };
            if !answered {
                let mut failed = BatchItemFailure::default();
                failed.item_identifier = message.message_id.unwrap_or_default();
                again.batch_item_failures.push(failed);
            }
        }
        Ok(Served::Batch(again))
    }

    async fn answered(&self, body: &[u8], deadline: Instant) -> bool {
        match self.receive(body, deadline).await {
            Ok(_) => true,
            Err(failure) => {
                tracing::error!(
                    class = failure.class.as_str(),
                    code = failure.code,
                    request_id = failure.request_id,
                    error = chain(&failure),
                    "message not answered"
                );
                false
            }
        }
    }
}

/// The messages of a queue; nothing when the event is none of a queue's. Lambda makes it, so whoever only writes messages
/// cannot.
fn batch(bytes: &[u8]) -> Option<SqsEvent> {
    if !bytes.windows(FROM_A_QUEUE.len()).any(|part| part == FROM_A_QUEUE) {
        return None;
    }
    let event: SqsEvent = serde_json::from_slice(bytes).ok()?;
    let from_a_queue = event.records.iter().all(|message| message.event_source.as_deref() == Some("aws:sqs"));
    Some(event).filter(|event| from_a_queue && !event.records.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_queue_hands_over_is_a_batch() {
        let message = json!({"messageId": "1", "body": "{}", "eventSource": "aws:sqs"});
        let found = batch(json!({"Records": [message]}).to_string().as_bytes()).unwrap();
        assert_eq!(found.records[0].message_id.as_deref(), Some("1"));
        for other in [
            json!({"Records": []}),
            json!({"source": "aws.guardduty", "detail": {"title": "\"aws:sqs\""}}),
            json!({"detail": {"eventSource": "aws:sqs"}}),
            json!({"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:s3"}, message]}),
        ] {
            assert!(batch(other.to_string().as_bytes()).is_none(), "{other}");
        }
    }
}
