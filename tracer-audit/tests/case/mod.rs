//! Cases of the corpus that are several files.

use std::fs;
use std::path::Path;

/// Writes the files of a case below `folder`, which stands for `@DIR@` in it.
pub fn unpack(case: &str, folder: &Path) {
    let text = case.replace("@DIR@", folder.to_str().unwrap());
    for part in text.split("=== ").skip(1) {
        let (name, body) = part.split_once('\n').unwrap();
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    }
}
