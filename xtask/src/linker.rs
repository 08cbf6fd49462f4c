//! bpf-linker: built once against the LLVM that rustc has, kept under `target/tools`.

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, bail};

use crate::debian;
use crate::exec::{Output, exec};
use crate::toolchain::Rustc;
use crate::workspace::Workspace;

/// The version that was tried with the pinned toolchain.
const VERSION: &str = "0.13.0";

/// Makes sure that there is a bpf-linker for this rustc. `$BPF_LINKER`, when set, is taken as it is.
pub fn ensure(workspace: &Workspace, rustc: &Rustc) -> anyhow::Result<()> {
    if let Some(path) = env::var_os("BPF_LINKER") {
        if Path::new(&path).is_file() {
            return Ok(());
        }
        bail!("BPF_LINKER names {}, which is no file: correct or unset it", path.display());
    }
    let tools = workspace.tools();
    let feature = format!("llvm-{}", rustc.llvm_major);
    if is_installed(&tools, &feature) {
        return Ok(());
    }
    let prefix = llvm(rustc.llvm_major)?;
    let started = Instant::now();
    eprintln!(
        "setup: building bpf-linker {VERSION} against LLVM {} (a minute or two)",
        rustc.llvm_major
    );
    // Below the target folder, so that an interrupted build leaves nothing elsewhere.
    let scratch = tools.join("build");
    let search = env::var_os("PATH").unwrap_or_default();
    let search = env::join_paths(env::split_paths(&search).chain([tools.join("bin")]))?;
    let mut install = workspace.cargo(["install", "--locked", "--force", "--no-default-features"]);
    install
        .arg(format!("bpf-linker@{VERSION}"))
        .args(["--features", &format!("{feature},llvm-link-static")])
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(&scratch)
        .env("LLVM_PREFIX", &prefix)
        // Else cargo advises to add the folder to the user's own.
        .env("PATH", search);
    exec(&mut install, Output::Shown).context(
        "bpf-linker could not be built; one that was built elsewhere against the same LLVM can be \
         named with BPF_LINKER=/path/to/bpf-linker",
    )?;
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    eprintln!("setup: bpf-linker built in {:.0?}", started.elapsed());
    Ok(())
}

/// Where LLVM's headers and static libraries of this major are: `$LLVM_PREFIX`, or Debian's
/// packages, which are installed when missing.
fn llvm(major: u32) -> anyhow::Result<PathBuf> {
    if let Some(prefix) = env::var_os("LLVM_PREFIX") {
        return Ok(prefix.into());
    }
    let (llvm, polly) = (format!("llvm-{major}-dev"), format!("libpolly-{major}-dev"));
    let packages = [llvm.as_str(), polly.as_str(), "libzstd-dev", "zlib1g-dev", "g++"];
    debian::ensure(&packages, "building bpf-linker").context(
        "elsewhere than on Debian, LLVM_PREFIX=/path/to/llvm can name an LLVM with static \
         libraries",
    )?;
    Ok(format!("/usr/lib/llvm-{major}").into())
}

/// Whether cargo's own record in `tools` has this version, built with this feature.
fn is_installed(tools: &Path, feature: &str) -> bool {
    tools.join("bin/bpf-linker").is_file()
        && fs::read_to_string(tools.join(".crates2.json"))
            .is_ok_and(|record| is_recorded(&record, feature))
}

fn is_recorded(record: &str, feature: &str) -> bool {
    let key = format!("\"bpf-linker {VERSION} (");
    record.find(&key).is_some_and(|at| {
        let entry = &record[at..];
        let end = entry.find("\"all_features\"").unwrap_or(entry.len());
        entry[..end].contains(&format!("\"{feature}\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_llvm_must_match() {
        let record = r#"{"installs":{"bpf-linker 0.13.0 (registry+https://x)":{"version_req":
            "=0.13.0","bins":["bpf-linker"],"features":["llvm-22","llvm-link-static"],
            "all_features":false},"other 1.0.0 (x)":{"features":["llvm-23"]}}}"#;
        assert!(is_recorded(record, "llvm-22"));
        assert!(!is_recorded(record, "llvm-23"));
        assert!(!is_recorded(record, "llvm-2"));
        assert!(!is_recorded(&record.replace("0.13.0", "0.12.0"), "llvm-22"));
        assert!(!is_recorded("", "llvm-22"));
    }
}
