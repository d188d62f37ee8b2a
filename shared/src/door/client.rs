//! People's side of the door: a request signed with their own credentials, by the SDK's own signer.
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html> (the service's name in the signature is `lambda`).

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

use super::wire::{Answer, Asked};
use crate::aws;

/// The longest that the door is waited for: its time-out, and a little.
const PATIENCE: Duration = Duration::from_secs(50);

/// The name of the service that is signed for.
const SERVICE: &str = "lambda";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no URL, or none that can be called.
    #[error("`{0}` is no URL of a function: it begins with https:// (http:// on this machine only)")]
    Url(String),
    /// There are no credentials to sign with.
    #[error("there are no credentials to sign with")]
    Credentials(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no Region.
    #[error("there is no Region: set AWS_REGION")]
    Region,
    /// The request could not be made or signed.
    #[error("could not sign the request")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody answered.
    #[error("no answer from {url}")]
    Silence {
        /// From where.
        url: String,
        /// What came instead.
        #[source]
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody answered who is not the door.
    #[error("{url} answered with HTTP {status}: {said}")]
    Other {
        /// Who.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of what was said.
        said: String,
    },
}

/// A function's URL, called with somebody's credentials.
#[derive(Debug)]
pub struct Client {
    url: String,
    config: SdkConfig,
}

impl Client {
    /// The door at a URL.
    ///
    /// # Errors
    /// When it is none, or would carry a signed request in the clear over a network.
    pub fn new(url: &str, config: SdkConfig) -> Result<Self, NoAnswer> {
        let no = || NoAnswer::Url(crate::text::plain(url, 200));
        let safe = url.starts_with("https://")
            || ["http://127.0.0.1:", "http://localhost:"].iter().any(|loopback| url.starts_with(loopback));
        let (_, rest) = url.split_once("://").filter(|_| safe).ok_or_else(no)?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let written = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
        if host.is_empty() || !host.bytes().all(written) {
            return Err(no());
        }
        Ok(Self { url: format!("{}/", url.strip_suffix('/').unwrap_or(url)), config })
    }

    /// Asks.
    ///
    /// # Errors
    /// When there was no answer of the door's. A refusal is an answer.
    pub async fn ask(&self, asked: &Asked) -> Result<Answer, NoAnswer> {
        let request = self.signed(asked, SystemTime::now()).await?;
        let silence = |why: Box<dyn std::error::Error + Send + Sync>| NoAnswer::Silence { url: self.url.clone(), why };
        let answered = tokio::time::timeout(PATIENCE, async {
            let mut response = aws::connector().call(request).await.map_err(|error| silence(error.into()))?;
            let status = response.status().as_u16();
            let body = aws_smithy_types::byte_stream::ByteStream::new(response.take_body());
            let bytes = body.collect().await.map_err(|error| silence(error.into()))?.to_vec();
            Ok((status, bytes))
        });
        let (status, bytes) = answered.await.map_err(|late| silence(late.into()))??;
        serde_json::from_slice(&bytes).map_err(|_| {
            let said = crate::text::plain(&String::from_utf8_lossy(&bytes), 200);
            NoAnswer::Other { url: self.url.clone(), status, said }
        })
    }

    async fn signed(&self, asked: &Asked, time: SystemTime) -> Result<HttpRequest, NoAnswer> {
        let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| NoAnswer::Sign(error);
        let body = serde_json::to_string(asked).map_err(|error| unsigned(error.into()))?;
        let none = || NoAnswer::Credentials("no provider of credentials is set up".into());
        let provider = self.config.credentials_provider().ok_or_else(none)?;
        let credentials = provider.provide_credentials().await.map_err(|error| NoAnswer::Credentials(error.into()))?;
        let region = self.config.region().ok_or(NoAnswer::Region)?.as_ref();
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(SERVICE)
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.into()))?
            .into();
        let host = self.url.split('/').nth(2).unwrap_or_default();
        let headers = [("host", host), ("content-type", "application/json")];
        let signable =
            SignableRequest::new("POST", self.url.as_str(), headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| unsigned(error.into()))?;
        let (instructions, _) = sign(signable, &params).map_err(|error| unsigned(error.into()))?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body.clone()));
        request.set_method("POST").map_err(|error| unsigned(error.into()))?;
        request.set_uri(self.url.as_str()).map_err(|error| unsigned(error.into()))?;
        for (name, value) in headers.into_iter().chain(instructions.headers()) {
            request
                .headers_mut()
                .try_insert(name.to_owned(), value.to_owned())
                .map_err(|error| unsigned(error.into()))?;
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_signed_request_is_not_sent_in_the_clear_or_to_what_is_no_url() {
        let config = || SdkConfig::builder().build();
        for url in [
            "https://abc.lambda-url.eu-west-1.on.aws/",
            "https://abc.lambda-url.eu-west-1.on.aws",
            "http://127.0.0.1:8080/",
        ] {
            assert!(Client::new(url, config()).is_ok(), "{url}");
        }
        for url in ["http://abc.lambda-url.eu-west-1.on.aws/", "abc", "https://", "https://a@b/", "https://a/b?c", ""] {
            assert!(Client::new(url, config()).is_err(), "{url}");
        }
    }
}
