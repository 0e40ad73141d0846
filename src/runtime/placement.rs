//! Where actors run: each on a thread of its own, or all on the caller's. An arbiter must never outlive its
//! unit's incarnation unnoticed: all are kept here, stopped and joined.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::dev::channel;
use actix::{Actor, Addr, Arbiter, Context};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::panics::in_actor;

/// Messages that wait in an actor's mailbox before senders that honour it are held back; actix's own default.
const MAILBOX: usize = 16;

/// Where the actors of a unit run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Each on an arbiter, a thread with a runtime of its own. Needs a running [`actix::System`]; paused
    /// time does not work across threads.
    #[default]
    Threads,
    /// All on the caller's arbiter, for tests in paused time.
    Current,
}

/// Starts actors as the placement says and remembers what it started, for one incarnation. Clones are one.
#[derive(Debug, Clone)]
pub struct Arbiters {
    placement: Placement,
    unit: Arc<str>,
    generation: u64,
    started: Arc<Mutex<Vec<Started>>>,
}

#[derive(Debug)]
enum Started {
    Thread(Arbiter),
    Task(AbortHandle),
}

impl Arbiters {
    pub(super) fn new(placement: Placement, unit: Arc<str>, generation: u64) -> Self {
        Self { placement, unit, generation, started: Arc::default() }
    }

    /// Where actors go.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Starts an actor. `make` runs on the actor's own thread: what belongs to its runtime is opened there,
    /// or in `Actor::started`. Its log lines carry unit, name and generation. Where no thread can be had,
    /// `make` is dropped, and the guard that it holds tells the supervisor.
    pub fn start<A>(&self, name: &str, make: impl FnOnce(&mut Context<A>) -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        self.start_on(name, || (), make)
    }

    /// The same for an actor whose work can wait: its thread, and the threads that it begins, get what nobody else wants of
    /// the processors. On the caller's arbiter it runs as the caller does.
    pub fn start_yielding<A>(&self, name: &str, make: impl FnOnce(&mut Context<A>) -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        self.start_on(name, yield_to_others, make)
    }

    /// `prepare` is done to the actor's own thread, where it has one.
    fn start_on<A>(
        &self,
        name: &str,
        prepare: fn(),
        make: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    ) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let name: Arc<str> = name.into();
        let span = self.span(&name);
        let (sender, receiver) = channel::channel(MAILBOX);
        let addr = Addr::new(sender);
        let run = move || {
            let life = async move {
                let mut context = Context::with_receiver(receiver);
                let actor = make(&mut context);
                context.into_future(actor).await;
            };
            in_actor(name, life.instrument(span))
        };
        let started = match self.placement {
            Placement::Current => Started::Task(actix::spawn(run()).abort_handle()),
            Placement::Threads => match Arbiter::try_new() {
                Ok(arbiter) => {
                    arbiter.spawn_fn(move || {
                        prepare();
                        actix::spawn(run());
                    });
                    Started::Thread(arbiter)
                }
                Err(error) => {
                    tracing::error!(unit = &*self.unit, %error, "no thread for an actor; its unit will be tried again");
                    return addr;
                }
            },
        };
        self.lock().push(started);
        addr
    }

    /// What an actor's log lines are within.
    pub(super) fn span(&self, actor: &str) -> tracing::Span {
        tracing::error_span!("actor", unit = &*self.unit, actor, generation = self.generation)
    }

    /// Ends all that was started: actors that still wait for something are dropped where they wait.
    pub(super) fn stop(&self) {
        for started in self.lock().iter() {
            match started {
                Started::Thread(arbiter) => {
                    // False when it has stopped already.
                    arbiter.stop();
                }
                Started::Task(task) => task.abort(),
            }
        }
    }

    /// Waits until the threads are gone; call `stop` first. False when they were not within the limit: then
    /// they are left to themselves.
    pub(super) async fn join(&self, limit: Duration) -> bool {
        let arbiters: Vec<Arbiter> = self
            .lock()
            .drain(..)
            .filter_map(|started| match started {
                Started::Thread(arbiter) => Some(arbiter),
                Started::Task(_) => None,
            })
            .collect();
        if arbiters.is_empty() {
            return true;
        }
        let (done, joined) = oneshot::channel();
        // Not on the runtime's blocking pool: that is awaited at its end, however long an arbiter hangs.
        let joiner = std::thread::Builder::new().name("bief-join".to_owned()).spawn(move || {
            for arbiter in arbiters {
                // An actor's panic ends its task only; the arbiter itself has none.
                let _ = arbiter.join();
            }
            let _ = done.send(());
        });
        joiner.is_ok() && tokio::time::timeout(limit, joined).await.is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Started>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lowest priority for the calling thread, which the threads that it begins inherit.
fn yield_to_others() {
    const LAST: i32 = 19;
    // On Linux it is the thread's alone; elsewhere it would be the process's.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, LAST)
    {
        tracing::debug!(%error, "an actor runs at the daemon's own priority");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    /// Of the calling thread.
    fn priority() -> i32 {
        rustix::process::getpriority_process(None).expect("every thread has one")
    }

    #[actix::test]
    async fn an_actor_that_yields_and_threads_that_it_begins_have_the_lowest_priority() {
        let arbiters = Arbiters::new(Placement::Threads, "unit".into(), 1);
        let own = priority();
        for (yields, expected) in [(false, own), (true, 19)] {
            let (told, heard) = oneshot::channel();
            let make = |_: &mut Context<Idle>| {
                let begun = std::thread::spawn(priority).join().unwrap();
                told.send((priority(), begun)).unwrap();
                Idle
            };
            let _idle = match yields {
                true => arbiters.start_yielding("idle", make),
                false => arbiters.start("idle", make),
            };
            assert_eq!(heard.await.unwrap(), (expected, expected));
        }
        assert_eq!(priority(), own);
        arbiters.stop();
        assert!(arbiters.join(Duration::from_secs(60)).await);
    }
}
