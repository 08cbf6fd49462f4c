//! btf.
