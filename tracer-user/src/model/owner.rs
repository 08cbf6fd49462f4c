//! Whose a memory cgroup is, as far as its path tells: a unit of systemd, a container, a pod.
//!
//! Paths are read name by name, wherever they begin: in the hierarchy of v1 or v2, below another
//! container (kind, Docker in Docker), or, seen from inside of a cgroup namespace, with `/..`.

use std::sync::Arc;

use crate::event::{LimitOwner, OwnerKind};

/// What engines put before a container's id (systemd's scopes, and folders of podman and cri-o).
const CONTAINERS: [&str; 6] =
    ["docker-", "cri-containerd-", "crio-", "libpod-payload-", "libpod-", "nerdctl-"];
/// What LXC puts before a container's name. `lxc.monitor.` is not the container.
const LXC: &str = "lxc.payload.";
/// Folders whose children are containers, by name.
const LXC_FOLDERS: [&str; 2] = ["lxc", "lxc.payload"];
/// Machines of systemd: containers of systemd-nspawn and libvirt, and, with `qemu`, virtual machines.
const MACHINE: &str = "machine-";
const VIRTUAL_MACHINE: &str = "qemu-";
/// The unit of a container that `machinectl start` starts.
const NSPAWN: &str = "systemd-nspawn@";
/// Podman's pods: slices by systemd, a folder without it.
const PODMAN_POD: &str = "-libpod_pod_";
const PODMAN_FOLDER: &str = "libpod_parent";
/// Shown of a container's id, as `docker ps` does.
const ID_CHARS: usize = 12;

/// What a path tells of the processes in a memory cgroup. Several can be known: a container runs in
/// its pod, and units run in a container with a systemd of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The innermost container: its whole id (64 hexadecimal digits), or its name where the engine
    /// has names only (LXC, systemd-nspawn).
    pub container: Option<String>,
    /// The pod: its uid in Kubernetes, its id in podman.
    pub pod: Option<String>,
    /// The innermost service or scope of systemd that is not only a container's own; without any, and
    /// without container and pod, the innermost slice.
    pub unit: Option<String>,
}

/// Who runs in the cgroup at `path`. Nothing is known of a path that follows no engine's habit.
pub fn identity(path: &str) -> Identity {
    let mut known = Identity::default();
    let mut slice = None;
    let mut parent = "";
    for name in names(path) {
        match kind(name, parent) {
            Some(Kind::Container(id)) => known.container = Some(id),
            // What was met before it is the machine that the pod runs on.
            Some(Kind::Pod(id)) => (known.pod, known.container) = (Some(id), None),
            Some(Kind::Unit) if name.ends_with(".slice") => slice = Some(name),
            Some(Kind::Unit) => known.unit = Some(name.to_owned()),
            None => {}
        }
        if name.starts_with(NSPAWN) {
            known.unit = Some(name.to_owned());
        }
        parent = name;
    }
    if known == Identity::default() {
        known.unit = slice.map(str::to_owned);
    }
    known
}

/// Who made the cgroup at `path` and set its limit; None = its name does not tell. Ids of containers
/// are shortened as `docker ps` does.
pub(crate) fn of(path: &str) -> Option<LimitOwner> {
    let (mut parent, mut name) = ("", "");
    for next in names(path) {
        (parent, name) = (name, next);
    }
    let (kind, name) = match kind(name, parent)? {
        Kind::Container(id) => (OwnerKind::Container, short(&id).into()),
        Kind::Pod(id) => (OwnerKind::Pod, short(&id).into()),
        Kind::Unit => (OwnerKind::Unit, Arc::from(name)),
    };
    Some(LimitOwner { kind, name })
}

/// What one name of a path stands for.
enum Kind {
    Container(String),
    Pod(String),
    Unit,
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    // containerd that was told systemd's names without systemd makes one of three:
    // `kubepods-pod….slice:cri-containerd:4f5e…`.
    path.split(['/', ':']).filter(|name| !matches!(*name, "" | "." | ".."))
}

fn kind(name: &str, parent: &str) -> Option<Kind> {
    if let Some(pod) = pod(name, parent) {
        return Some(Kind::Pod(pod));
    }
    if let Some(container) = container(name, parent) {
        return Some(Kind::Container(container));
    }
    let is_unit = [".service", ".slice", ".scope"].iter().any(|suffix| name.ends_with(suffix));
    is_unit.then_some(Kind::Unit)
}

fn container(name: &str, parent: &str) -> Option<String> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    let id = CONTAINERS.iter().find_map(|prefix| bare.strip_prefix(prefix)).unwrap_or(bare);
    if is_id(id) {
        return Some(id.to_owned());
    }
    if let Some(name) = name.strip_prefix(LXC) {
        return Some(name.to_owned());
    }
    if LXC_FOLDERS.contains(&parent) {
        return Some(name.to_owned());
    }
    if let Some(name) = name.strip_prefix(NSPAWN).and_then(|name| name.strip_suffix(".service")) {
        return Some(unescaped(name));
    }
    let machine = name.strip_prefix(MACHINE)?.strip_suffix(".scope").map(unescaped)?;
    (!machine.starts_with(VIRTUAL_MACHINE)).then_some(machine)
}

/// `kubepods-burstable-pod1b2c_….slice` (in kind: `kubelet-kubepods-…`), `pod1b2c-…`: the pod's uid.
/// `machine-libpod_pod_4f5e….slice`, `libpod_parent/4f5e…`: the id of a pod of podman.
fn pod(name: &str, parent: &str) -> Option<String> {
    let slice = name.strip_suffix(".slice");
    if let Some((_, id)) = slice.and_then(|bare| bare.split_once(PODMAN_POD)) {
        return is_id(id).then(|| id.to_owned());
    }
    if parent == PODMAN_FOLDER {
        return is_id(name).then(|| name.to_owned());
    }
    let uid = match slice {
        Some(bare) if bare.contains("kubepods") => bare.rsplit_once("-pod")?.1,
        _ => name.strip_prefix("pod")?,
    };
    let is_uid =
        uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b"-_".contains(&b));
    is_uid.then(|| uid.replace('_', "-"))
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn short(id: &str) -> &str {
    if is_id(id) { &id[..ID_CHARS] } else { id }
}

/// A name without systemd's escapes (systemd-escape(1)); what is no escape stays.
fn unescaped(name: &str) -> String {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once(r"\x") {
        plain.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match byte {
            Some(byte) => {
                plain.push(byte);
                &after[2..]
            }
            None => {
                plain.extend_from_slice(br"\x");
                after
            }
        };
    }
    plain.extend_from_slice(rest.as_bytes());
    String::from_utf8(plain).unwrap_or_else(|_| name.to_owned())
}

#[cfg(test)]
mod tests;
