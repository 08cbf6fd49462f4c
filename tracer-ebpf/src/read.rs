//! Reading kernel memory at offsets that user space resolved.

use core::ffi::c_void;
use core::mem::size_of;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_probe_read_kernel, generated as helpers};
use tracer_ebpf::offsets::ABSENT;

use crate::maps::Drop;

macro_rules! offsets {
    ($($name:ident: $structure:literal [$($field:literal),+];)+) => {
        $(
            #[doc = concat!("Offset in `", $structure, "`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(ABSENT);
        )+
    };
}
tracer_ebpf::for_each_offset!(offsets);

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $value:literal;)+) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub static $name: Global<$kind> = Global::new($value);
        )+
    };
}
tracer_ebpf::for_each_setting!(settings);

/// Reads a `T` at `base + offset` in kernel memory.
#[inline(always)]
pub fn field<T: Copy>(base: u64, offset: &Global<u32>) -> Result<T, Drop> {
    at(base.wrapping_add(u64::from(offset.load())))
}

/// Reads a `T` at a kernel address.
#[inline(always)]
pub fn at<T: Copy>(address: u64) -> Result<T, Drop> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(address as *const T) }.map_err(|_| Drop::UNREADABLE)
}

/// Reads a `T` at `base + offset` to where it belongs, without a copy on the stack.
#[inline(always)]
pub fn field_into<T: Copy>(base: u64, offset: &Global<u32>, to: *mut T) -> Result<(), Drop> {
    let from = base.wrapping_add(u64::from(offset.load()));
    // SAFETY: the verifier checks that `to` has room; the helper checks the address.
    let failed = unsafe {
        helpers::bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from as *const c_void)
    };
    if failed == 0 { Ok(()) } else { Err(Drop::UNREADABLE) }
}

/// Whether the running kernel has the field.
#[inline(always)]
pub fn present(offset: &Global<u32>) -> bool {
    offset.load() != ABSENT
}
