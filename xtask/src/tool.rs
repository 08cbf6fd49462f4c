//! Programs that cargo builds once for the work on this project, kept under `target/tools`.

use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use anyhow::Context;

use crate::exec::{Output, exec};
use crate::workspace::Workspace;

/// A program of the registry.
pub struct Tool<'a> {
    /// Of crate and program.
    pub name: &'a str,
    /// The version that was tried with the pinned toolchain.
    pub version: &'a str,
    /// Beside none of the default ones.
    pub features: &'a [&'a str],
}

impl Tool<'_> {
    /// Whether cargo's own record has this version, built with these features.
    pub fn is_installed(&self, workspace: &Workspace) -> bool {
        let tools = workspace.tools();
        tools.join("bin").join(self.name).is_file()
            && fs::read_to_string(tools.join(".crates2.json"))
                .is_ok_and(|record| self.is_recorded(&record))
    }

    /// Builds it, with this environment, and says so.
    pub fn install(
        &self,
        workspace: &Workspace,
        variable: Option<(&str, &Path)>,
    ) -> anyhow::Result<()> {
        let Self { name, version, features } = self;
        let tools = workspace.tools();
        let started = Instant::now();
        eprintln!("setup: building {name} {version} (a minute or two)");
        // Below the target folder, so that an interrupted build leaves nothing elsewhere.
        let scratch = tools.join(format!("build-{name}"));
        let search = env::var_os("PATH").unwrap_or_default();
        let search = env::join_paths(env::split_paths(&search).chain([tools.join("bin")]))?;
        let mut install =
            workspace.cargo(["install", "--locked", "--force", "--no-default-features", "--quiet"]);
        install
            .arg(format!("{name}@{version}"))
            .args(["--features", &features.join(",")])
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(&scratch)
            .envs(variable)
            // Else cargo advises to add the folder to the user's own.
            .env("PATH", search);
        exec(&mut install, Output::Shown)?;
        fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
        eprintln!("setup: {name} built in {:.0?}", started.elapsed());
        Ok(())
    }

    fn is_recorded(&self, record: &str) -> bool {
        let key = format!("\"{} {} (", self.name, self.version);
        record.find(&key).is_some_and(|at| {
            let entry = &record[at..];
            let end = entry.find("\"all_features\"").unwrap_or(entry.len());
            self.features.iter().all(|name| entry[..end].contains(&format!("\"{name}\"")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_features_must_match() {
        let record = r#"{"installs":{"bpf-linker 0.13.0 (registry+https://x)":{"version_req":
            "=0.13.0","bins":["bpf-linker"],"features":["llvm-22","llvm-link-static"],
            "all_features":false},"other 1.0.0 (x)":{"features":["llvm-23"]}}}"#;
        let recorded = |version, features: &[&str]| {
            Tool { name: "bpf-linker", version, features }.is_recorded(record)
        };
        assert!(recorded("0.13.0", &["llvm-22", "llvm-link-static"]));
        assert!(!recorded("0.13.0", &["llvm-23"]));
        assert!(!recorded("0.13.0", &["llvm-2"]));
        assert!(!recorded("0.12.0", &["llvm-22"]));
        let tool = Tool { name: "bpf-linker", version: "0.13.0", features: &[] };
        assert!(!tool.is_recorded(""));
    }
}
