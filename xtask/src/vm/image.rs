//! The guests' disk: a Debian root file system, made once, and in each run a disk image of it with
//! our programs in `/rampage`.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::catalog::{Catalog, Run};
use super::plan::Plan;
use crate::exec::{Output, exec};
use crate::platform::Arch;
use crate::workspace::{Workspace, as_root};

/// Where our programs are in the guest.
pub const INSIDE: &str = "/rampage";

/// The disk's id in its partition table: the kernel finds the root by it, since NVMe disks are
/// enumerated in no certain order.
pub const DISK_ID: u32 = 0x7261_6d70;

const IMAGE_MIB: u64 = 1800;
const START_SECTOR: u32 = 2048;
const SECTOR_BYTES: u64 = 512;

/// A test program that cargo has built.
#[derive(Clone, Debug)]
pub struct TestProgram {
    /// Name of its source file.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What goes into the guests.
pub struct Programs {
    /// The tests.
    pub tests: Vec<TestProgram>,
    /// Other programs, by the name that they have in the guest.
    pub others: Vec<(String, PathBuf)>,
    arch: Arch,
}

impl Programs {
    /// Builds the tests and rampage.
    pub fn build(workspace: &Workspace, arch: Arch) -> anyhow::Result<Self> {
        let mut release = crate::build::release(workspace, crate::build::Courier::LeftOut);
        arch.target(&mut release);
        exec(&mut release, Output::Shown)?;
        let mut build = workspace.cargo(["test", "--package", "tests", "--no-run"]);
        arch.target(&mut build);
        build.arg("--message-format=json-render-diagnostics");
        build.arg("--target-dir").arg(&workspace.target);
        let text = exec(&mut build, Output::Captured)?;
        let mut tests = Vec::new();
        let mut others = vec![("rampage".to_owned(), arch.rampage(workspace))];
        for message in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let (Some(path), Some(name)) =
                (message["executable"].as_str(), message["target"]["name"].as_str())
            else {
                continue;
            };
            let name = name.to_owned();
            match message["target"]["kind"][0].as_str() {
                Some("test") => tests.push(TestProgram { name, path: path.into() }),
                Some("bin") if message["profile"]["test"] == false => {
                    others.push((name, path.into()));
                }
                _ => {}
            }
        }
        tests.sort_by(|one, other| one.name.cmp(&other.name));
        ensure!(!tests.is_empty(), "cargo built no test program");
        Ok(Self { tests, others, arch })
    }

    /// All tests, as `PROGRAM::TEST`.
    pub fn list(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for program in &self.tests {
            let mut list = Command::new(&program.path);
            let text = exec(list.args(["--list", "--format", "terse"]), Output::Captured)?;
            let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
            names.extend(tests.map(|test| format!("{}::{test}", program.name)));
        }
        Ok(names)
    }
}

/// Makes the root file system when there is none of this recipe. Takes half a minute.
pub fn root(catalog: &Catalog, folder: &Path, arch: Arch) -> anyhow::Result<PathBuf> {
    let mut packages = catalog.packages.clone();
    if arch.is_native() {
        packages.extend(catalog.native_packages.iter().cloned());
    }
    let packages = packages.join(",");
    let recipe = format!("{} {} {packages}\n", catalog.suite, arch.debian());
    let (root, stamp) = (folder.join("root"), folder.join("root.recipe"));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(root);
    }
    eprintln!("vm: making a root file system of Debian {} (half a minute)", catalog.suite);
    if root.exists() {
        exec(as_root("rm")?.args(["-rf", "--one-file-system"]).arg(&root), Output::Captured)?;
    }
    let mut make = as_root("mmdebstrap")?;
    make.args(["--quiet", "--mode=root", &format!("--architectures={}", arch.debian())]);
    if arch.is_native() {
        make.arg("--variant=apt");
    } else {
        // What the packages' own scripts would do cannot run here: unpacked files must do.
        make.args(["--variant=extract", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]);
    }
    make.arg(format!("--include={packages}"));
    make.args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=Acquire::Retries \"3\""]);
    make.arg(&catalog.suite).arg(&root);
    exec(&mut make, Output::Captured).context("making the guests' root file system")?;
    fs::write(&stamp, recipe).with_context(|| stamp.display().to_string())?;
    Ok(root)
}

