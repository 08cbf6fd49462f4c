//! bpf-linker: built once against the LLVM that rustc has, kept under `target/tools`.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::debian;
use crate::tool::Tool;
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
    let feature = format!("llvm-{}", rustc.llvm_major);
    let linker =
        Tool { name: "bpf-linker", version: VERSION, features: &[&feature, "llvm-link-static"] };
    if linker.is_installed(workspace) {
        return Ok(());
    }
    let prefix = llvm(rustc.llvm_major)?;
    linker.install(workspace, Some(("LLVM_PREFIX", &prefix))).context(
        "bpf-linker could not be built; one that was built elsewhere against the same LLVM can be \
         named with BPF_LINKER=/path/to/bpf-linker",
    )
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
