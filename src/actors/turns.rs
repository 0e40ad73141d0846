//! Whose turn it is to train, of all trainers of a daemon. What one takes of processors and memory is all that training
//! takes, and only for a part of the time.
//!
//! A thread of the lowest priority gives way to those of its own session alone where the system groups threads by
//! session (Linux's `autogroup`) or by container: a database beside the daemon has no more than its equal share then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep_until};

/// Nobody waits longer than this after a training: those of the schedule have to come round.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// One turn at a time, and a rest behind each in which there was work.
#[derive(Debug)]
pub struct Turns {
    /// How many times as long as the work took the next has to wait.
    rest: u32,
    free_at: Mutex<Instant>,
    taken: tokio::sync::Mutex<()>,
}

impl Turns {
    pub fn with_rest(rest: u32) -> Self {
        Self { rest, free_at: Mutex::new(Instant::now()), taken: tokio::sync::Mutex::default() }
    }

    /// Waits for the turn before and its rest. The turn ends when what is answered is dropped; waiting may be given up at
    /// any time.
    pub async fn take(&self) -> MutexGuard<'_, ()> {
        let turn = self.taken.lock().await;
        let free_at = *self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        sleep_until(free_at).await;
        turn
    }

    /// There was work in this turn, for so long and until now.
    pub fn worked(&self, took: Duration) {
        let rest = (took * self.rest).min(LONGEST_REST);
        *self.free_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + rest;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_followed_by_a_rest_as_many_times_as_long() {
        let turns = Arc::new(Turns::with_rest(9));
        let began = Instant::now();
        let one = |turns: Arc<Turns>, seconds| async move {
            let _turn = turns.take().await;
            let at = began.elapsed();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            turns.worked(Duration::from_secs(seconds));
            at
        };
        let of = |seconds| one(Arc::clone(&turns), seconds);
        let (first, second, third) = tokio::join!(of(2), of(100), of(1));
        assert_eq!([first, second], [0, 20].map(Duration::from_secs));
        assert_eq!(third, Duration::from_secs(20 + 100) + LONGEST_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_without_work_is_followed_by_the_next_at_once() {
        let turns = Turns::with_rest(9);
        let turn = turns.take().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(turn);
        let began = Instant::now();
        drop(turns.take().await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_while_waiting_holds_up_nobody() {
        let turns = Turns::with_rest(9);
        let turn = turns.take().await;
        let soon = || tokio::time::timeout(Duration::from_secs(1), turns.take());
        assert!(soon().await.is_err(), "it is another's turn");
        turns.worked(Duration::from_secs(1));
        drop(turn);
        assert!(soon().await.is_err(), "the rest lasts 9 s");
        drop(tokio::time::timeout(Duration::from_secs(9), turns.take()).await.unwrap());
    }
}
