//! PHP of other Debian releases: their packages, fetched with an apt of our own into a folder below
//! the target folder and unpacked there. Nothing of the system is touched. A tree is run with
//! chroot, which also makes its processes as those of a container: another root, other libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A release whose PHP is used.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// Name of its folder.
    name: &'static str,
    /// `7.4`.
    pub php: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
}

/// Debian 11.
pub const PHP_7_4: Release = Release {
    name: "7.4",
    php: "7.4",
    suite: "bullseye",
    packages: &["php7.4-fpm", "php7.4-opcache", "php7.4-json"],
};
/// Debian 13.
pub const PHP_8_4: Release = Release {
    name: "8.4",
    php: "8.4",
    suite: "trixie",
    packages: &["php8.4-fpm", "php8.4-opcache"],
};
/// apache with mod_php, of Debian 12.
pub const MOD_PHP_8_2: Release = Release {
    name: "mod_php",
    php: "8.2",
    suite: "bookworm",
    packages: &["libapache2-mod-php8.2", "apache2-bin"],
};

/// The root of the unpacked packages; fetched when it is not there yet.
pub fn tree(release: &Release) -> Result<PathBuf> {
    let folder = store()?.join(release.name);
    fs::create_dir_all(&folder)?;
    let lock = fs::File::create(folder.join("lock"))?;
    lock.lock()?;
    let tree = folder.join("tree");
    if folder.join("complete").exists() {
        return Ok(tree);
    }
    let apt = Apt::new(&folder, release)?;
    apt.run("apt-get", &["-qq", "update"])?;
    let mut wanted = apt.libraries(release)?;
    wanted.extend(release.packages.iter().map(|name| (*name).to_owned()));
    let debs = folder.join("debs");
    fs::create_dir_all(&debs)?;
    let mut download = apt.command("apt-get");
    run(download.args(["-qq", "download"]).args(&wanted).current_dir(&debs))?;
    for entry in fs::read_dir(&debs)? {
        run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&tree))?;
    }
    for below in ["usr/share/doc", "usr/share/man", "usr/share/locale"] {
        fs::remove_dir_all(tree.join(below)).ok();
    }
    fs::remove_dir_all(&debs)?;
    fs::remove_dir_all(folder.join("apt"))?;
    fs::create_dir_all(tree.join("dev"))?;
    fs::create_dir_all(tree.join("tmp"))?;
    fs::create_dir_all(tree.join("etc"))?;
    fs::write(tree.join("dev/null"), "")?;
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\n")?;
    for (top, usr) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        // Packages of merged-/usr releases rely on these links.
        if !tree.join(top).exists() && tree.join(usr).exists() {
            std::os::unix::fs::symlink(usr, tree.join(top))?;
        }
    }
    fs::write(folder.join("complete"), "")?;
    Ok(tree)
}

/// Below the target folder of this test.
fn store() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("no target folder")?;
    Ok(profile.parent().context("no target folder")?.join("php"))
}

struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path, release: &Release) -> Result<Self> {
        let folder = folder.join("apt");
        for below in ["state", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let suite = release.suite;
        let (main, security) = mirrors()?;
        let options =
            "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no]";
        let sources = format!(
            "deb {options} {main} {suite} main\ndeb {options} {security} {suite}-security main\n"
        );
        fs::write(folder.join("sources.list"), sources)?;
        Ok(Self { folder })
    }

    /// Libraries that the release's packages need, and theirs.
    fn libraries(&self, release: &Release) -> Result<Vec<String>> {
        let mut arguments = vec!["depends", "--recurse"];
        arguments.extend([
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
        ]);
        arguments.extend(release.packages);
        let text = self.run("apt-cache", &arguments)?;
        let common = format!("php{}-common", release.php);
        let is_needed =
            |name: &&str| name.starts_with("lib") || *name == "zlib1g" || *name == common;
        let mut names: Vec<String> = text.lines().filter(is_needed).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        ensure!(!names.is_empty(), "apt-cache knows no dependencies of {:?}", release.packages);
        Ok(names)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// apt that neither reads nor writes what the system's knows.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, below) in [
            ("Dir::State", "state"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.arg("-o").arg(format!("{name}={}", self.folder.join(below).display()));
        }
        for option in [
            "Dir::State::status=/dev/null",
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::GzipIndexes=true",
            "Acquire::Retries=3",
        ] {
            command.args(["-o", option]);
        }
        command
    }
}

/// Debian's mirrors as this system knows them: packages, security updates.
fn mirrors() -> Result<(String, String)> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    let text = run(command.arg("Created-By: Packages"))?;
    let find = |security: bool| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(uri, suite)| {
            uri.trim_end_matches('/').contains("debian") && suite.ends_with("-security") == security
        });
        found.map(|(uri, _)| uri.to_owned()).context("apt knows no mirror of Debian here")
    };
    Ok((find(false)?, find(true)?))
}

fn run(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}: {said}", done.status);
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
