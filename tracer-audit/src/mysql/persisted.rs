//! `SET PERSIST` of MySQL 8: variables that the server keeps in mysqld-auto.cnf of its data folder, and that count
//! more than all option files and arguments (manual, 7.1.9.3). MariaDB has nothing like it.

use std::path::Path;

use serde_json::Value;

use crate::root::{ReadError, Root};

/// Its name in the data folder.
pub const FILE: &str = "mysqld-auto.cnf";

/// Names and values of the file `path`; none where there is no file.
///
/// # Errors
///
/// It is there, and could not be read.
pub fn read(root: &Root, path: &Path) -> Result<Vec<(String, String)>, ReadError> {
    let bytes = match root.read(path) {
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let mut found = Vec::new();
    // MySQL does not start with a file that it cannot read, but whoever edits it by hand is told so by itself.
    if let Ok(whole) = serde_json::from_slice(&bytes) {
        collect(&whole, &mut found);
    }
    Ok(found)
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
        let path = Path::new("/mysqld-auto.cnf");
        assert_eq!(read(&root, path).unwrap(), []);
        let text = r#"{"Version": 2,
            "mysql_dynamic_parse_early_variables": {"max_connections": {"Value": "99", "Metadata": {"Host": ""}}},
            "mysql_static_variables": {"innodb_log_buffer_size": {"Value": "1048576"}}}"#;
        std::fs::write(folder.path().join("mysqld-auto.cnf"), text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read(&root, path).unwrap(),
            [pair("max_connections", "99"), pair("innodb_log_buffer_size", "1048576")]
        );
        std::fs::write(folder.path().join("mysqld-auto.cnf"), "{").unwrap();
        assert_eq!(read(&root, path).unwrap(), []);
    }
}
