//! Paths as the engines make them.

use super::*;

/// A container, a container around it, and pods.
const ID: &str = "4f5e6d7c8b9a0123456789abcdef0123456789abcdef0123456789abcdef0123";
const NODE: &str = "9e8d7c6b5a40123456789abcdef0123456789abcdef0123456789abcdef01234";
const UID: &str = "1b2c3d4e-0000-1111-2222-333344445555";
const UID_IN_SLICE: &str = "1b2c3d4e_0000_1111_2222_333344445555";
/// Of a static pod: the hash of its manifest.
const HASH: &str = "0123456789abcdef0123456789abcdef";

fn path(template: &str) -> String {
    template
        .replace("SLICE_UID", UID_IN_SLICE)
        .replace("UID", UID)
        .replace("ID", ID)
        .replace("NODE", NODE)
        .replace("HASH", HASH)
}

/// Container, pod and unit.
fn told(template: &str) -> [Option<String>; 3] {
    let Identity { container, pod, unit } = identity(&path(template));
    [container, pod, unit]
}

fn some(expected: [&str; 3]) -> [Option<String>; 3] {
    expected.map(|one| (!one.is_empty()).then(|| path(one)))
}

#[test]
fn each_engine_is_known() {
    for (template, expected) in [
        // Docker: with systemd, with cgroupfs, with a parent of one's own, rootless.
        ("/system.slice/docker-ID.scope", ["ID", "", ""]),
        ("/docker/ID", ["ID", "", ""]),
        ("/web/ID", ["ID", "", ""]),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            ["ID", "", "user@1000.service"],
        ),
        // In it: a systemd of its own, and another Docker.
        ("/docker/ID/system.slice/nginx.service", ["ID", "", "nginx.service"]),
        ("/system.slice/docker-ID.scope/init.scope", ["ID", "", "init.scope"]),
        ("/docker/NODE/docker/ID", ["ID", "", ""]),
        ("/docker/buildkit/x2zabv1oq", ["", "", ""]),
        // containerd by nerdctl: with cgroupfs (the folder is the namespace), with systemd.
        ("/default/ID", ["ID", "", ""]),
        ("/system.slice/nerdctl-ID.scope", ["ID", "", ""]),
        // podman: root, cgroupfs, rootless (crun makes a folder below), quadlet, pods.
        ("/machine.slice/libpod-ID.scope", ["ID", "", ""]),
        ("/machine.slice/libpod-ID.scope/container", ["ID", "", ""]),
        ("/libpod_parent/libpod-ID", ["ID", "", ""]),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            ["ID", "", "user@1000.service"],
        ),
        ("/system.slice/web.service/libpod-payload-ID", ["ID", "", "web.service"]),
        ("/machine.slice/machine-libpod_pod_NODE.slice/libpod-ID.scope", ["ID", "NODE", ""]),
        ("/user.slice/user-libpod_pod_NODE.slice/libpod-ID.scope", ["ID", "NODE", ""]),
        ("/libpod_parent/NODE/libpod-ID", ["ID", "NODE", ""]),
        ("/machine.slice/libpod-conmon-ID.scope", ["", "", "libpod-conmon-ID.scope"]),
        // LXC, Incus and Proxmox.
        ("/lxc/web", ["web", "", ""]),
        ("/lxc.payload/web", ["web", "", ""]),
        ("/lxc.payload.web/system.slice/nginx.service", ["web", "", "nginx.service"]),
        ("/lxc/101/ns", ["101", "", ""]),
        ("/lxc.monitor.web", ["", "", ""]),
        // systemd-nspawn by hand and as a unit; a virtual machine is none.
        (r"/machine.slice/machine-web\x2d1.scope/payload", ["web-1", "", ""]),
        (
            "/machine.slice/systemd-nspawn@web.service/payload",
            ["web", "", "systemd-nspawn@web.service"],
        ),
        (
            r"/machine.slice/machine-qemu\x2d1\x2ddb.scope/libvirt/emulator",
            ["", "", r"machine-qemu\x2d1\x2ddb.scope"],
        ),
    ] {
        assert_eq!(told(template), some(expected), "{template}");
    }
}

