//! The results as JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::play::Row;

/// Writes all rows.
pub fn write(rows: &[Row], path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(rows)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}
