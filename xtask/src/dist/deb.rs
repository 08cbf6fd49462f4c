//! The Debian package, made by cargo-deb from the metadata in tracer-user/Cargo.toml.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{binary, remove};
use crate::exec::{Output, exec};
use crate::tool::Tool;
use crate::toolchain::Rustc;
use crate::workspace::Workspace;

const CARGO_DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0", features: &["static-lzma"] };

/// Debian's version of the package: that of the workspace, and the package's own.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// All that is needed to make the package.
pub struct Recipe<'a> {
    workspace: &'a Workspace,
    host: &'a str,
    output: &'a Path,
}

impl<'a> Recipe<'a> {
    /// Lays the texts of `folder`, where packages will be put as well, beside the binaries: there
    /// cargo-deb finds what the metadata calls `target/release`.
    pub fn new(
        workspace: &'a Workspace,
        rustc: &'a Rustc,
        folder: &'a Path,
    ) -> anyhow::Result<Self> {
        if !CARGO_DEB.is_installed(workspace) {
            CARGO_DEB.install(workspace, None)?;
        }
        let staged = binary::folder(workspace, rustc).join("package");
        remove(&staged)?;
        fs::create_dir(&staged).with_context(|| format!("creating {}", staged.display()))?;
        for entry in
            fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry?;
            let to = staged.join(entry.file_name());
            fs::copy(entry.path(), &to).with_context(|| format!("writing {}", to.display()))?;
            // cargo-deb compresses manual pages, but not those that it takes for built ones.
            if to.extension().is_some_and(|suffix| suffix == "1" || suffix == "5") {
                exec(std::process::Command::new("gzip").arg("-9n").arg(&to), Output::Captured)?;
            }
        }
        Ok(Self { workspace, host: &rustc.host, output: folder })
    }

    /// Makes a package of this version; gives its file.
    pub fn make(&self, version: &str) -> anyhow::Result<PathBuf> {
        eprintln!("dist: making the Debian package {version} (some seconds)");
        let mut make = std::process::Command::new(self.workspace.tools().join("bin/cargo-deb"));
        make.current_dir(&self.workspace.root)
            .args(["--quiet", "--no-build", "--no-strip", "--profile", "dist"])
            .args(["--package", "tracer-user", "--target", self.host, "--deb-version", version])
            .arg("--output")
            .arg(self.output)
            .env("CARGO_TARGET_DIR", &self.workspace.target);
        exec(&mut make, Output::Captured)?;
        let start = format!("rampage_{version}_");
        let made = fs::read_dir(self.output)?.filter_map(Result::ok).map(|entry| entry.path());
        let mut made = made.filter(|path| {
            path.extension().is_some_and(|suffix| suffix == "deb")
                && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
        });
        let deb = made.next().with_context(|| format!("cargo-deb made no {start}*.deb"))?;
        ensure!(fs::metadata(&deb)?.len() > 0, "{} is empty", deb.display());
        Ok(deb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_is_of_this_version() {
        let log = include_str!("../../../packaging/debian/changelog");
        assert!(log.starts_with(&format!("rampage ({VERSION}) ")), "{VERSION}");
    }
}
