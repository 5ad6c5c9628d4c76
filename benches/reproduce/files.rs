//! The CSV files under `papers/data`.

use crate::support::Outcome;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where data and figures go.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) data: PathBuf,
    pub(crate) figures: PathBuf,
}

impl Folders {
    pub(crate) fn make(papers: &Path) -> Outcome<Self> {
        let folders = Self { data: papers.join("data"), figures: papers.join("figures") };
        for folder in [&folders.data, &folders.figures] {
            std::fs::create_dir_all(folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        }
        Ok(folders)
    }
    pub(crate) fn csv(&self, name: &str) -> PathBuf {
        self.data.join(name).with_extension("csv")
    }
}

/// The file's rows; none if there is no file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Outcome<Vec<T>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let failed = |error: csv::Error| format!("can't read {}: {error}", path.display());
    let mut reader = csv::Reader::from_path(path).map_err(failed)?;
    Ok(reader.deserialize().collect::<Result<_, _>>().map_err(failed)?)
}

/// Writes a whole file: first beside it, so that a killed run leaves the old one.
pub(crate) fn write<T: Serialize>(path: &Path, rows: &[T]) -> Outcome<()> {
    let beside = path.with_extension("csv.part");
    let failed = |error: &dyn std::error::Error| format!("can't write {}: {error}", path.display());
    let mut writer = csv::Writer::from_writer(File::create(&beside).map_err(|error| failed(&error))?);
    for row in rows {
        writer.serialize(row).map_err(|error| failed(&error))?;
    }
    writer.flush().map_err(|error| failed(&error))?;
    std::fs::rename(&beside, path).map_err(|error| failed(&error))?;
    Ok(())
}
