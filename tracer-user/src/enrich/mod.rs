//! What /proc and the cgroup file systems tell.
