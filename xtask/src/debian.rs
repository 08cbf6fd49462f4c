//! Debian packages: which are installed, read from dpkg's own file, and how they get installed.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::exec::{Output, exec};
use crate::workspace::{as_root, on_path};

/// dpkg's list of packages.
const STATUS: &str = "/var/lib/dpkg/status";

/// Installs packages without starting their services: while it runs, a policy forbids services to
/// start, unless the host has a policy of its own. The shell takes it away again, also after
/// Ctrl-C. A failed update of one package list must not stop an install that does not need it.
const INSTALL: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -qq -o DPkg::Lock::Timeout=300 || echo "apt-get update failed" >&2
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
"#;

/// Those of `packages` that are not installed. None on a system without dpkg: nothing is known.
pub fn missing<'a>(packages: &[&'a str]) -> Option<Vec<&'a str>> {
    let status = fs::read(STATUS).ok()?;
    let status = String::from_utf8_lossy(&status);
    let installed = installed(&status);
    Some(packages.iter().copied().filter(|package| !installed.contains(package)).collect())
}

/// Installs those of `packages` that are missing; `purpose` says in an error what needs them.
/// On a system without apt it fails and names them.
pub fn ensure(packages: &[&str], purpose: &str) -> anyhow::Result<()> {
    let missing = missing(packages).unwrap_or_else(|| packages.to_vec());
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if on_path("apt-get").is_none() {
        bail!(
            "{purpose} needs what Debian calls {list}, and there is no apt-get here: install the \
             same with this system's package manager"
        );
    }
    let started = Instant::now();
    eprintln!("setup: installing {list} with apt-get");
    let mut install = as_root("sh")?;
    install.args(["-c", INSTALL, "install"]).args(&missing);
    exec(&mut install, Output::Captured).map(drop).with_context(|| {
        format!(
            "{purpose} needs Debian packages; as root: apt-get update && apt-get install {list}"
        )
    })?;
    eprintln!("setup: installed in {:.0?}", started.elapsed());
    if Path::new("/run/systemd/system").exists() {
        missing.iter().filter_map(|package| notice(package)).for_each(|line| eprintln!("{line}"));
    }
    Ok(())
}

/// What is said of a package whose service was not started, but will be at the next start of the system.
fn notice(package: &str) -> Option<String> {
    let what = match package {
        "prometheus" => ", and would listen on port 9090 of all addresses",
        fpm if fpm.ends_with("-fpm") => "",
        _ => return None,
    };
    Some(format!(
        "setup: {package} was not started; at the next start of this system it would be{what}: `systemctl \
         disable {package}` keeps it from that"
    ))
}

/// Names of the packages that dpkg's status file has as installed.
fn installed(status: &str) -> HashSet<&str> {
    let mut names = HashSet::new();
    let mut name = "";
    for line in status.lines() {
        if let Some(package) = line.strip_prefix("Package: ") {
            name = package.trim();
        } else if line == "Status: install ok installed" || line == "Status: hold ok installed" {
            names.insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_would_start_are_told() {
        assert!(notice("prometheus").is_some_and(|line| line.contains("disable prometheus`")));
        assert!(notice("php8.2-fpm").is_some_and(|line| line.contains("disable php8.2-fpm`")));
        assert_eq!(notice("libfcgi-bin"), None);
    }

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: gcc\nStatus: install ok installed\nPriority: optional\n\n\
            Package: php8.2-fpm\nStatus: deinstall ok config-files\n\n\
            Package: llvm-22-dev\nStatus: hold ok installed\nDescription: x\n Package: fake\n\n\
            Package: half\nStatus: install ok half-configured\n";
        let mut names: Vec<_> = installed(status).into_iter().collect();
        names.sort_unstable();
        assert_eq!(names, ["gcc", "llvm-22-dev"]);
    }
}
