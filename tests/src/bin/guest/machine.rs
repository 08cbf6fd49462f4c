//! Sets a virtual machine up as its first process: mounts, cgroups, swap; hands the results back
//! on a raw disk, and switches off.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::order::{Cgroup, Plan, Said};
use crate::{read, run, say};

const OURS: &str = "/rampage";
const CGROUPS: &str = "/sys/fs/cgroup";
const CONSOLE: &str = "/dev/console";

/// Does all that this machine is for; never returns.
pub fn live() -> ! {
    if let Err(error) = work() {
        eprintln!("guest: {error:#}");
    }
    fs::write("/proc/sysrq-trigger", "o").ok();
    loop {
        std::thread::park();
    }
}

fn work() -> Result<()> {
    mount("proc", "proc", "/proc", "")?;
    mount("sysfs", "sysfs", "/sys", "")?;
    if !fs::read_to_string("/proc/self/mounts")?.contains("devtmpfs /dev ") {
        mount("devtmpfs", "devtmpfs", "/dev", "")?;
    }
    // The port is the kernel's console too: from here on only a panic may write to it.
    fs::write("/proc/sys/kernel/printk", "1").context("/proc/sys/kernel/printk")?;
    let mut port = OpenOptions::new().write(true).open(CONSOLE).context(CONSOLE)?;
    let outcome = told(&mut port);
    if let Err(error) = &outcome {
        say(&mut port, &Said::Broken(&format!("{error:#}")))?;
    }
    outcome
}

fn told(port: &mut File) -> Result<()> {
    let plan = read(&Path::new(OURS).join("plans").join(parameter("rampage_plan")?))?;
    set_up(&plan)?;
    let out = Path::new(OURS).join("out");
    let work = Path::new(OURS).join("work");
    for folder in [&out.join("traces"), &work] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::env::set_current_dir(&work)?;
    run::all(&plan, port)?;
    if plan.record {
        let mut record = Command::new(Path::new(OURS).join("tests/kernel_facts"));
        run::program(&plan, record.arg(out.join("record")))?;
    }
    let mut pack = Command::new("tar");
    pack.arg("-cf").arg(disk("out")?).arg("-C").arg(&out).arg(".");
    run::program(&plan, &mut pack)?;
    say(port, &Said::Finished {})
}

/// A word of the kernel's command line.
fn parameter(name: &str) -> Result<String> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned).with_context(|| format!("no {name} on the kernel's command line"))
}

fn set_up(plan: &Plan) -> Result<()> {
    fs::create_dir_all("/dev/shm")?;
    fs::create_dir_all("/dev/pts")?;
    mount("tmpfs", "tmpfs", "/dev/shm", "")?;
    mount("devpts", "devpts", "/dev/pts", "")?;
    mount("tmpfs", "tmpfs", "/run", "")?;
    mount("tracefs", "tracefs", "/sys/kernel/tracing", "")?;
    mount("bpf", "bpf", "/sys/fs/bpf", "")?;
    match plan.cgroup {
        Cgroup::V2 => {
            mount("cgroup2", "cgroup2", CGROUPS, "")?;
            let control = format!("{CGROUPS}/cgroup.subtree_control");
            fs::write(&control, "+memory +pids +cpu").context(control)?;
        }
        Cgroup::V1 | Cgroup::Hybrid => {
            mount("tmpfs", "tmpfs", CGROUPS, "")?;
            for controller in ["memory", "pids"] {
                mount("cgroup", "cgroup", &format!("{CGROUPS}/{controller}"), controller)?;
            }
            if plan.cgroup == Cgroup::Hybrid {
                mount("cgroup2", "cgroup2", &format!("{CGROUPS}/unified"), "")?;
                // As systemd does; without it, until 5.10 limits do not bind the cgroups below.
                let hierarchical = format!("{CGROUPS}/memory/memory.use_hierarchy");
                fs::write(&hierarchical, "1").context(hierarchical)?;
            }
        }
    }
    if plan.swap {
        let disk = disk("swap")?;
        for program in ["mkswap", "swapon"] {
            run::program(plan, Command::new(program).arg(&disk))?;
        }
    }
    if plan.hide_btf {
        mount("tmpfs", "tmpfs", "/sys/kernel/btf", "")?;
    }
    Ok(())
}

/// Mounts a file system, in a folder that is made when missing.
fn mount(kind: &str, source: &str, place: &str, options: &str) -> Result<()> {
    if !Path::new(place).exists() {
        fs::create_dir_all(place).with_context(|| place.to_owned())?;
    }
    let mut mount = Command::new("/bin/mount");
    mount.args(["-n", "-t", kind, source, place]);
    if !options.is_empty() {
        mount.args(["-o", options]);
    }
    let output = mount.output().context("mount")?;
    if !output.status.success() {
        bail!("mounting {place}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The NVMe disk with this serial number: their order is not certain. Its device is the controller,
/// or the subsystem where a kernel knows of several paths; both have the number.
fn disk(serial: &str) -> Result<PathBuf> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let block = entry?;
        let found = fs::read_to_string(block.path().join("device/serial"));
        let node = Path::new("/dev").join(block.file_name());
        match found {
            Ok(found) if found.trim() == serial && node.exists() => return Ok(node),
            found => others.push((node, found)),
        }
    }
    bail!("no disk has the serial number {serial}: {others:?}")
}
