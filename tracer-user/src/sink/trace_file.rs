//! trace_file.
