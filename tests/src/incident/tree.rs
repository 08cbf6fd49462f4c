//! The files of the site in a temporary folder, laid out like `/`: its configuration, its pages, and room
//! for data, sockets and logs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{LIMIT_BYTES, World};

/// Bytes of the supplier's feed.
const FEED_BYTES: usize = 1 << 20;
/// Swap as it was, a 32nd of 4 GiB of which 82 % were used. What the audit reads; nothing swaps.
const SWAP_KIB: u64 = 128 << 10;
const SWAP_FREE_KIB: u64 = SWAP_KIB * 18 / 100;

/// The folder; removed when dropped.
#[derive(Debug)]
pub struct Tree {
    folder: tempfile::TempDir,
    world: World,
}

impl Tree {
    /// A copy of the fixture, for servers in `world`.
    pub fn new(world: World) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rampage-shop-").tempdir()?;
        // The servers run as users of their own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let (tree, fixture) = (Self { folder, world }, fixture());
        copy(&fixture.join("etc"), &tree.at("/etc"))?;
        copy(&fixture.join("shop"), &tree.at("/var/www/shop"))?;
        fs::write(tree.at("/var/www/shop/feed.csv"), feed(world))?;
        match world {
            World::Cgroup => {
                fs::create_dir(tree.at("/proc"))?;
                fs::write(tree.at("/proc/meminfo"), meminfo())?;
            }
            World::Machine => take_database(&tree.at("/var/lib"))?,
        }
        Ok(tree)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whose memory its servers share.
    pub fn world(&self) -> World {
        self.world
    }

    /// Where a file of the site is for us: `/run/nginx.sock`.
    pub fn at(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    /// Appends a line to a file of the site.
    pub fn append(&self, path: &str, line: &str) -> Result<()> {
        let path = self.at(path);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(fs::write(&path, format!("{text}{line}\n"))?)
    }
}

/// Configuration and pages as they are in the repository: `$RAMPAGE_INCIDENT`, or `incident` beside the tests.
fn fixture() -> PathBuf {
    std::env::var_os("RAMPAGE_INCIDENT").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/incident")),
        PathBuf::from,
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The database that Debian's package made: to make one takes minutes on a machine that is emulated.
fn take_database(to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let status = Command::new("cp").arg("-a").arg("/var/lib/mysql").arg(to).status()?;
    ensure!(status.success(), "copying /var/lib/mysql: {status}");
    Ok(())
}

/// Rows of some 1 KiB, or of 16 where it is emulated: reading one takes as long.
fn feed(world: World) -> String {
    let words = "what the supplier says of it ".repeat(match world {
        World::Cgroup => 32,
        World::Machine => 512,
    });
    let mut rows = String::new();
    for row in 1.. {
        if rows.len() > FEED_BYTES {
            break;
        }
        rows += &format!("{row};Supplier article {row};{row}.90;{words}\n");
    }
    rows
}

/// The machine as its programs see it.
fn meminfo() -> String {
    let total_kib = LIMIT_BYTES >> 10;
    format!(
        "MemTotal: {total_kib} kB\nMemFree: {0} kB\nMemAvailable: {0} kB\nSwapTotal: {SWAP_KIB} kB\n\
         SwapFree: {SWAP_FREE_KIB} kB\n",
        total_kib / 2
    )
}
