//! What differs between processor architectures: how to build for one, and how to emulate it.

use std::env::consts::ARCH;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

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

    /// Debian packages that building for it and emulating it need.
    pub fn packages(self) -> Vec<String> {
        let mut packages = vec![match self {
            Self::Amd64 => "qemu-system-x86".to_owned(),
            Self::Arm64 => "qemu-system-arm".to_owned(),
        }];
        if !self.is_native() {
            let name = self.gnu().replace('_', "-");
            packages.push(format!("gcc-{name}-linux-gnu"));
            packages.push(format!("libc6-dev-{}-cross", self.debian()));
        }
        packages
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
        let foreign = if ARCH == "x86_64" { Arch::Arm64 } else { Arch::Amd64 };
        let mut cargo = Command::new("cargo");
        foreign.target(&mut cargo);
        let words: Vec<_> = cargo.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words, ["--target", &foreign.triple()]);
        assert_eq!(cargo.get_envs().count(), 2);
        assert!(foreign.tool("gcc").ends_with("-linux-gnu-gcc"));
        let native = if foreign == Arch::Arm64 { Arch::Amd64 } else { Arch::Arm64 };
        let mut cargo = Command::new("cargo");
        native.target(&mut cargo);
        assert_eq!((cargo.get_args().count(), native.tool("gcc")), (0, "gcc".to_owned()));
    }
}
