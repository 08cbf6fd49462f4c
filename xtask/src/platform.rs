//! What differs between processor architectures: how to build for one, and how to emulate it.

use std::env::consts::ARCH;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::debian;
use crate::toolchain::Rustc;
use crate::workspace::Workspace;

/// An architecture, as Debian calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    #[default]
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// That of this host.
    pub fn native() -> Self {
        if Self::Arm64.is_native() { Self::Arm64 } else { Self::Amd64 }
    }

    /// The other one.
    pub fn foreign() -> Self {
        if Self::Arm64.is_native() { Self::Amd64 } else { Self::Arm64 }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust and the GNU tools call it.
    fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// This host runs its programs.
    pub fn is_native(self) -> bool {
        self.gnu() == ARCH
    }

    /// Rust's target.
    pub fn triple(self) -> String {
        format!("{}-unknown-linux-gnu", self.gnu())
    }

    /// Debian's package that emulates it.
    pub fn emulator(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86",
            Self::Arm64 => "qemu-system-arm",
        }
    }

    /// Installs what is missing to build for it.
    pub fn ensure(self, workspace: &Workspace) -> anyhow::Result<()> {
        if self.is_native() {
            return Ok(());
        }
        Rustc::probe(workspace)?.ensure_target(workspace, &self.triple())?;
        let name = self.gnu().replace('_', "-");
        let gcc = format!("gcc-{name}-linux-gnu");
        let libc = format!("libc6-dev-{}-cross", self.debian());
        debian::ensure(&[&gcc, &libc], &format!("building for {}", self.debian()))
    }

    /// A tool of binutils for it.
    pub fn tool(self, name: &str) -> String {
        if self.is_native() { name.to_owned() } else { format!("{}-linux-gnu-{name}", self.gnu()) }
    }

    /// Lets a cargo command build for it. Natively it builds as always.
    pub fn target(self, cargo: &mut Command) {
        if self.is_native() {
            return;
        }
        let (triple, gcc) = (self.triple(), self.tool("gcc"));
        let name = triple.replace('-', "_");
        cargo.args(["--target", &triple]);
        cargo.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), &gcc);
        cargo.env(format!("CC_{name}"), &gcc);
    }

    /// Where its release build of rampage is.
    pub fn rampage(self, workspace: &Workspace) -> PathBuf {
        if self.is_native() {
            return workspace.rampage();
        }
        workspace.target.join(self.triple()).join("release/rampage")
    }

    /// QEMU with a machine and a CPU that all the kernels run on.
    pub fn qemu(self, kvm: bool) -> [&'static str; 7] {
        // QEMU 7.2 emulates cmpxchg16b and more than one thread wrongly: guests crashed.
        let (program, machine, cpu) = match self {
            Self::Amd64 => ("qemu-system-x86_64", "q35", "max,-cx16"),
            Self::Arm64 => ("qemu-system-aarch64", "virt", "max"),
        };
        let (accelerator, cpu) = if kvm { ("kvm", "host") } else { ("tcg,thread=single", cpu) };
        [program, "-M", machine, "-accel", accelerator, "-cpu", cpu]
    }

    /// The serial port as the kernel calls it.
    pub fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_build_names_its_tools() {
        let foreign = Arch::foreign();
        assert!(!foreign.is_native());
        let mut cargo = Command::new("cargo");
        foreign.target(&mut cargo);
        let words: Vec<_> = cargo.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words, ["--target", &foreign.triple()]);
        assert_eq!(cargo.get_envs().count(), 2);
        assert!(foreign.tool("gcc").ends_with("-linux-gnu-gcc"));
        let native = Arch::native();
        assert!(native.is_native());
        let mut cargo = Command::new("cargo");
        native.target(&mut cargo);
        assert_eq!((cargo.get_args().count(), native.tool("gcc")), (0, "gcc".to_owned()));
    }
}
