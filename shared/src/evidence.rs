//! Evidence: what was found, done and kept for a case, in a versioned bucket under Object Lock.
//!
//! Records of a case form a chain: each holds the SHA-256 of the one before it, so a record that was
//! changed, taken out or put in later shows. `verify` needs the records only, no AWS.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::failure::{Class, Failure};
use crate::ids::{AccountId, RunId};
use crate::plan::hex;

/// The store of evidence.
#[derive(Debug, Clone)]
pub struct Evidence {
    client: Client,
    bucket: String,
    /// Whose bucket it must be: a bucket of the same name in another account would get what is kept here.
    owner: AccountId,
}

/// One record of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The case: the id of the run.
    pub case: RunId,
    /// Its place in the chain, from 1.
    pub sequence: u32,
    /// What it is: `begun`, `ended`, `custody-begun`, `custody`, `undone`.
    pub kind: String,
    /// When it was written.
    pub at: Timestamp,
    /// SHA-256 of the record before it; of nothing for the first.
    pub previous: String,
    /// The contents.
    pub body: Value,
}

/// A record as it stands in the bucket or in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name: its place in the chain.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where a record went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// `s3://bucket/key`.
    pub uri: String,
    /// SHA-256 of its bytes: the head of the chain.
    pub sha256: String,
}

/// Kinds of which a case has one: how things stood at first.
const ONCE: [&str; 2] = ["begun", "custody-begun"];

fn prefix(case: &RunId) -> String {
    format!("cases/{case}/")
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Evidence {
    /// The store in `bucket`.
    pub fn new(client: Client, bucket: impl Into<String>, owner: &AccountId) -> Self {
        Self { client, bucket: bucket.into(), owner: owner.clone() }
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Appends records to a case's chain. A record of a kind and body that the chain holds already is not
    /// written again, so that a report may be delivered twice.
    pub async fn append(&self, case: &RunId, records: Vec<(&str, Value)>, now: Timestamp) -> Result<Kept, Failure> {
        // Two writers at once meet at `If-None-Match`: the second reads the chain again.
        for _ in 0..4 {
            let chain = self.read(case).await?;
            match self.append_to(case, &chain, &records, now).await {
                Err(failure) if failure.code.as_deref() == Some("PreconditionFailed") => {}
                other => return other,
            }
        }
        Err(Failure::new(Class::Transient, "append to the evidence of", case.as_str()))
    }

    async fn append_to(
        &self,
        case: &RunId,
        chain: &[Stored],
        records: &[(&str, Value)],
        now: Timestamp,
    ) -> Result<Kept, Failure> {
        let mut head = chain.last().map(|last| (last.name.clone(), sha256(&last.bytes)));
        let mut sequence = u32::try_from(chain.len()).unwrap_or(u32::MAX);
        for (kind, body) in records {
            let there = chain.iter().any(|stored| {
                serde_json::from_slice::<Record>(&stored.bytes)
                    .is_ok_and(|r| r.kind == *kind && (ONCE.contains(kind) || r.body == *body))
            });
            if there {
                continue;
            }
            sequence += 1;
            let record = Record {
                case: case.clone(),
                sequence,
                kind: (*kind).to_owned(),
                at: now,
                previous: head.as_ref().map(|(_, hash)| hash.clone()).unwrap_or_default(),
                body: body.clone(),
            };
            let bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
            // The number alone: two writers at once must meet, whatever they write.
            let name = format!("{sequence:04}.json");
            let hash = sha256(&bytes);
            self.put(&format!("{}{name}", prefix(case)), bytes).await?;
            head = Some((name, hash));
        }
        let (name, hash) = head.unwrap_or_default();
        Ok(Kept { uri: format!("s3://{}/{}{name}", self.bucket, prefix(case)), sha256: hash })
    }

    /// A durable copy of an event that could not be read, under its own hash.
    pub async fn keep_unreadable(&self, bytes: &[u8], now: Timestamp) -> Result<String, Failure> {
        let key = format!("unreadable/{}/{}", now.strftime("%Y/%m/%d"), sha256(bytes));
        match self.put(&key, bytes.to_vec()).await {
            Err(failure) if failure.code.as_deref() == Some("PreconditionFailed") => {}
            Err(failure) => return Err(failure),
            Ok(()) => {}
        }
        Ok(format!("s3://{}/{key}", self.bucket))
    }

    /// Never replaces an object.
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .expected_bucket_owner(self.owner.as_str())
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("write evidence", key))
    }

    /// The records of a case, in order.
    pub async fn read(&self, case: &RunId) -> Result<Vec<Stored>, Failure> {
        let prefix = prefix(case);
        let mut names: Vec<String> = Vec::new();
        let mut from = None;
        loop {
            let answer = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .expected_bucket_owner(self.owner.as_str())
                .prefix(&prefix)
                .set_continuation_token(from.take())
                .send()
                .await
                .map_err(Failure::from_sdk("list the evidence of", case))?;
            names.extend(answer.contents().iter().filter_map(|object| object.key()).map(str::to_owned));
            from = answer.next_continuation_token;
            if from.is_none() {
                break;
            }
        }
        names.sort();
        let mut records = Vec::with_capacity(names.len());
        for key in names {
            let object = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .expected_bucket_owner(self.owner.as_str())
                .key(&key)
                .send()
                .await
                .map_err(Failure::from_sdk("read evidence", &key))?;
            let bytes = object
                .body
                .collect()
                .await
                .map_err(|error| Failure::new(Class::Transient, "read evidence", key.clone()).because(error))?;
            let name = key.strip_prefix(&prefix).unwrap_or(&key).to_owned();
            records.push(Stored { name, bytes: bytes.to_vec() });
        }
        Ok(records)
    }

    /// Whether the bucket can be written to: a small object under `preflight/`, which stays.
    pub async fn probe(&self, now: Timestamp) -> Result<(), Failure> {
        match self.put(&format!("preflight/{}", now.strftime("%Y-%m-%d")), b"firebreak preflight\n".to_vec()).await {
            Err(failure) if failure.code.as_deref() == Some("PreconditionFailed") => Ok(()),
            other => other,
        }
    }
}

