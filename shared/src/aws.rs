//! The clients: made once, over one HTTP client and one pool of connections.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use jiff::Timestamp;

use crate::ids::{AccountId, Partition, Region};
use crate::requests::NoteRequests;

/// Amazon Trust Services' root certificates, which every AWS endpoint chains to
/// (<https://www.amazontrust.com/repository/>). Loading these few instead of the system's hundreds is
/// most of a small binary's start-up time.
const AMAZON_ROOTS: &[u8] = include_bytes!("aws/amazon-roots.pem");

/// How AWS is reached.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Attempts of one call, the first included.
    pub attempts: u32,
    /// The first wait between two attempts.
    pub backoff: Duration,
    /// The longest one attempt may take.
    pub attempt_timeout: Duration,
    /// What carries the requests.
    pub http: SharedHttpClient,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(100),
            attempt_timeout: Duration::from_secs(5),
            http: http_client(),
        }
    }
}

impl Connection {
    /// When a call is tried again.
    pub fn retries(&self) -> RetryConfig {
        RetryConfig::standard().with_max_attempts(self.attempts).with_initial_backoff(self.backoff)
    }

    /// How long a call is waited for.
    pub fn timeouts(&self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(self.attempt_timeout)
            .build()
    }
}

/// The HTTP client: Amazon's own roots, unless the environment names others
/// (`AWS_CA_BUNDLE`, else `SSL_CERT_FILE`), as behind a proxy that inspects TLS.
pub fn http_client() -> SharedHttpClient {
    let mut builder = aws_smithy_http_client::Builder::new();
    builder = builder.pool_idle_timeout(Duration::from_secs(90));
    let builder = builder.tls_provider(provider());
    match trusted() {
        Some(context) => builder.tls_context(context).build_https(),
        None => builder.build_https(),
    }
}

/// What carries one request that no client of a service makes: trusted and encrypted alike.
pub fn connector() -> Connector {
    let builder = Connector::builder().tls_provider(provider());
    match trusted() {
        Some(context) => builder.tls_context(context).build(),
        None => builder.build(),
    }
}

fn provider() -> tls::Provider {
    tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)
}

fn trusted() -> Option<TlsContext> {
    let other = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"].iter().find_map(std::env::var_os);
    let roots = match other.map(std::fs::read) {
        Some(Ok(pem)) => TrustStore::empty().with_pem_certificate(pem),
        Some(Err(_)) | None => TrustStore::empty().with_pem_certificate(AMAZON_ROOTS),
    };
    TlsContext::builder().with_trust_store(roots).build().ok()
}

/// Loads the configuration of this process: credentials, Region, endpoints, from the environment and
/// the profile files as every AWS tool does.
pub async fn load_config(connection: &Connection) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(connection.http.clone())
        .retry_config(connection.retries())
        .timeout_config(connection.timeouts())
        .load()
        .await
}

/// The time as a server of AWS told it, and when it was told. From then on the time that has passed is counted
/// here: this machine's clock may be wrong, but it does not run wrong.
#[derive(Debug, Clone, Copy)]
pub struct ServerTime {
    /// What the server said. It gives whole seconds.
    pub at: Timestamp,
    /// When it was heard.
    pub seen: Instant,
}

impl ServerTime {
    /// The time now.
    pub fn now(self) -> Timestamp {
        self.at + self.seen.elapsed()
    }
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $module:ident),* $(,)?) => {
        /// One account and Region seen with one set of credentials.
        #[derive(Debug)]
        pub struct Aws {
            /// The account the credentials belong to.
            pub account: AccountId,
            /// The Region calls go to.
            pub region: Region,
            /// The time as AWS told it when the credentials were given; absent where they were not asked for.
            pub server_time: Option<ServerTime>,
            config: SdkConfig,
            $($name: OnceLock<$module::Client>,)*
        }

        impl Aws {
            /// Clients are made when first used, and then kept.
            pub fn new(account: AccountId, region: Region, config: SdkConfig) -> Self {
                Self { account, region, server_time: None, config, $($name: OnceLock::new(),)* }
            }

            $(
                $(#[$doc])*
                pub fn $name(&self) -> &$module::Client {
                    self.$name.get_or_init(|| {
                        let config = $module::config::Builder::from(&self.config).interceptor(NoteRequests);
                        $module::Client::from_conf(config.build())
                    })
                }
            )*
        }
    };
}

clients! {
    /// Amazon EC2.
    ec2: aws_sdk_ec2,
    /// Amazon EC2 Auto Scaling.
    autoscaling: aws_sdk_autoscaling,
    /// Elastic Load Balancing, classic load balancers.
    elb: aws_sdk_elasticloadbalancing,
    /// Elastic Load Balancing v2: application, network and gateway load balancers.
    elbv2: aws_sdk_elasticloadbalancingv2,
    /// Amazon CloudFront.
    cloudfront: aws_sdk_cloudfront,
    /// AWS CloudTrail.
    cloudtrail: aws_sdk_cloudtrail,
    /// AWS Config.
    config_service: aws_sdk_config,
    /// AWS Identity and Access Management.
    iam: aws_sdk_iam,
    /// Amazon DynamoDB.
    dynamodb: aws_sdk_dynamodb,
    /// Amazon RDS.
    rds: aws_sdk_rds,
    /// Amazon S3.
    s3: aws_sdk_s3,
    /// Amazon SNS.
    sns: aws_sdk_sns,
    /// Amazon EventBridge.
    events: aws_sdk_eventbridge,
    /// Amazon GuardDuty.
    guardduty: aws_sdk_guardduty,
    /// AWS Organizations.
    organizations: aws_sdk_organizations,
    /// AWS Security Hub.
    securityhub: aws_sdk_securityhub,
    /// AWS Security Token Service.
    sts: aws_sdk_sts,
}

impl Aws {
    /// The same process configuration with other credentials, account and Region.
    pub fn with_credentials(&self, account: AccountId, region: Region, credentials: SharedCredentialsProvider) -> Self {
        let config = self
            .config
            .to_builder()
            .credentials_provider(credentials)
            // The identity cache belongs to one set of credentials.
            .identity_cache(aws_config::identity::IdentityCache::lazy().build())
            .region(aws_config::Region::new(region.as_str().to_owned()))
            .build();
        Self::new(account, region, config)
    }

    /// The same, with the time that AWS told.
    pub fn told_the_time(mut self, time: Option<ServerTime>) -> Self {
        self.server_time = time;
        self
    }

    /// The same account and credentials in another Region.
    pub fn in_region(&self, region: Region) -> Self {
        let config = self.config.to_builder().region(aws_config::Region::new(region.as_str().to_owned())).build();
        Self::new(self.account.clone(), region, config).told_the_time(self.server_time)
    }

    /// The same, named as another account and Region: for writing ARNs only, its calls would be refused.
    pub fn with_account(&self, account: AccountId, region: Region) -> Self {
        Self::new(account, region, self.config.clone())
    }

    /// The partition of the Region.
    pub fn partition(&self) -> Partition {
        self.region.partition()
    }

    /// An ARN of IAM, which has no Region, in this account, for `role/…`.
    pub fn iam_arn(&self, resource: &str) -> String {
        format!("arn:{}:iam::{}:{resource}", self.partition(), self.account)
    }

    /// An ARN in this account and Region, for `ec2`, `network-interface/eni-…`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition(), self.region, self.account)
    }
}
