//! `kernel_facts FOLDER` records what the running kernel offers rampage, as root: FOLDER/btf.zst,
//! the types that the plan rests on, and FOLDER/support.json, what `rampage doctor` came to. Two
//! runs on one kernel write the same bytes. `tests/kernels/` holds the records of all kernels that
//! are tested.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rampage::kernel::btf::{Btf, VMLINUX};
use tests::support::Support;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("say where to: kernel_facts FOLDER")?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let types = Btf::open(Path::new(VMLINUX))?.excerpt();
    write(&folder.join("btf.zst"), &zstd::encode_all(types.as_slice(), 19)?)?;
    let mut text = serde_json::to_vec_pretty(&Support::of_this_kernel()?)?;
    text.push(b'\n');
    write(&folder.join("support.json"), &text)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| path.display().to_string())
}
