//! The request ids of changing calls: the names by which AWS's own records (CloudTrail) know what we did.
//!
//! Every client notes them, so no action can forget it. They are kept for whoever asked for them around a
//! future; anywhere else nothing is kept.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::FinalizerInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::request_id::RequestId;
use serde::{Deserialize, Serialize};

use crate::session::only_reads;

/// A changing call that AWS has answered, well or not. Each attempt has an id of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsRequest {
    /// The operation, as CloudTrail names the event: `CreateSnapshots`.
    pub operation: String,
    /// The id that AWS gave it.
    pub request_id: String,
}

tokio::task_local! {
    static NOTED: Arc<Mutex<Vec<AwsRequest>>>;
}

/// What a future ends with, and the changing calls that were answered while it ran, in order.
pub async fn noting<T>(future: impl Future<Output = T>) -> (T, Vec<AwsRequest>) {
    let noted = Arc::<Mutex<Vec<AwsRequest>>>::default();
    let ended = NOTED.scope(Arc::clone(&noted), future).await;
    let noted = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
    (ended, noted)
}

/// Notes the request ids of changing calls. Part of every client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoteRequests;

impl Intercept for NoteRequests {
    fn name(&self) -> &'static str {
        "NoteRequests"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = config.load::<Metadata>().map(Metadata::name).filter(|name| !only_reads(name)) else {
            return Ok(());
        };
        // Without an answer there is no id.
        let Some(request_id) = context.response().and_then(RequestId::request_id) else { return Ok(()) };
        let request = AwsRequest { operation: operation.to_owned(), request_id: crate::text::plain(request_id, 128) };
        // Outside of any scope nobody wants it.
        let _ = NOTED.try_with(|noted| noted.lock().unwrap_or_else(PoisonError::into_inner).push(request));
        Ok(())
    }
}
