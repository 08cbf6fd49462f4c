//! `SET PERSIST` of MySQL 8: variables that the server keeps in mysqld-auto.cnf of its data folder, and that count
//! more than all option files and arguments (manual, 7.1.9.3). MariaDB has nothing like it.

use std::path::Path;

use serde_json::Value;

use crate::origin::{Notes, Origin};
use crate::root::Root;

/// Its name in the data folder.
pub const FILE: &str = "mysqld-auto.cnf";

/// Names and values of the file `path`; none where there is no file, or where it is broken.
pub fn read(root: &Root, path: &Path, notes: &mut Notes) -> Vec<(String, String)> {
    let mut found = Vec::new();
    match root.read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(whole) => collect(&whole, &mut found),
            Err(error) => {
                let line = u32::try_from(error.line()).ok();
                let at = Origin { file: path.into(), line };
                notes.at(at, "it is broken: MySQL does not start with it");
            }
        },
        Err(error) => notes.unread(&error),
    }
    found
}

/// Variables stand in groups, which differ by version: `"max_connections": {"Value": "100", …}`.
fn collect(value: &Value, found: &mut Vec<(String, String)>) {
    let Value::Object(entries) = value else { return };
    for (name, entry) in entries {
        match entry.get("Value").and_then(Value::as_str) {
            Some(value) => found.push((name.clone(), value.to_owned())),
            None => collect(entry, found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_every_group_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        let read = || {
            let mut notes = Notes::default();
            let found = read(&root, Path::new("/mysqld-auto.cnf"), &mut notes);
            let places = notes.finish().into_iter().map(|note| note.at.unwrap().to_string());
            (found, places.collect::<Vec<_>>())
        };
        assert_eq!(read(), (vec![], vec![]));
        let text = r#"{"Version": 2,
            "mysql_dynamic_parse_early_variables": {"max_connections": {"Value": "99", "Metadata": {"Host": ""}}},
            "mysql_static_variables": {"innodb_log_buffer_size": {"Value": "1048576"}}}"#;
        std::fs::write(folder.path().join("mysqld-auto.cnf"), text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read().0,
            [pair("max_connections", "99"), pair("innodb_log_buffer_size", "1048576")]
        );
        std::fs::write(folder.path().join("mysqld-auto.cnf"), "{\n\"a\": {").unwrap();
        assert_eq!(read(), (vec![], vec!["/mysqld-auto.cnf:2".to_owned()]));
    }
}
