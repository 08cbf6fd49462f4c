//! Where the site runs: a memory cgroup, without a limit where it has a machine of its own, and namespaces in
//! which its files are where they belong.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use super::{LIMIT_BYTES, World};
use crate::cgroup::MemoryCgroup;

/// First process of the namespaces: puts the tree's folders where programs look for them, says so, and waits.
const INIT: &str = r#"
set -eu
tree=$1
mount --make-rprivate /
install -d "$tree/run/php" "$tree/var/log/nginx" "$tree/var/lib/nginx"
install -d -o mysql -g mysql "$tree/run/mysqld" "$tree/var/lib/mysql"
install -d -o redis -g redis "$tree/run/redis" "$tree/var/lib/redis" "$tree/var/log/redis"
install -d -o www-data -g www-data "$tree/var/lib/nginx/body" "$tree/var/lib/nginx/fastcgi"
touch "$tree/var/log/shop.log"
chown www-data:www-data "$tree/var/log/shop.log"
for folder in etc/php etc/mysql etc/redis etc/nginx run var/lib/mysql var/lib/redis var/lib/nginx var/log var/www; do
    mkdir -p "/$folder"
    mount --bind "$tree/$folder" "/$folder"
done
if [ -e "$tree/proc/meminfo" ]; then
    mount --bind "$tree/proc/meminfo" /proc/meminfo
fi
ip link set lo up
echo ready
exec sleep infinity
"#;

/// Whoever is in it is killed when it is dropped.
#[derive(Debug)]
pub struct Place {
    unshare: Child,
    /// Process id of the first process, as the host counts.
    init: u32,
    cgroup: MemoryCgroup,
    world: World,
}

impl Place {
    /// For the files of `tree`, with nobody in it yet.
    pub fn new(tree: &Tree) -> Result<Self> {
        let world = tree.world();
        let cgroup = match world {
            World::Cgroup => MemoryCgroup::new("incident", LIMIT_BYTES)?,
            World::Machine => MemoryCgroup::unlimited("incident")?,
        };
        let mut command = program(world, "unshare");
        command.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.args(["sh", "-c", INIT, "sh"]).arg(tree.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        cgroup.confine(&mut command)?;
        die_with_us(&mut command);
        let unshare = command.spawn().context("starting unshare")?;
        let mut place = Self { unshare, init: 0, cgroup, world };
        let stdout = place.unshare.stdout.take().context("unshare has no output")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(said == "ready\n", "the namespaces were not made: {said:?}");
        let children = children(place.unshare.id())?;
        place.init = *children.first().context("unshare has no child")?;
        Ok(place)
    }

    /// The cgroup.
    pub fn cgroup(&self) -> &MemoryCgroup {
        &self.cgroup
    }

    /// A command that runs `name` in here.
    pub fn command(&self, name: &str) -> Result<Command> {
        let mut command = program(self.world, "nsenter");
        command.arg("--target").arg(self.init.to_string());
        command.args(["--mount", "--pid", "--net", "--", name]);
        command.stdin(Stdio::null());
        self.cgroup.confine(&mut command)?;
        Ok(command)
    }

    /// The host's process id of one that has `inside` as its own.
    pub fn tgid(&self, inside: u32) -> Result<Option<u32>> {
        Ok(self.cgroup.processes()?.into_iter().find(|tgid| inner(*tgid) == Some(inside)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Takes the first process along, and that everybody.
        self.unshare.kill().ok();
        self.unshare.wait().ok();
    }
}

/// A program that the OOM killer may choose, although it may not choose the test that starts it on a whole
/// machine.
fn program(world: World, name: &str) -> Command {
    match world {
        World::Cgroup => Command::new(name),
        World::Machine => {
            let mut command = Command::new("choom");
            command.args(["--adjust", "0", "--", name]);
            command
        }
    }
}

/// Children of a process.
pub(super) fn children(parent: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.split_whitespace().map(|pid| pid.parse().context("pid")).collect()
}

/// Process id in the innermost namespace.
fn inner(tgid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tgid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().next_back()?.parse().ok()
}

/// A test that is killed leaves nobody behind.
fn die_with_us(command: &mut Command) {
    let ask = || {
        // SAFETY: prctl with these arguments has no memory effects and is async-signal-safe.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only calls prctl, which is allowed between fork and exec.
    unsafe { command.pre_exec(ask) };
}