/// Puts our programs and the plans of `runs` into the root and makes a disk image of it.
pub fn disk(
    workspace: &Workspace,
    root: &Path,
    folder: &Path,
    programs: &Programs,
    runs: &[Run],
) -> anyhow::Result<PathBuf> {
    let stage = folder.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| stage.display().to_string())?;
    }
    for below in ["tests", "plans"] {
        fs::create_dir_all(stage.join(below)).with_context(|| stage.display().to_string())?;
    }
    let wanted = |program: &&TestProgram| {
        let prefix = format!("{}::", program.name);
        runs.iter().any(|run| run.tests.iter().any(|test| test.starts_with(&prefix)))
    };
    for program in programs.tests.iter().filter(wanted) {
        strip(programs.arch, &program.path, &stage.join("tests").join(&program.name))?;
    }
    for (name, path) in &programs.others {
        if !name.starts_with("bench") {
            strip(programs.arch, path, &stage.join("tests").join(name))?;
        }
    }
    for run in runs {
        let path = stage.join("plans").join(run.name().replace('/', "-"));
        let plan = serde_json::to_vec(&Plan::in_guest(run))?;
        fs::write(&path, plan).with_context(|| path.display().to_string())?;
    }
    for name in ["incident", "kernels"] {
        let folder = workspace.root.join("tests").join(name);
        if folder.is_dir() {
            exec(Command::new("cp").arg("-r").args([&folder, &stage]), Output::Captured)?;
        }
    }
    let inside = root.join(INSIDE.trim_start_matches('/'));
    exec(as_root("rm")?.arg("-rf").arg(&inside), Output::Captured)?;
    exec(as_root("mv")?.args([&stage, &inside]), Output::Captured)?;

    let image = folder.join("root.img");
    partition(&image).with_context(|| image.display().to_string())?;
    let mut make = as_root("mke2fs")?;
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal"]);
    make.arg("-E").arg(format!("offset={}", u64::from(START_SECTOR) * SECTOR_BYTES));
    make.arg("-d").arg(root).arg(&image).arg(format!("{}M", IMAGE_MIB - 2));
    exec(&mut make, Output::Captured)
        .context("making the guests' disk; is there room in the target folder?")?;
    Ok(image)
}

/// A copy without symbols: a tenth of the size.
fn strip(arch: Arch, from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut strip = Command::new(arch.tool("strip"));
    exec(strip.arg("--strip-all").arg("-o").args([to, from]), Output::Captured).map(drop)
}

/// An empty disk with one Linux partition.
fn partition(image: &Path) -> std::io::Result<()> {
    let mut file = File::create(image)?;
    file.set_len(IMAGE_MIB << 20)?;
    let sectors = (IMAGE_MIB << 20) / SECTOR_BYTES - u64::from(START_SECTOR);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&boot_record(u32::try_from(sectors).unwrap_or(u32::MAX)))
}

/// A master boot record: the disk's id at 440, the first partition at 446, its mark at the end.
fn boot_record(sectors: u32) -> [u8; 512] {
    const LINUX: u8 = 0x83;
    let mut record = [0; 512];
    record[440..444].copy_from_slice(&DISK_ID.to_le_bytes());
    record[450] = LINUX;
    record[454..458].copy_from_slice(&START_SECTOR.to_le_bytes());
    record[458..462].copy_from_slice(&sectors.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_is_what_tools_read() {
        let path = std::env::temp_dir().join(format!("rampage-mbr-{}", std::process::id()));
        partition(&path).unwrap();
        let mut dump = Command::new("sfdisk");
        let shown = dump.arg("--dump").arg(&path).output();
        let bytes = fs::metadata(&path).unwrap().len();
        fs::remove_file(&path).unwrap();
        assert_eq!(bytes, IMAGE_MIB << 20);
        // sfdisk, where there is one, is the oracle.
        if let Ok(shown) = shown {
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(text.contains("label-id: 0x72616d70"), "{text}");
            assert!(text.contains("start=        2048") && text.contains("type=83"), "{text}");
        }
    }
}
