//! Files that are proposed to be added to a folder whose files are read in the order of their names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of ours in `folder`, with this `suffix`, that is read behind all `files` of that folder: in the order of
/// bytes, whatever they begin with.
pub fn behind<'a>(
    folder: &Path,
    files: impl Iterator<Item = &'a Arc<Path>>,
    suffix: &str,
) -> PathBuf {
    let last = files.filter(|file| file.parent() == Some(folder)).max();
    let last = last.and_then(|file| file.file_name()?.to_str()).unwrap_or_default();
    let own = format!("zz-rampage{suffix}");
    let stem = if *last <= *own { "" } else { last.strip_suffix(suffix).unwrap_or(last) };
    folder.join(format!("{stem}{own}"))
}
