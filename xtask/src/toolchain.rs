//! The pinned Rust toolchain: what its rustc is, and which of its components are there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::exec::{Output, exec};
use crate::workspace::Workspace;

/// What `rustc` says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Rustc {
    /// `1.95.0`.
    pub release: String,
    /// `x86_64-unknown-linux-gnu`.
    pub host: String,
    /// Major version of its LLVM, which bpf-linker must share.
    pub llvm_major: u32,
    /// Where its libraries are.
    pub sysroot: PathBuf,
}

/// Components of rust-toolchain.toml, each with a file below the sysroot that proves it.
const COMPONENTS: [(&str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library/Cargo.lock"),
    ("clippy", "bin/cargo-clippy"),
    ("rustfmt", "bin/rustfmt"),
];

impl Rustc {
    /// Asks the workspace's rustc.
    pub fn probe(workspace: &Workspace) -> anyhow::Result<Self> {
        let ask = |args: &[&str]| {
            let mut rustc = Command::new(workspace.rustc());
            exec(rustc.current_dir(&workspace.root).args(args), Output::Captured)
        };
        parse(&ask(&["-vV"])?, &ask(&["--print", "sysroot"])?)
    }

    /// Installs the components that are missing.
    pub fn ensure_components(&self, workspace: &Workspace) -> anyhow::Result<()> {
        for component in missing(&self.sysroot) {
            eprintln!("setup: adding {component} to Rust {}", self.release);
            let mut rustup = Command::new("rustup");
            rustup.current_dir(&workspace.root).args(["component", "add", component]);
            exec(&mut rustup, Output::Captured).with_context(|| self.remedy(component))?;
        }
        if let Some(component) = missing(&self.sysroot).next() {
            bail!("rustup is content, but {}", self.remedy(component));
        }
        Ok(())
    }

    /// Installs the standard library of another target when it is missing.
    pub fn ensure_target(&self, workspace: &Workspace, triple: &str) -> anyhow::Result<()> {
        if self.sysroot.join("lib/rustlib").join(triple).join("lib").is_dir() {
            return Ok(());
        }
        eprintln!("setup: adding the target {triple} to Rust {}", self.release);
        let mut rustup = Command::new("rustup");
        rustup.current_dir(&workspace.root).args(["target", "add", triple]);
        exec(&mut rustup, Output::Captured).map(drop).with_context(|| {
            format!("Rust has no standard library for {triple}: `rustup target add {triple}`")
        })
    }

    fn remedy(&self, component: &str) -> String {
        let Self { release, host, sysroot, .. } = self;
        let archive = match component {
            "rust-src" => format!("rust-src-{release}.tar.xz"),
            _ => format!("{component}-{release}-{host}.tar.xz"),
        };
        let sysroot = sysroot.display();
        format!(
            "the Rust component {component} is missing. Without a network for rustup: fetch \
             https://static.rust-lang.org/dist/{archive} elsewhere and unpack it with\n  \
             tar -xJf {archive} --strip-components=2 -C {sysroot}\n\
             A Rust of the distribution: install its package of the same version ({release})"
        )
    }
}

fn missing(sysroot: &Path) -> impl Iterator<Item = &'static str> {
    COMPONENTS.into_iter().filter(|(_, proof)| !sysroot.join(proof).is_file()).map(|(name, _)| name)
}

fn parse(version: &str, sysroot: &str) -> anyhow::Result<Rustc> {
    let field = |name: &str| {
        version
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .with_context(|| format!("rustc -vV says no `{name}`"))
    };
    let llvm = field("LLVM version:")?;
    let llvm_major = llvm.split('.').next().and_then(|major| major.parse().ok());
    Ok(Rustc {
        release: field("release:")?.to_owned(),
        host: field("host:")?.to_owned(),
        llvm_major: llvm_major.with_context(|| format!("`{llvm}` is no version of LLVM"))?,
        sysroot: sysroot.trim().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn rustc_is_read() {
        let rustc = parse(TEXT, "/opt/rust\n").unwrap();
        assert_eq!(rustc.llvm_major, 22);
        assert_eq!(rustc.sysroot, Path::new("/opt/rust"));
        assert_eq!((&*rustc.release, &*rustc.host), ("1.95.0", "x86_64-unknown-linux-gnu"));
        let error = parse("release: 1.95.0", "").unwrap_err().to_string();
        assert!(error.contains("LLVM version:"), "{error}");
    }

    #[test]
    fn an_empty_sysroot_misses_everything() {
        let names: Vec<_> = missing(Path::new("/proc/self/fdinfo")).collect();
        assert_eq!(names, ["rust-src", "clippy", "rustfmt"]);
    }

    #[test]
    fn the_remedy_names_the_archive() {
        let rustc = parse(TEXT, "/opt/rust\n").unwrap();
        assert!(rustc.remedy("rust-src").contains("dist/rust-src-1.95.0.tar.xz "));
        assert!(rustc.remedy("clippy").contains("clippy-1.95.0-x86_64-unknown-linux-gnu.tar.xz"));
    }
}
