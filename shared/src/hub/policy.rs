//! Which policy set is in force: the compiled-in one, or the published one whose hash was accepted.

use std::sync::{Arc, LazyLock, Mutex};

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::guard::Policies;
use crate::ids::AccountId;

/// A published set that was fetched: `None` when there is no such object, or it has not changed.
pub(crate) type Fetched = Result<Option<Published>, Failure>;

pub(crate) struct Published {
    text: String,
    etag: Option<String>,
}

#[derive(Default)]
struct Kept {
    etag: Option<String>,
    set: Option<Arc<Policies>>,
}

/// The source of policies. The last valid set stays in memory.
pub(crate) struct PolicySource {
    object: Option<(String, String)>,
    owner: AccountId,
    /// Parsed when it is first asked, or by the warm-up: not before the function says that it is ready.
    default: LazyLock<Arc<Policies>>,
    kept: Mutex<Kept>,
}

/// The set to ask, and what was wrong with the published one.
pub(crate) struct Choice {
    pub(crate) set: Arc<Policies>,
    pub(crate) problem: Option<String>,
}

impl PolicySource {
    pub(crate) fn new(object: Option<(String, String)>, owner: &AccountId) -> Self {
        let owner = owner.clone();
        Self { object, owner, default: LazyLock::new(|| Arc::new(Policies::default())), kept: Mutex::default() }
    }

    /// Parses the compiled-in set, so that the first event finds it ready.
    pub(crate) fn warm_up(&self) {
        LazyLock::force(&self.default);
    }

    /// Fetches the published set, unless it is the one in memory.
    pub(crate) async fn fetch(&self, aws: &Aws) -> Fetched {
        let Some((bucket, key)) = &self.object else { return Ok(None) };
        let etag = self.kept.lock().ok().and_then(|kept| kept.etag.clone());
        let call = aws.s3().get_object().bucket(bucket).key(key).expected_bucket_owner(self.owner.as_str());
        let answer = call.set_if_none_match(etag).send().await;
        let object = match answer {
            Ok(object) => object,
            // "Not modified" is an error without a code to the SDK.
            Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 304) => return Ok(None),
            Err(error) => {
                let failure = Failure::from_sdk("fetch policy set", key)(error);
                return if failure.class == Class::Gone { Ok(None) } else { Err(failure) };
            }
        };
        let etag = object.e_tag().map(str::to_owned);
        let bytes = object
            .body
            .collect()
            .await
            .map_err(|error| Failure::new(Class::Transient, "fetch policy set", key.clone()).because(error))?;
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|error| Failure::new(Class::Malformed, "read policy set", key.clone()).because(error))?;
        Ok(Some(Published { text, etag }))
    }

    /// The set in force. Without an accepted hash it is the compiled-in one, whatever lies in the bucket;
    /// with one it is the set of that hash. If that cannot be had, the last valid one answers, and the
    /// problem makes every answer a proposal.
    pub(crate) fn choose(&self, fetched: Fetched, accepted: Option<&str>) -> Choice {
        let Some(accepted) = accepted else {
            return Choice { set: self.default.clone(), problem: None };
        };
        let mut problem = None;
        let mut parsed = None;
        match fetched {
            // What nobody accepted is not even parsed: who may write to the bucket must not say what is read.
            Ok(Some(published)) if Policies::hash_of(&published.text) != accepted => {
                problem = Some("its hash is not the accepted one".to_owned());
            }
            Ok(Some(published)) => match Policies::parse(&published.text) {
                Ok(set) => parsed = Some((Arc::new(set), published.etag)),
                Err(error) => problem = Some(crate::text::plain(&error.to_string(), 200)),
            },
            Ok(None) => {}
            Err(failure) => problem = Some(failure.brief()),
        }
        let Ok(mut kept) = self.kept.lock() else {
            return Choice { set: self.default.clone(), problem: Some("its cache is poisoned".to_owned()) };
        };
        if let Some((set, etag)) = parsed {
            *kept = Kept { etag, set: Some(set) };
        }
        match &kept.set {
            Some(set) if set.sha256 == accepted => Choice { set: set.clone(), problem: None },
            Some(set) => Choice { set: set.clone(), problem: problem.or(Some("an older one is in memory".to_owned())) },
            None => Choice {
                set: self.default.clone(),
                problem: problem.or(Some("it is accepted in the ledger but absent from the bucket".to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PUBLISHED: &str = r#"@id("all") permit (principal, action, resource);"#;

    fn source() -> PolicySource {
        PolicySource::new(Some(("b".to_owned(), "k".to_owned())), &"111111111111".parse().unwrap())
    }

    fn published(text: &str) -> Fetched {
        Ok(Some(Published { text: text.to_owned(), etag: Some("1".to_owned()) }))
    }

    #[test]
    fn an_object_that_nobody_accepted_counts_for_nothing() {
        let source = source();
        let choice = source.choose(published(PUBLISHED), None);
        assert_eq!(choice.set.sha256, Policies::default().sha256);
    }

    #[test]
    fn the_accepted_set_is_used_and_kept() {
        let source = source();
        let hash = Policies::parse(PUBLISHED).unwrap().sha256;
        let choice = source.choose(published(PUBLISHED), Some(&hash));
        assert_eq!((choice.set.sha256.as_str(), choice.problem), (hash.as_str(), None));
        let unchanged = source.choose(Ok(None), Some(&hash));
        assert_eq!((unchanged.set.sha256.as_str(), unchanged.problem), (hash.as_str(), None));
    }

    #[test]
    fn a_changed_or_broken_object_is_a_problem_and_the_last_valid_set_stays() {
        let source = source();
        let hash = Policies::parse(PUBLISHED).unwrap().sha256;
        source.choose(published(PUBLISHED), Some(&hash));
        for text in ["permit (", r#"@id("other") permit (principal, action, resource);"#] {
            let choice = source.choose(published(text), Some("another hash"));
            assert_eq!(choice.set.sha256, hash);
            // Whether it would parse is not known: nobody accepted it.
            assert_eq!(choice.problem.as_deref(), Some("its hash is not the accepted one"));
        }
        let unreadable = Failure::new(Class::Transient, "fetch policy set", "k");
        assert!(source.choose(Err(unreadable), Some("another hash")).problem.is_some());
    }
}
