//! Processes as `/proc` tells them: who descends from whom, what they take, and an end for them. What it reads is of a
//! moment: a process may be gone when its number is used.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// How long what is killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Bytes, and how they were counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub bytes: u64,
    /// Some part is the resident size, where pages that are shared count for each who shares them.
    pub resident: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub name: String,
    /// Ended; it waits for a parent that collects it.
    pub zombie: bool,
}

impl Process {
    /// As it is told to people.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.name, self.pid)
    }
}

/// `PID (name) state parent …`; the name may hold anything.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process { pid: pid.parse().ok()?, parent, name: name.to_owned(), zombie: matches!(state, "Z" | "X") })
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn text_of(pid: i32, file: &str) -> Option<String> {
    fs::read(format!("/proc/{pid}/{file}")).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// All that descend from it, itself not among them.
pub(super) fn descendants(of: i32) -> Vec<Process> {
    let all: Vec<_> = pids().filter_map(|pid| parse_stat(&text_of(pid, "stat")?)).collect();
    below(of, all)
}

fn below(of: i32, all: Vec<Process>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut waiting) = (Vec::new(), vec![of]);
    while let Some(parent) = waiting.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            waiting.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// The resident sizes of these together, in which pages that are shared count for each.
pub(super) fn resident(of: &[Process]) -> u64 {
    let pages = |pid: i32| text_of(pid, "statm")?.split(' ').nth(1)?.parse::<u64>().ok();
    let each = of.iter().filter(|process| !process.zombie).filter_map(|process| pages(process.pid));
    each.sum::<u64>() * rustix::param::page_size() as u64
}

/// What one process takes: its proportional share, or where that is not told its resident size.
fn of_process(pid: i32) -> Memory {
    let bytes = |file: &str, name: &str| {
        let text = text_of(pid, file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    match bytes("smaps_rollup", "Pss:") {
        Some(pss) => Memory { bytes: pss, resident: false },
        None => match bytes("status", "VmRSS:") {
            Some(rss) => Memory { bytes: rss, resident: true },
            None => Memory::default(),
        },
    }
}

/// What these take together.
pub(super) fn memory(of: &[Process]) -> Memory {
    let each = of.iter().filter(|process| !process.zombie).map(|p| of_process(p.pid));
    each.fold(Memory::default(), |sum, one| Memory {
        bytes: sum.bytes + one.bytes,
        resident: sum.resident || one.resident,
    })
}

/// Seconds of the processor that the children of this process took which it collected, and theirs.
pub(super) fn cpu_of_collected() -> f64 {
    let told = || {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        // Fields 16 and 17 of proc(5); the state is field 3.
        let mut fields = rest.split(' ').skip(13);
        let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
    };
    told().unwrap_or_default()
}

fn signal(process: &Process, signal: Signal) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        // One that is gone needs none.
        let _ = kill_process(pid, signal);
    }
}

/// Kills what `find` finds until it finds nothing alive; `collect` is called between. All are stopped before the first is
/// killed, so that none forks meanwhile. What could not be killed in time is returned.
pub(super) fn kill_all(find: impl Fn() -> Vec<Process>, mut collect: impl FnMut()) -> Vec<Process> {
    let began = Instant::now();
    let alive = || find().into_iter().filter(|process| !process.zombie).collect::<Vec<_>>();
    loop {
        let mut stopped = HashSet::new();
        let mut all = alive();
        while all.iter().any(|process| stopped.insert(process.pid)) && began.elapsed() < KILL_LIMIT {
            all.iter().for_each(|process| {
                stopped.insert(process.pid);
                signal(process, Signal::STOP);
            });
            all = alive();
        }
        all.iter().for_each(|process| signal(process, Signal::KILL));
        collect();
        let left = alive();
        if left.is_empty() || began.elapsed() > KILL_LIMIT {
            return left;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills every process in whose environment this is: names of those that were found, and of those that could not be killed.
pub(super) fn sweep(mark: &str) -> (Vec<String>, Vec<String>) {
    let marked = || -> Vec<Process> {
        let has_mark = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        pids().filter(has_mark).filter_map(|pid| parse_stat(&text_of(pid, "stat")?)).collect()
    };
    let found: Vec<String> = marked().iter().filter(|process| !process.zombie).map(Process::describe).collect();
    if found.is_empty() {
        return (found, Vec::new());
    }
    let left = kill_all(marked, || ());
    (found, left.iter().map(Process::describe).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read() {
        let told = parse_stat("12 (a) b (c)) S 7 12 12 0").unwrap();
        assert_eq!((told.pid, told.parent, told.name.as_str(), told.zombie), (12, 7, "a) b (c)", false));
        assert!(parse_stat("12 (x) Z 7").unwrap().zombie);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_others_are_not() {
        let process = |pid, parent| Process { pid, parent, name: "x".to_owned(), zombie: false };
        let all = vec![process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5)];
        let mut found: Vec<_> = below(2, all).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn the_memory_of_this_process_is_told() {
        let own = i32::try_from(std::process::id()).unwrap();
        let this = Process { pid: own, parent: 1, name: "x".to_owned(), zombie: false };
        let (exact, resident) = (memory(std::slice::from_ref(&this)), resident(&[this]));
        assert!(exact.bytes > 1 << 20 && resident > 1 << 20, "{exact:?}, {resident}");
        assert_eq!(of_process(i32::MAX), Memory::default());
    }
}
