//! `firebreak evidence`: copy a case out, and check that its chain is whole.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use firebreak::evidence::{self, Stored};
use firebreak::ids::RunId;

pub(crate) async fn get(case: &RunId, folder: &Path) -> Result<bool> {
    let hub = crate::connect::hub().await?;
    let records = hub.evidence.read(case).await?;
    std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    for record in &records {
        // A name out of the bucket is one of ours or it is not written.
        let ours = record.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
            && !record.name.starts_with('.');
        if ours {
            let path = folder.join(&record.name);
            std::fs::write(&path, &record.bytes).with_context(|| format!("could not write {}", path.display()))?;
        }
    }
    writeln!(anstream::stdout(), "{} records of case {case} in {}", records.len(), folder.display())?;
    Ok(!records.is_empty())
}

pub(crate) async fn verify(case: &RunId, folder: Option<&Path>) -> Result<bool> {
    let records = match folder {
        Some(folder) => from_folder(folder)?,
        None => crate::connect::hub().await?.evidence.read(case).await?,
    };
    let mut out = anstream::stdout().lock();
    match evidence::verify(case, &records) {
        Ok(head) => {
            writeln!(out, "whole: {} records, sha256 of the last {head}", records.len())?;
            writeln!(out, "compare it with `evidence.sha256` of the case's last outcome event")?;
            Ok(true)
        }
        Err(problem) => {
            writeln!(out, "NOT whole: {problem}")?;
            Ok(false)
        }
    }
}

fn from_folder(folder: &Path) -> Result<Vec<Stored>> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = std::fs::read(entry.path()).with_context(|| format!("could not read {name}"))?;
        records.push(Stored { name, bytes });
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}
