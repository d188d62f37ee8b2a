//! People's door as they meet it: a URL. There is no Lambda service here, so a bridge on loopback stands for Lambda's: it
//! checks the request's signature, asks STS whose key it is, and hands the built function the event that a function's URL
//! would. Who calls is nothing that the caller writes.
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use aws_credential_types::Credentials as SdkCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use firebreak::aws::Connection;
use firebreak::door::client::Client;
use firebreak::door::wire::{Answer, Asked};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::deployment::{self, OPERATE, REGION};
use crate::emulator::Credentials;
use crate::lab::{Binary, Function, Lab};

/// A request is as long as this at most.
const MOST_BYTES: usize = 64 * 1024;

/// Somebody who can come to the door.
#[derive(Debug, Clone)]
struct Known {
    credentials: Credentials,
    /// As STS names whoever has the key.
    account: String,
    arn: String,
    user_id: String,
}

/// A function's URL on loopback.
#[derive(Debug)]
pub struct Door {
    /// The URL.
    pub url: String,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    /// Opens the door of a lab: the built function, under its own role, behind a URL.
    pub async fn open(lab: &Lab<'_>) -> Result<Self> {
        let binary = Binary::of(OPERATE.name).await?;
        let function = lab.start_function(&OPERATE, &binary).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let known = Arc::<Mutex<BTreeMap<String, Known>>>::default();
        let bridge = Bridge { host: host.clone(), hub: lab.hub.clone(), known: Arc::clone(&known), function };
        let serving = tokio::spawn(bridge.serve(listener));
        let door = Self { url: format!("http://{host}/"), known, serving };
        door.knows(lab, lab.person().await?).await?;
        Ok(door)
    }

    /// Lets somebody come: STS is asked who has the key.
    pub async fn knows(&self, lab: &Lab<'_>, credentials: Credentials) -> Result<()> {
        let aws = deployment::account(lab.emulator, &lab.hub, &credentials, &Connection::default())?;
        let identity = aws.sts().get_caller_identity().send().await?;
        let said = |text: Option<&str>| text.map(str::to_owned).context("STS does not say who it is");
        let known = Known {
            account: said(identity.account())?,
            arn: said(identity.arn())?,
            user_id: said(identity.user_id())?,
            credentials,
        };
        let key = known.credentials.access_key_id.clone();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, known);
        Ok(())
    }

    /// Asks at the door as somebody who can come.
    pub async fn ask(&self, lab: &Lab<'_>, who: &Credentials, asked: &Asked) -> Result<Answer> {
        let config = deployment::config(lab.emulator, who, &Connection::default());
        Ok(Client::new(&self.url, config)?.ask(asked).await?)
    }

    /// A user of the security account, with a key of its own, who can come.
    pub async fn user(&self, lab: &Lab<'_>, name: &str) -> Result<Credentials> {
        lab.at_hub("iam", "create_user", json!({"UserName": name})).await?;
        let made = lab.at_hub("iam", "create_access_key", json!({"UserName": name})).await?;
        let text = |part: &str| made["AccessKey"][part].as_str().unwrap_or_default().to_owned();
        let credentials = Credentials {
            access_key_id: text("AccessKeyId"),
            secret_access_key: text("SecretAccessKey"),
            session_token: String::new(),
        };
        self.knows(lab, credentials.clone()).await?;
        Ok(credentials)
    }

    /// A session of a role of the security account, under a name, who can come.
    pub async fn session(&self, lab: &Lab<'_>, role: &str, name: &str) -> Result<Credentials> {
        let arn = format!("arn:aws:iam::{}:role/{role}", lab.hub);
        let made = lab.at_hub("sts", "assume_role", json!({"RoleArn": arn, "RoleSessionName": name})).await?;
        let text = |part: &str| made["Credentials"][part].as_str().unwrap_or_default().to_owned();
        let credentials = Credentials {
            access_key_id: text("AccessKeyId"),
            secret_access_key: text("SecretAccessKey"),
            session_token: text("SessionToken"),
        };
        self.knows(lab, credentials.clone()).await?;
        Ok(credentials)
    }
}

/// What stands between HTTP and the Lambda Runtime API.
struct Bridge {
    host: String,
    hub: String,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    function: Function,
}