#[test]
fn pod_and_container_come_from_one_path() {
    for (template, expected) in [
        // containerd with systemd, with cgroupfs, and told systemd's names without it.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICE_UID.slice/\
             cri-containerd-ID.scope",
            ["ID", "UID", ""],
        ),
        ("/kubepods.slice/kubepods-podSLICE_UID.slice/cri-containerd-ID.scope", ["ID", "UID", ""]),
        ("/kubepods/besteffort/podUID/ID", ["ID", "UID", ""]),
        ("/kubepods/podUID/ID", ["ID", "UID", ""]),
        (
            "/system.slice/containerd.service/kubepods-burstable-podSLICE_UID.slice:\
             cri-containerd:ID",
            ["ID", "UID", "containerd.service"],
        ),
        // cri-o; what watches a container is in the pod and not the container.
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podSLICE_UID.slice/\
             crio-ID.scope/container",
            ["ID", "UID", ""],
        ),
        ("/kubepods/burstable/podUID/crio-ID", ["ID", "UID", ""]),
        ("/kubepods/burstable/podUID/crio-conmon-ID", ["", "UID", ""]),
        (
            "/kubepods.slice/kubepods-podSLICE_UID.slice/crio-conmon-ID.scope",
            ["", "UID", "crio-conmon-ID.scope"],
        ),
        // Docker by cri-dockerd; a static pod.
        ("/kubepods.slice/kubepods-podSLICE_UID.slice/docker-ID.scope", ["ID", "UID", ""]),
        ("/kubepods/burstable/podHASH/ID", ["ID", "HASH", ""]),
        // kind and k3d: the node is a container. Its pod's own cgroup is in no container.
        (
            "/system.slice/docker-NODE.scope/kubelet.slice/kubelet-kubepods.slice/\
             kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podSLICE_UID.slice/\
             cri-containerd-ID.scope",
            ["ID", "UID", ""],
        ),
        ("/docker/NODE/kubelet/kubepods/burstable/podUID/ID", ["ID", "UID", ""]),
        ("/docker/NODE/kubelet/kubepods/burstable/podUID", ["", "UID", ""]),
        ("/docker/NODE/kubepods/podUID/ID", ["ID", "UID", ""]),
        ("/docker/NODE/kubelet", ["NODE", "", ""]),
        // Docker in a pod.
        ("/kubepods/podUID/NODE/docker/ID", ["ID", "UID", ""]),
        // The quality of service is of no pod.
        ("/kubepods.slice/kubepods-burstable.slice", ["", "", "kubepods-burstable.slice"]),
        ("/kubepods/burstable", ["", "", ""]),
    ] {
        assert_eq!(told(template), some(expected), "{template}");
    }
}

#[test]
fn units_are_told_where_nothing_runs_in_a_container() {
    for (template, expected) in [
        ("/system.slice/php8.2-fpm.service", "php8.2-fpm.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/system.slice", "system.slice"),
        ("/user.slice/user-1000.slice", "user-1000.slice"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-code-77.scope",
            "app-code-77.scope",
        ),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", "user@1000.service"),
        ("/system.slice/web.service/workers", "web.service"),
        ("/web", ""),
        ("/podium", ""),
        ("/", ""),
        ("", ""),
    ] {
        assert_eq!(told(template), some(["", "", expected]), "{template}");
    }
}

#[test]
fn paths_are_read_wherever_they_begin() {
    for (template, expected) in [
        // From inside of a cgroup namespace.
        ("/../ID", ["ID", "", ""]),
        ("/../../podUID/ID", ["ID", "UID", ""]),
        (
            "/../../kubepods-besteffort-podSLICE_UID.slice/cri-containerd-ID.scope",
            ["ID", "UID", ""],
        ),
        ("/../../../system.slice/cron.service", ["", "", "cron.service"]),
        ("/../..", ["", "", ""]),
        // From a mount point, of v1 and of v2.
        ("/sys/fs/cgroup/memory/docker/ID", ["ID", "", ""]),
        ("/sys/fs/cgroup/kubepods/podUID/ID", ["ID", "UID", ""]),
    ] {
        assert_eq!(told(template), some(expected), "{template}");
    }
}

#[test]
fn names_tell_who_set_the_limit() {
    let told = |template: &str| of(&path(template)).map(|it| (it.kind, it.name.to_string()));
    for (template, kind, name) in [
        ("/system.slice/php8.2-fpm.service", OwnerKind::Unit, "php8.2-fpm.service"),
        ("/system.slice", OwnerKind::Unit, "system.slice"),
        ("/system.slice/docker-ID.scope", OwnerKind::Container, &ID[..12]),
        ("/docker/ID", OwnerKind::Container, &ID[..12]),
        ("/machine.slice/libpod-ID.scope", OwnerKind::Container, &ID[..12]),
        ("/docker/ID/system.slice/web.service", OwnerKind::Unit, "web.service"),
        ("/lxc/a-name-of-more-than-twelve", OwnerKind::Container, "a-name-of-more-than-twelve"),
        ("/kubepods.slice/kubepods-podSLICE_UID.slice", OwnerKind::Pod, UID),
        ("/kubepods/burstable/podUID", OwnerKind::Pod, UID),
        ("/kubepods/burstable/podUID/ID", OwnerKind::Container, &ID[..12]),
        ("/machine.slice/machine-libpod_pod_NODE.slice", OwnerKind::Pod, &NODE[..12]),
    ] {
        assert_eq!(told(template), Some((kind, name.to_owned())), "{template}");
    }
    for template in ["/web", "/podium", "/", "", "/docker/ID/workers", "/.."] {
        assert_eq!(told(template), None, "{template}");
    }
}

#[test]
fn hostile_paths_do_no_harm() {
    for path in [
        "/docker/é".repeat(9),
        "/docker-é.scope".to_owned(),
        format!("/docker-{}.scope", "é".repeat(32)),
        "//.service/".to_owned(),
        r"/machine-\x.scope".to_owned(),
        r"/machine-\x2.scope".to_owned(),
        r"/machine-a\xé.scope".to_owned(),
        r"/machine-\xff\xfe.scope".to_owned(),
        "/kubepods-pod.slice/pod".to_owned(),
        ":".repeat(4096),
        "/a".repeat(2048),
    ] {
        of(&path);
        identity(&path);
    }
    assert_eq!(unescaped(r"a\x2db\xzz\x"), r"a-b\xzz\x");
    assert_eq!(unescaped(r"\xff"), r"\xff");
}
