//! The outage in miniature: nginx, php-fpm with 20 workers, MariaDB and Redis with the configuration of
//! `tests/incident/`, together in one memory cgroup or on a machine of their own, and customers who ask them.
//! All sizes are a 32nd of those of the real one: 512 MiB instead of 16 GiB, a memory_limit of 256M instead of
//! 8192M.
//!
//! The servers see the configuration where it belongs (`/etc/php`, `/etc/mysql` …), because they have a mount
//! namespace of their own, and like in a container their own process ids and network.

pub mod audited;
pub mod http;
pub mod load;
pub mod place;
pub mod site;
pub mod sleeper;
pub mod story;
pub mod tree;
pub mod witness;

/// What all servers may use together in a cgroup: the memory of the machine, bytes.
pub const LIMIT_BYTES: u64 = 512 << 20;

/// Whose memory the servers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// That of a memory cgroup of [`LIMIT_BYTES`]. Swap is told to the audit, and not there.
    Cgroup,
    /// That of a whole machine which is ours, with its swap. Whoever is not of the site is to be protected
    /// from the OOM killer; the site's processes are not, whoever starts them.
    Machine,
}
