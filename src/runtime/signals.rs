//! SIGTERM and SIGINT: the first drains, the second stops at once. The listener must never depend on the
//! daemon's own runtimes: it works while they hang.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::supervisor::{Drained, SupervisorHandle};

/// Exit code: everything that was polled is committed, or was not polled at all.
pub const EXIT_DRAINED: u8 = 0;
/// Exit code: the drain's deadline cut an actor; what it had not committed is read again at the next start.
pub const EXIT_DRAIN_CUT: u8 = 75;

/// How long a drain may take unless told otherwise; container runtimes kill after 10 s at the earliest.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// A signal that asks the daemon to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, Ctrl-C.
    Interrupt,
}

impl StopSignal {
    /// Exit code after a second signal, 128 and the signal's number as shells have it: 143 or 130.
    pub fn exit_code(self) -> u8 {
        match self {
            StopSignal::Terminate => 143,
            StopSignal::Interrupt => 130,
        }
    }

    /// As people know it.
    pub fn name(self) -> &'static str {
        match self {
            StopSignal::Terminate => "SIGTERM",
            StopSignal::Interrupt => "SIGINT",
        }
    }
}

/// The signals of this process, from when it was made.
pub struct Signals {
    first: mpsc::Receiver<StopSignal>,
}

impl Signals {
    /// Listens on a thread of its own. The first signal is told by [`Signals::first`]; at the second the
    /// process exits at once with [`StopSignal::exit_code`].
    pub fn listen() -> io::Result<Self> {
        Self::listen_with(|second| {
            errln!("bief: second {}: stopped at once", second.name());
            std::process::exit(i32::from(second.exit_code()))
        })
    }

    fn listen_with(at_second: impl FnOnce(StopSignal) + Send + 'static) -> io::Result<Self> {
        let (told, first) = mpsc::channel(1);
        let (ready, outcome) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("bief-signals".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                match Source::new() {
                    Err(error) => drop(ready.send(Err(error))),
                    Ok(mut source) => {
                        let _ = ready.send(Ok(()));
                        let _ = told.send(source.next().await).await;
                        at_second(source.next().await);
                    }
                }
            });
        })?;
        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the signal thread ended")))?;
        Ok(Self { first })
    }

    /// Waits for the first signal.
    pub async fn first(&mut self) -> StopSignal {
        match self.first.recv().await {
            Some(signal) => signal,
            // Told already: the next one does not come here.
            None => std::future::pending().await,
        }
    }

    /// Waits for the first signal, then drains.
    pub async fn drain_at_first(&mut self, supervisor: &SupervisorHandle, deadline: Duration) -> Drained {
        let signal = self.first().await;
        tracing::info!(signal = signal.name(), ?deadline, "draining; a second signal stops at once");
        supervisor.drain(deadline).await
    }
}

impl Drained {
    /// [`EXIT_DRAINED`] or [`EXIT_DRAIN_CUT`].
    pub fn exit_code(&self) -> u8 {
        if self.cut.is_empty() { EXIT_DRAINED } else { EXIT_DRAIN_CUT }
    }
}

#[cfg(unix)]
struct Source {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> StopSignal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => StopSignal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    fn raise(signal: &str) {
        let status = Command::new("kill").args([signal, &std::process::id().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()));
    }

    #[test]
    fn the_first_signal_is_told_and_the_second_stops_at_once() {
        let (second, stopped) = std::sync::mpsc::channel();
        let mut signals =
            Signals::listen_with(move |signal| second.send(signal).expect("the test waits")).expect("listens");
        raise("-TERM");
        let first = signals.first.blocking_recv();
        assert_eq!(first, Some(StopSignal::Terminate));
        assert!(stopped.try_recv().is_err(), "one signal is not two");
        raise("-INT");
        let limit = Duration::from_secs(10);
        assert_eq!(stopped.recv_timeout(limit), Ok(StopSignal::Interrupt));
        assert_eq!(StopSignal::Interrupt.exit_code(), 130);
    }
}
