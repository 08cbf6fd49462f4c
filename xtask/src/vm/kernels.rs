//! Kernels of Debian: found and fetched with an apt of our own below `target/vm`, which leaves the
//! system's alone, and unpacked there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::catalog::Kernel;
use crate::exec::{Output, exec};
use crate::platform::Arch;

/// Each version of Debian's kernel for virtual machines is a dependency of this package.
fn meta(arch: Arch) -> String {
    format!("linux-image-cloud-{}", arch.debian())
}

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// As the catalog calls it.
    pub name: String,
    /// `uname -r`.
    pub release: String,
    /// The image to boot.
    pub image: PathBuf,
}

/// Where kernels are fetched to, and from.
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// In a folder that is made when needed.
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The kernel as it was unpacked before; None = it was not.
    pub fn unpacked(&self, kernel: &Kernel) -> Option<Unpacked> {
        let folder = self.folder.join("kernels").join(&kernel.name);
        let release = fs::read_to_string(folder.join("release")).ok()?.trim().to_owned();
        let image = folder.join("vmlinuz");
        image.is_file().then(|| Unpacked { name: kernel.name.clone(), release, image })
    }

    /// Learns which packages of an architecture the suites of `kernels` have now.
    pub fn update(&self, kernels: &[Kernel], arch: Arch) -> anyhow::Result<()> {
        let mirrors = Mirrors::of_this_system()?;
        let apt = self.apt_folder(arch);
        for below in ["state", "lists/partial", "cache/archives/partial"] {
            let path = apt.join(below);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        let of_arch = kernels.iter().filter(|kernel| kernel.arch == arch);
        let mut suites: Vec<&str> =
            of_arch.flat_map(|kernel| &kernel.suites).map(String::as_str).collect();
        suites.sort_unstable();
        suites.dedup();
        let lines: Vec<String> = suites.iter().map(|suite| mirrors.line(suite)).collect();
        let list = apt.join("sources.list");
        fs::write(&list, lines.concat()).with_context(|| list.display().to_string())?;
        // A suite that has gone must not stop those that are there: what is missing is said when
        // a kernel is not found.
        if let Err(error) =
            exec(self.apt(arch, "apt-get").args(["-qq", "update"]), Output::Captured)
        {
            eprintln!("vm: {error:#}");
        }
        Ok(())
    }

    /// Fetches and unpacks the highest version.
    pub fn fetch(&self, kernel: &Kernel) -> anyhow::Result<Unpacked> {
        self.fetch_newest(kernel).with_context(|| {
            format!(
                "kernel {} can't be fetched; `--offline {}` goes on without it, or with the one \
                 that was fetched before",
                kernel.name, kernel.name
            )
        })
    }

    fn fetch_newest(&self, kernel: &Kernel) -> anyhow::Result<Unpacked> {
        let meta = meta(kernel.arch);
        let table =
            exec(self.apt(kernel.arch, "apt-cache").args(["madison", &meta]), Output::Captured)?;
        let version = newest(&table, &kernel.release).with_context(|| {
            format!("no {meta} {}* in {}", kernel.release, kernel.suites.join(", "))
        })?;
        let depends = self.depends(kernel.arch, &meta, &version)?;
        let image = starting_with(&depends, "linux-image-")
            .with_context(|| format!("{meta} {version} depends on no image"))?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        // Since 7 the image is in a package of its own, on which the one of the old name depends.
        let depends = self.depends(kernel.arch, &image, &version)?;
        let package = starting_with(&depends, "linux-binary-").unwrap_or(image);

        let folder = self.folder.join("kernels").join(&kernel.name);
        let scratch = folder.join("scratch");
        if scratch.exists() {
            fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        }
        fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        let mut download = self.apt(kernel.arch, "apt-get");
        download.args(["-qq", "download"]).arg(format!("{package}={version}"));
        exec(download.current_dir(&scratch), Output::Captured)?;
        let deb = files(&scratch)?.into_iter().find(|path| path.extension().is_some());
        let deb = deb.with_context(|| format!("apt-get downloaded no {package}"))?;
        let tree = scratch.join("tree");
        exec(Command::new("dpkg-deb").arg("-x").args([&deb, &tree]), Output::Captured)?;
        let unpacked = find_image(&tree, &release)?;
        let image = folder.join("vmlinuz");
        fs::rename(&unpacked, &image).with_context(|| image.display().to_string())?;
        fs::write(folder.join("release"), &release).with_context(|| release.clone())?;
        fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        Ok(Unpacked { name: kernel.name.clone(), release, image })
    }

    fn apt_folder(&self, arch: Arch) -> PathBuf {
        self.folder.join("apt").join(arch.debian())
    }

    /// Names of the packages that a package depends on.
    fn depends(&self, arch: Arch, package: &str, version: &str) -> anyhow::Result<Vec<String>> {
        let mut show = self.apt(arch, "apt-cache");
        show.arg("show").arg(format!("{package}={version}"));
        Ok(dependencies(&exec(&mut show, Output::Captured)?))
    }

    /// apt that neither reads nor writes what the system's knows.
    fn apt(&self, arch: Arch, program: &str) -> Command {
        let mut command = Command::new(program);
        let apt = self.apt_folder(arch);
        for name in ["APT::Architecture", "APT::Architectures"] {
            command.arg("-o").arg(format!("{name}={}", arch.debian()));
        }
        for (name, below) in [
            ("Dir::State", "state"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.arg("-o").arg(format!("{name}={}", apt.join(below).display()));
        }
        for option in [
            "Dir::State::status=/dev/null",
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::Retries=3",
        ] {
            command.args(["-o", option]);
        }
        command
    }
}

/// Debian's mirrors as this system knows them: for packages, and for security updates.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    fn of_this_system() -> anyhow::Result<Self> {
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
        command.arg("Created-By: Packages");
        let text = exec(&mut command, Output::Captured).context(
            "kernels come from Debian's packages, and there is no apt-get that knows a mirror",
        )?;
        Self::parse(&text).context(
            "apt knows no mirror of Debian here: add one with a suite and a -security suite to \
             /etc/apt/sources.list",
        )
    }

    /// Lines of URI and suite.
    fn parse(text: &str) -> Option<Self> {
        let lines = || text.lines().filter_map(|line| line.split_once(' '));
        let debian = |uri: &str| uri.trim_end_matches('/').contains("debian");
        let find = |security: bool| {
            lines()
                .find(|(uri, suite)| debian(uri) && suite.ends_with("-security") == security)
                .map(|(uri, _)| uri.to_owned())
        };
        Some(Self { main: find(false)?, security: find(true)? })
    }

    fn line(&self, suite: &str) -> String {
        let mirror = if suite.ends_with("-security") { &self.security } else { &self.main };
        format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] \
             {mirror} {suite} main\n"
        )
    }
}

