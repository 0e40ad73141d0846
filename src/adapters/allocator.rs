//! Sets the C library's allocator up so that memory that was given back leaves the process: bief holds large buffers for
//! a short time on many threads, which glibc's defaults keep for the rest of its life, up to several times what is in
//! use. One of the two files with `unsafe`: it only sets numbers, before there are threads.

#![allow(unsafe_code)]

/// Allocations of so many bytes are mapped by themselves and unmapped when they are freed. Fixed, since glibc otherwise
/// raises it to the largest buffer it has seen freed, and keeps everything below.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 256 << 10;
/// Free bytes at the end of a heap beyond which it shrinks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIMMED: i32 = 1 << 20;
/// Heaps for all threads together: each keeps what its threads have freed. glibc makes eight for each core.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 4;

/// To be called once, at the start of the process. Values that the environment sets (`GLIBC_TUNABLES`) are replaced.
/// Does nothing where the allocator is another.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two numbers by value and only changes how later allocations are served; one that it does
    // not know it refuses.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIMMED);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}