/// Checks a chain: every record is in its place, belongs to the case, and holds the hash of the one
/// before it. Answers with the hash of the last record: compare it with the one in the outcome event.
pub fn verify(case: &RunId, records: &[Stored]) -> Result<String, String> {
    if records.is_empty() {
        return Err("there are no records".to_owned());
    }
    let mut previous = String::new();
    for (index, stored) in records.iter().enumerate() {
        let broken = |what: &str| format!("{}: {what}", crate::text::plain(&stored.name, 80));
        let record: Record =
            serde_json::from_slice(&stored.bytes).map_err(|error| broken(&format!("does not parse: {error}")))?;
        if record.case != *case {
            return Err(broken("belongs to another case"));
        }
        let place = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if record.sequence != place || stored.name != format!("{place:04}.json") {
            return Err(broken(&format!("is number {place} in the chain but says {}", record.sequence)));
        }
        if record.previous != previous {
            return Err(broken("does not follow the record before it: the chain was changed"));
        }
        previous = sha256(&stored.bytes);
    }
    Ok(previous)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn chain(case: &RunId, n: u32) -> Vec<Stored> {
        let mut previous = String::new();
        (1..=n)
            .map(|sequence| {
                let record = Record {
                    case: case.clone(),
                    sequence,
                    kind: "ended".to_owned(),
                    at: "2026-11-22T00:00:00Z".parse().unwrap(),
                    previous: previous.clone(),
                    body: Value::from(sequence),
                };
                let bytes = serde_json::to_vec(&record).unwrap();
                previous = sha256(&bytes);
                Stored { name: format!("{sequence:04}.json"), bytes }
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_verifies() {
        let case = RunId::new();
        let chain = chain(&case, 3);
        assert_eq!(verify(&case, &chain), Ok(sha256(&chain[2].bytes)));
    }

    #[test]
    fn a_change_a_gap_and_a_foreign_record_show() {
        let case = RunId::new();
        let mut changed = chain(&case, 3);
        changed[1].bytes =
            String::from_utf8(changed[1].bytes.clone()).unwrap().replace("\"body\":2", "\"body\":9").into();
        assert!(verify(&case, &changed).unwrap_err().contains("0003.json: does not follow"));
        let mut gap = chain(&case, 3);
        gap.remove(1);
        assert!(verify(&case, &gap).unwrap_err().contains("is number 2 in the chain but says 3"));
        assert!(verify(&RunId::new(), &chain(&case, 1)).unwrap_err().contains("belongs to another case"));
        assert!(verify(&case, &[]).is_err());
    }
}
