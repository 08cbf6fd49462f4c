//! Where a pool can be overridden without touching its file.
//!
//! A pool's section may stand in several files. Of a directive (`pm.max_children`) the last one wins; of
//! `php_admin_value[memory_limit]` the first one does, and it wins over `php_value` and php.ini wherever these
//! stand. So it takes two files: one that is read before all others, and one that is read after them.

use std::path::{Path, PathBuf};

use super::{Pool, Site};

/// Two files that do not exist yet, or are ones of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropIn {
    /// Read before all pools: for `php_admin_value[…]`.
    pub first: PathBuf,
    /// Read after all pools: for directives.
    pub last: PathBuf,
}

/// What the names of our files end in.
const NAME: &str = "-rampage.conf";

/// Whether a file is one of ours, by its name.
pub fn is_ours(file: &Path) -> bool {
    file.to_string_lossy().ends_with(NAME)
}

impl Site {
    /// Files in the pools' folder that override `pool`; None where php-fpm.conf includes no such folder, or the
    /// pool stands elsewhere: then it may come before and after all that is in that folder.
    pub fn drop_in(&self, pool: &Pool) -> Option<DropIn> {
        let folder = self.pool_folder.as_deref()?;
        if pool.sections.iter().any(|at| at.file.parent() != Some(folder)) {
            return None;
        }
        let others: Vec<&Path> = self
            .files
            .iter()
            .map(AsRef::as_ref)
            .filter(|file: &&Path| file.parent() == Some(folder))
            .filter(|file| !is_ours(file))
            .collect();
        let name = |letter: &str, fits: &dyn Fn(&Path) -> bool| {
            let names = (2..64).map(|many| folder.join(letter.repeat(many) + NAME));
            names.into_iter().find(|path| fits(path))
        };
        Some(DropIn {
            first: name("0", &|path| others.iter().all(|other| path < *other))?,
            last: name("z", &|path| others.iter().all(|other| path > *other))?,
        })
    }
}
