//! The control database or the destination put back from an older copy, after runs that were killed: the next run goes on
//! from what the destination has.

use std::path::PathBuf;

use tempfile::TempDir;

use super::bed::{Bed, Mode, Target};
use crate::harness::copy_folder;

const ROUNDS: u64 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Control,
    Lake,
}

/// Files of an installation that are copied and put back.
struct Backup {
    what: What,
    data: PathBuf,
    copy: Option<TempDir>,
}

impl Backup {
    fn folder(&self) -> PathBuf {
        self.data.join("lake")
    }

    /// The database and its journals.
    fn files(folder: &std::path::Path) -> Vec<PathBuf> {
        let found = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("thimble.db")).collect()
    }

    fn take(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        match self.what {
            What::Lake => copy_folder(&self.folder(), &copy.path().join("lake")),
            What::Control => {
                for file in Self::files(&self.data) {
                    std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
                }
            }
        }
        self.copy = Some(copy);
    }

    fn put_back(&self) {
        let Some(copy) = &self.copy else { return };
        match self.what {
            What::Lake => {
                std::fs::remove_dir_all(self.folder()).unwrap();
                copy_folder(&copy.path().join("lake"), &self.folder());
            }
            What::Control => {
                for file in Self::files(&self.data) {
                    std::fs::remove_file(file).unwrap();
                }
                for file in Self::files(copy.path()) {
                    std::fs::copy(&file, self.data.join(file.file_name().unwrap())).unwrap();
                }
            }
        }
    }
}

async fn restore(what: What) {
    let mut bed = Bed::new("backups", Target::Lake, Mode::Append).await;
    bed.sync();
    let mut backup = Backup { what, data: bed.thimble.data(), copy: None };
    for round in 0..ROUNDS {
        bed.change();
        let point = ["after-stage", "after-seal", "after-load", "after-mirror"][bed.random(4) as usize];
        let point = format!("{point}:{}", 1 + bed.random(4));
        bed.sync_with(&point);
        let restored = bed.random(2) == 0;
        if restored {
            backup.put_back()
        } else {
            backup.take()
        }
        let after = format!("round {round}: {what:?}, killed at {point}, restored: {restored}");
        bed.sync();
        bed.assert_exact(&after).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_database_from_a_backup_follows_the_destination() {
    restore(What::Control).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_from_a_backup_is_filled_again() {
    restore(What::Lake).await;
}

/// Staging that was emptied behind Thimble's back, or that was put back from before.
async fn emptied_staging(name: &str, target: Target) {
    let mut bed = Bed::new(name, target, Mode::Append).await;
    bed.sync();
    for hit in 1..=3 {
        bed.change();
        let killed = bed.sync_with(&format!("after-seal:{hit}"));
        assert!(!killed.status.success());
        std::fs::remove_dir_all(bed.thimble.data().join("staging")).unwrap();
        bed.sync();
        bed.assert_exact(&format!("staging emptied after seal {hit}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_from_staging_is_extracted_again_into_the_lake() {
    emptied_staging("emptied_lake", Target::Lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_from_staging_is_extracted_again_into_postgres() {
    emptied_staging("emptied_postgres", Target::Postgres).await;
}
