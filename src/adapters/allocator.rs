//! The allocator of the whole process, C libraries included: bief and librdkafka fill and free large buffers all the
//! time, on many threads. glibc either gives each of them back to the system at once, so that every use faults its pages
//! in anew (a seventh of bief's processor time), or keeps up to several times what is in use; jemalloc keeps what was
//! freed for a moment and then gives it back. One of the two files with `unsafe`: it only names the settings.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc before anything is allocated; `MALLOC_CONF` of the environment goes over it. Freed pages leave
/// within about a quarter of a second, by a thread of jemalloc's own; buffers of several MiB are no exception; threads
/// share few heaps.
// SAFETY: jemalloc looks for a pointer to text that ends with a NUL byte by this name; the first word of the slice is one.
#[unsafe(export_name = "malloc_conf")]
pub static SETTINGS: &[u8] =
    b"background_thread:true,dirty_decay_ms:250,muzzy_decay_ms:0,narenas:4,oversize_threshold:0\0";
