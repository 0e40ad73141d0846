//! How many clients there is room for. Each connection takes two file descriptors, its own and that of
//! `connections`; what the process may open is raised as far as it may raise that itself, and shared with the broker and
//! the databases, which must never go short of it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open pages that there is room for where the process may open enough.
const MOST_READERS: usize = 1024;
/// Files that are asked for: both of each connection, and as many again for the rest of the daemon.
const WANTED_FILES: u64 = 8192;

/// Clients at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// All connections.
    pub connections: usize,
    /// Readers of `/events`: well below, so that open pages never lock a liveness probe out.
    pub readers: usize,
}

impl Places {
    /// Of so many files, three eighths are for connections.
    fn within(files: u64) -> Self {
        let most = MOST_READERS * 5 / 4;
        let connections = usize::try_from(files.saturating_mul(3) / 16).unwrap_or(most).clamp(16, most);
        Self { connections, readers: connections * 4 / 5 }
    }

    /// Raises the limit of open files where it is low and may be raised.
    pub fn of_process() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = WANTED_FILES.min(maximum.unwrap_or(WANTED_FILES));
        let Some(current) = current.filter(|current| *current < wanted) else {
            return Self::within(current.unwrap_or(WANTED_FILES));
        };
        match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
            Ok(()) => Self::within(wanted),
            Err(error) => {
                tracing::warn!(%error, current, "the limit of open files could not be raised; fewer pages can be open");
                Self::within(current)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest_and_readers_leave_connections() {
        assert_eq!(Places::within(1024), Places { connections: 192, readers: 153 });
        assert_eq!(Places::within(u64::MAX / 3), Places { connections: 1280, readers: 1024 });
        assert_eq!(Places::within(64), Places { connections: 16, readers: 12 });
        let places = Places::within(WANTED_FILES);
        assert!(places.readers == MOST_READERS && 2 * places.connections as u64 <= WANTED_FILES / 2);
    }

    #[test]
    fn the_limit_is_raised_once() {
        assert_eq!(Places::of_process(), Places::of_process());
    }
}
