//! What the kernel tells of this process, under the names that Prometheus clients share. Read from /proc at each
//! scrape; on a system without it the series are not registered rather than wrong.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge};

use super::Registrar;

/// Ticks of /proc/self/stat in a second: fixed at 100 in Linux's ABI, whatever the kernel's own timer.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct ProcessSeries {
    cpu: Counter,
    resident_memory: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
}

impl ProcessSeries {
    /// `None` where /proc tells nothing.
    pub(super) fn register(r: &Registrar<'_>) -> Option<Self> {
        fs::read_to_string("/proc/self/status").ok()?;
        let start = r.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.");
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()));
        Some(Self {
            cpu: r.counter("process_cpu_seconds_total", "Processor time used, user and system."),
            resident_memory: r.gauge("process_resident_memory_bytes", "Resident memory."),
            virtual_memory: r.gauge("process_virtual_memory_bytes", "Virtual memory."),
            open_fds: r.gauge("process_open_fds", "Open file descriptors."),
            max_fds: r.gauge("process_max_fds", "Most file descriptors that may be open."),
            threads: r.gauge("process_threads", "Threads of the process."),
        })
    }

    pub(super) fn update(&self) {
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (field, gauge, unit) in [
                ("VmRSS:", &self.resident_memory, 1024.0),
                ("VmSize:", &self.virtual_memory, 1024.0),
                ("Threads:", &self.threads, 1.0),
            ] {
                if let Some(value) = number_after(&status, field) {
                    gauge.set(value * unit);
                }
            }
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(fds.count() as f64);
        }
        if let Some(max) = fs::read_to_string("/proc/self/limits").ok().and_then(|l| number_after(&l, "Max open files"))
        {
            self.max_fds.set(max);
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
    }
}

/// The first number of the line that starts with `field`.
fn number_after(text: &str, field: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15, counted after the command's name, which may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn an_unlimited_number_of_files_is_no_number() {
        assert_eq!(
            number_after("Max open files            unlimited            unlimited            files", "Max open files"),
            None
        );
    }
}
