//! Fixtures of the tests against the real kernel and real PHP: memory cgroups, a process that takes
//! memory as told, a private php-fpm, the tracer as a black box, and oracles to check it by.

pub mod binary;
pub mod bpf;
pub mod cgroup;
pub mod clock;
pub mod counters;
pub mod debian_php;
pub mod fastcgi;
pub mod features;
pub mod foretold;
pub mod hog;
pub mod incident;
pub mod keep;
pub mod kernel_log;
pub mod latency;
pub mod marks;
pub mod php;
pub mod proc;
pub mod recording;
pub mod scenario;
pub mod scene;
pub mod service;
pub mod support;
pub mod trace;
pub mod tracer;
pub mod writer;
