//! An actor that nobody sends anything: it has work of its own, at times or without end, until that is done, its unit is
//! taken down or the daemon drains.

use std::time::Duration;

use actix::prelude::*;
use async_trait::async_trait;

use super::exit_guard::ExitGuard;

/// How long what is held for others may take to be given back, when the daemon drains.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// What a lone actor does. It is dropped wherever it waits, so that a wait must never be in the midst of what has to be whole.
#[async_trait(?Send)]
pub trait Work: Unpin + 'static {
    /// All of it: returns when nothing is left to do.
    async fn work(&mut self);

    /// At a drain: gives back at once what others would have to wait for, claims and leases.
    async fn give_back(&mut self) {}
}

/// The actor around the work.
pub struct Lone<W> {
    work: Option<W>,
    guard: ExitGuard,
}

impl<W: Work> Lone<W> {
    /// Begins when it is started.
    pub fn of(work: W, guard: ExitGuard) -> Self {
        Self { work: Some(work), guard }
    }
}

impl<W: Work> Actor for Lone<W> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(mut work) = self.work.take() else { return };
        let (cancelled, draining) = (self.guard.cancelled().clone(), self.guard.draining().clone());
        let life = async move {
            tokio::select! {
                // The end comes first: what the same moment broke off is no result.
                biased;
                () = cancelled.cancelled() => {}
                () = draining.cancelled() => {
                    let _ = tokio::time::timeout(GIVE_BACK, work.give_back()).await;
                }
                () = work.work() => {}
            }
        };
        ctx.wait(life.into_actor(self).map(|(), actor, ctx| {
            actor.guard.finish();
            ctx.stop();
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::super::Exit;
    use super::super::testing::Harness;
    use super::*;

    struct Waits {
        given_back: Rc<Cell<bool>>,
    }

    #[async_trait(?Send)]
    impl Work for Waits {
        async fn work(&mut self) {
            std::future::pending().await
        }

        async fn give_back(&mut self) {
            self.given_back.set(true);
            // Longer than anyone waits for.
            std::future::pending().await
        }
    }

    struct Done;

    #[async_trait(?Send)]
    impl Work for Done {
        async fn work(&mut self) {}
    }

    async fn ended_by(end: impl FnOnce(&Harness)) -> bool {
        let (harness, given_back) = (Harness::new(), Rc::new(Cell::new(false)));
        Lone::of(Waits { given_back: Rc::clone(&given_back) }, harness.incarnation().guard("alone")).start();
        end(&harness);
        assert_eq!(harness.ended().await, [("alone".to_owned(), Exit::Finished)]);
        given_back.get()
    }

    #[actix::test]
    async fn a_drain_gives_back_within_its_limit_and_an_end_at_once_does_not() {
        tokio::time::pause();
        assert!(ended_by(Harness::drain).await);
        assert!(!ended_by(Harness::cancel).await);
    }

    #[actix::test]
    async fn work_that_is_done_ends_its_actor() {
        let harness = Harness::new();
        Lone::of(Done, harness.incarnation().guard("alone")).start();
        assert_eq!(harness.ended().await, [("alone".to_owned(), Exit::Finished)]);
    }
}
