//! Cases of the corpus that are several files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Writes the files of a case below `folder`, which stands for `@DIR@` in it; `=== NAME -> TARGET` is a link.
pub fn unpack(case: &str, folder: &Path) {
    let text = case.replace("@DIR@", folder.to_str().unwrap());
    for part in text.split("=== ").skip(1) {
        let (name, body) = part.split_once('\n').unwrap();
        let (name, target) =
            name.split_once(" -> ").map_or((name, None), |(name, to)| (name, Some(to)));
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, body).unwrap(),
        }
    }
}