/// An HTTP request.
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Bridge {
    async fn serve(mut self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (status, body) = match self.answer(&mut stream).await {
                Ok(answer) => answer,
                // As Lambda refuses what it cannot authenticate.
                Err(why) => (403, json!({"Message": format!("{why:#}")}).to_string()),
            };
            let head = format!(
                "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }

    async fn answer(&mut self, stream: &mut TcpStream) -> Result<(u64, String)> {
        let request = tokio::time::timeout(Duration::from_secs(10), read(stream)).await??;
        let known = self.authenticate(&request)?;
        let invoked = self.function.invoke(self.event(&request, &known)).await?;
        let answer = match invoked.answer {
            Ok(answer) => answer,
            Err(_) => return Ok((502, "Internal Server Error".to_owned())),
        };
        let status = answer["statusCode"].as_u64().context("the function gave no status")?;
        Ok((status, answer["body"].as_str().unwrap_or_default().to_owned()))
    }

    /// Whose signature it is; none that does not match the request.
    fn authenticate(&self, request: &Request) -> Result<Known> {
        let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
        let authorization = header("authorization");
        let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ").context("no AWS signature")?;
        let part = |name: &str| {
            let of =
                |part: &str| part.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned);
            parts.split(',').find_map(of).with_context(|| format!("no {name}"))
        };
        let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
        let scope: Vec<&str> = credential.split('/').collect();
        let [key, day, region, service, end] = scope[..] else { bail!("no scope") };
        ensure!((region, service, end) == (REGION, "lambda", "aws4_request"), "another scope: {credential}");
        let date = header("x-amz-date");
        let time: Timestamp =
            jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)?.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp();
        ensure!(date.starts_with(day), "another day");
        // Signature Version 4 is good for five minutes.
        ensure!(Timestamp::now().duration_since(time).abs().as_mins() < 5, "the signature is old");
        ensure!(header("host") == self.host, "another host");
        let names: Vec<&str> = signed.split(';').collect();
        ensure!(names.contains(&"host") && names.contains(&"x-amz-date"), "too little is signed");
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let known = known.context("nobody has this key")?;
        let token = Some(known.credentials.session_token.clone()).filter(|token| !token.is_empty());
        ensure!(header("x-amz-security-token") == token.as_deref().unwrap_or_default(), "another session");
        let secret = &known.credentials.secret_access_key;
        let identity = SdkCredentials::new(key, secret, token, None, "bridge").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(SystemTime::from(time))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let headers = names.iter().filter(|name| !name.starts_with("x-amz-")).map(|name| (*name, header(name)));
        let url = format!("http://{}{}", self.host, request.path);
        let body = SignableBody::Bytes(request.body.as_bytes());
        let whole = SignableRequest::new(&request.method, url, headers, body)?;
        let (_, wanted) = sign(whole, &params)?.into_parts();
        ensure!(wanted == signature, "the signature does not match");
        Ok(known)
    }

    /// The event of a function's URL, payload version 2.0.
    fn event(&self, request: &Request, known: &Known) -> Value {
        let now = Timestamp::now();
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": request.path,
            "rawQueryString": "",
            "headers": request.headers,
            "requestContext": {
                "accountId": self.hub,
                "apiId": "bridge",
                "authorizer": {"iam": {
                    "accessKey": known.credentials.access_key_id,
                    "accountId": known.account,
                    "callerId": known.user_id,
                    "cognitoIdentity": null,
                    "principalOrgId": null,
                    "userArn": known.arn,
                    "userId": known.user_id,
                }},
                "domainName": format!("bridge.lambda-url.{REGION}.on.aws"),
                "domainPrefix": "bridge",
                "http": {
                    "method": request.method, "path": request.path, "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1", "userAgent": request.headers.get("user-agent"),
                },
                "requestId": "5b6f4ee8-4a3f-4a4c-9b6e-3c2f0b7f1e55",
                "routeKey": "$default",
                "stage": "$default",
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
                "timeEpoch": now.as_millisecond(),
            },
            "body": request.body,
            "isBase64Encoded": false,
        })
    }
}

async fn read(stream: &mut TcpStream) -> Result<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..end].to_vec())?;
    let mut lines = head.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, path, _] = first[..] else { bail!("no HTTP request") };
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let length: usize = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
    while bytes.len() < end + 4 + length {
        more(stream, &mut bytes).await?;
    }
    let body = String::from_utf8(bytes[end + 4..end + 4 + length].to_vec())?;
    Ok(Request { method: method.to_owned(), path: path.to_owned(), headers, body })
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<()> {
    let mut piece = [0; 4096];
    let read = stream.read(&mut piece).await?;
    ensure!(read > 0 && bytes.len() + read <= MOST_BYTES, "the request is cut off, or too long");
    bytes.extend_from_slice(&piece[..read]);
    Ok(())
}
