//! Who set a memory cgroup's limit, as far as its path tells: a unit of systemd, a container, a pod.

use std::sync::Arc;

use crate::event::{LimitOwner, OwnerKind};

/// Prefixes of the scopes and folders that container engines make, before the container's id.
const CONTAINERS: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];
/// Folders whose children are containers, named by their ids.
const CONTAINER_FOLDERS: [&str; 3] = ["docker", "lxc", "lxc.payload"];
/// Shown of a container's id, as `docker ps` does.
const ID_CHARS: usize = 12;

/// The owner of the cgroup at `path`; None = the path does not tell.
pub(crate) fn of(path: &str) -> Option<LimitOwner> {
    let mut names = path.rsplit('/').filter(|name| !name.is_empty());
    let name = names.next()?;
    let parent = names.next();
    let owner = |kind, name: &str| LimitOwner { kind, name: Arc::from(name) };
    if let Some(id) = container(name, parent) {
        return Some(owner(OwnerKind::Container, id));
    }
    if let Some(uid) = pod(name) {
        return Some(owner(OwnerKind::Pod, &uid));
    }
    let is_unit = [".service", ".slice", ".scope"].iter().any(|suffix| name.ends_with(suffix));
    is_unit.then(|| owner(OwnerKind::Unit, name))
}

fn container<'a>(name: &'a str, parent: Option<&str>) -> Option<&'a str> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    let id = CONTAINERS.iter().find_map(|prefix| bare.strip_prefix(prefix));
    let in_folder = parent.is_some_and(|parent| {
        CONTAINER_FOLDERS.contains(&parent) || pod(parent).is_some() && is_id(name)
    });
    let id = id.or(in_folder.then_some(bare))?;
    Some(&id[..id.floor_char_boundary(ID_CHARS)])
}

/// `kubepods-burstable-pod1b2c_….slice`, `pod1b2c-…`: the pod's uid.
fn pod(name: &str) -> Option<String> {
    let bare = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match bare.starts_with("kubepods") {
        true => bare.rsplit_once("-pod")?.1,
        false => bare.strip_prefix("pod")?,
    };
    let is_uid =
        uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b"-_".contains(&b));
    is_uid.then(|| uid.replace('_', "-"))
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_who_set_the_limit() {
        let id = "4f5e6d7c8b9a0123456789abcdef0123456789abcdef0123456789abcdef0123";
        let uid = "1b2c3d4e-0000-1111-2222-333344445555";
        let told = |path: &str| of(path).map(|owner| (owner.kind, owner.name.to_string()));
        for (path, expected) in [
            ("/system.slice/php8.2-fpm.service", Some((OwnerKind::Unit, "php8.2-fpm.service"))),
            ("/system.slice", Some((OwnerKind::Unit, "system.slice"))),
            (&format!("/system.slice/docker-{id}.scope"), Some((OwnerKind::Container, &id[..12]))),
            (&format!("/docker/{id}"), Some((OwnerKind::Container, &id[..12]))),
            (&format!("/machine.slice/libpod-{id}.scope"), Some((OwnerKind::Container, &id[..12]))),
            (
                &format!("/kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_")),
                Some((OwnerKind::Pod, uid)),
            ),
            (&format!("/kubepods/burstable/pod{uid}"), Some((OwnerKind::Pod, uid))),
            (
                &format!("/kubepods/burstable/pod{uid}/{id}"),
                Some((OwnerKind::Container, &id[..12])),
            ),
            ("/web", None),
            ("/podium", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(told(path), expected.map(|(kind, name)| (kind, name.to_owned())), "{path}");
        }
    }

    #[test]
    fn hostile_paths_do_no_harm() {
        for path in ["/docker/é".repeat(9), "/docker-é.scope".to_owned(), "//.service/".to_owned()]
        {
            of(&path);
        }
    }
}