/// The highest version in a table of `apt-cache madison` that begins with `prefix`.
fn newest(table: &str, prefix: &str) -> Option<String> {
    let versions = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    versions.filter(|version| version.starts_with(prefix)).fold(None, |best, version| match best {
        Some(best) if !is_newer(version, &best) => Some(best),
        _ => Some(version.to_owned()),
    })
}

fn is_newer(version: &str, than: &str) -> bool {
    let mut compare = Command::new("dpkg");
    compare.args(["--compare-versions", version, "gt", than]);
    compare.status().is_ok_and(|status| status.success())
}

/// Names on the `Depends:` line of a package's description.
fn dependencies(description: &str) -> Vec<String> {
    let line = description.lines().find_map(|line| line.strip_prefix("Depends: "));
    let names = line.into_iter().flat_map(|line| line.split([',', '|']));
    names.filter_map(|name| name.split_whitespace().next()).map(str::to_owned).collect()
}

/// The first whose name goes on with a version.
fn starting_with(names: &[String], prefix: &str) -> Option<String> {
    let versioned = |name: &&String| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    names.iter().find(versioned).cloned()
}

/// The image in a package: /boot/vmlinuz-RELEASE, or vmlinuz beside the modules.
fn find_image(tree: &Path, release: &str) -> anyhow::Result<PathBuf> {
    let places = [
        tree.join("boot").join(format!("vmlinuz-{release}")),
        tree.join("usr/lib/modules").join(release).join("vmlinuz"),
        tree.join("lib/modules").join(release).join("vmlinuz"),
    ];
    match places.iter().find(|place| place.is_file()) {
        Some(image) => Ok(image.clone()),
        None => bail!(
            "the package of {release} has another layout: no kernel at {}",
            places
                .map(|place| place.strip_prefix(tree).unwrap_or(&place).display().to_string())
                .join(", ")
        ),
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// An error when a program of apt is missing.
pub fn check_apt() -> anyhow::Result<()> {
    ensure!(
        crate::workspace::on_path("apt-get").is_some(),
        "the guests are made of Debian packages, and there is no apt-get here: run this on Debian"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "\
        linux-image-cloud-amd64 | 7.3.4-1~bpo13+1 | u trixie-backports/main amd64 Packages\n\
        linux-image-cloud-amd64 |   7.2.13-1 | u sid/main amd64 Packages\n\
        linux-image-cloud-amd64 | 6.12.117-1 | u trixie/main amd64 Packages\n\
        linux-image-cloud-amd64 |  6.1.192-2 | u bookworm-security/main amd64 Packages\n\
        linux-image-cloud-amd64 |  6.1.176-1 | u bookworm/main amd64 Packages\n";

    #[test]
    fn the_highest_version_of_a_series() {
        assert_eq!(newest(MADISON, "6.1.").as_deref(), Some("6.1.192-2"));
        assert_eq!(newest(MADISON, "6.12.").as_deref(), Some("6.12.117-1"));
        assert_eq!(newest(MADISON, "").as_deref(), Some("7.3.4-1~bpo13+1"));
        assert_eq!(newest(MADISON, "4.19."), None);
        assert_eq!(newest("", ""), None);
    }

    #[test]
    fn dependencies_with_and_without_the_split() {
        let old = dependencies("Package: x\nDepends: linux-image-5.10.0-46-cloud-amd64 (= 5)\n");
        assert_eq!(
            starting_with(&old, "linux-image-").as_deref(),
            Some("linux-image-5.10.0-46-cloud-amd64")
        );
        assert_eq!(starting_with(&old, "linux-binary-"), None);
        let new = dependencies(
            "Depends: dracut | initramfs-tools (>= 0.1), linux-base-cloud-amd64 (= 7), \
             linux-binary-7.3.4+deb13-cloud-amd64 (= 7)\n",
        );
        assert_eq!(
            starting_with(&new, "linux-binary-").as_deref(),
            Some("linux-binary-7.3.4+deb13-cloud-amd64")
        );
        assert_eq!(starting_with(&new, "linux-base-"), None);
    }

    #[test]
    fn mirrors_are_those_of_debian() {
        let text = "http://other/repo trixie\nhttp://m/debian bookworm\n\
                    http://s/debian-security bookworm-security\n";
        let mirrors = Mirrors::parse(text).unwrap();
        assert!(mirrors.line("sid").contains("] http://m/debian sid main"));
        assert!(mirrors.line("bookworm-security").contains("http://s/debian-security bookworm-s"));
        assert_eq!(Mirrors::parse("http://m/debian bookworm\n"), None);
    }

    #[test]
    fn another_layout_is_said() {
        let tree = std::env::temp_dir().join(format!("rampage-layout-{}", std::process::id()));
        let folder = tree.join("usr/lib/modules/7.3");
        fs::create_dir_all(&folder).unwrap();
        let error = find_image(&tree, "7.3").unwrap_err().to_string();
        assert!(error.contains("another layout") && error.contains("boot/vmlinuz-7.3"), "{error}");
        fs::write(folder.join("vmlinuz"), "").unwrap();
        assert_eq!(find_image(&tree, "7.3").unwrap(), folder.join("vmlinuz"));
        fs::remove_dir_all(&tree).unwrap();
    }
}
