//! The host as a whole.

/// Memory of the host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// MemTotal.
    pub mem_total_bytes: u64,
    /// SwapTotal.
    pub swap_total_bytes: u64,
    /// MemAvailable.
    pub available_bytes: u64,
    /// SwapFree.
    pub swap_free_bytes: u64,
    /// Shared memory and tmpfs; None = not known.
    pub shmem_bytes: Option<u64>,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// PSI some over 10 s, percent.
    pub some_avg10: Option<f64>,
    /// PSI full over 10 s, percent.
    pub full_avg10: Option<f64>,
    /// Rate at which available memory + free swap shrink, bytes per second.
    pub rate_bytes_per_s: f64,
}
