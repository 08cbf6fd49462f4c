//! The entries: each hook as BTF tracepoint and as raw tracepoint, around the same function.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;

/// Arguments of a tracepoint, which both kinds of program get as 64-bit words.
#[derive(Clone, Copy)]
pub struct Args(*const u64);

/// For the debug lines of aya-log, which want to know whose context they are in.
impl EbpfContext for Args {
    fn as_ptr(&self) -> *mut c_void {
        self.0.cast_mut().cast()
    }
}

impl Args {
    /// The arguments behind a context.
    pub fn new(ctx: &impl EbpfContext) -> Self {
        Self(ctx.as_ptr().cast())
    }

    /// The `n`th argument, from 0, as a word or a kernel address.
    #[inline(always)]
    pub fn get(self, n: usize) -> u64 {
        // SAFETY: the context holds all arguments of the tracepoint; the verifier refuses more.
        unsafe { *self.0.add(n) }
    }
}

/// Defines the programs `$name` (tp_btf) and `$raw` (raw_tp) around `$body(Args)`.
#[macro_export]
macro_rules! tracepoint {
    ($name:ident, $raw:ident, $body:path) => {
        #[aya_ebpf::macros::btf_tracepoint]
        fn $name(ctx: aya_ebpf::programs::BtfTracePointContext) -> i32 {
            $crate::maps::settle($body($crate::hook::Args::new(&ctx)));
            0
        }

        #[aya_ebpf::macros::raw_tracepoint]
        fn $raw(ctx: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::maps::settle($body($crate::hook::Args::new(&ctx)));
            0
        }
    };
}
