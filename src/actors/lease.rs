//! Work that only one may do at a time, done while its lease is held and renewed. Must never let work go on whose lease has
//! run out: another may be at it. What such work writes must bear being done twice all the same, since a process that was
//! stopped for a while learns of it late.

use std::time::Duration;

use tokio::time::Instant;

use crate::ports::{Lease, Leases};

/// A lease that was taken.
#[derive(Debug, Clone, Copy)]
pub struct Held<'h> {
    pub name: &'h str,
    pub owner: &'h str,
    /// How long it lasts without being renewed.
    pub lasts: Duration,
}

/// Does the work and renews the lease meanwhile.
///
/// # Errors
/// Why the lease was lost; the work was dropped then.
pub async fn while_held<T>(leases: &dyn Leases, held: Held<'_>, work: impl Future<Output = T>) -> Result<T, String> {
    let renewing = async {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(held.lasts / 3).await;
            let asked = Instant::now();
            match leases.take(held.name, held.owner, held.lasts).await {
                Ok(Lease::Ours { .. }) => renewed = asked,
                Ok(Lease::Of { owner, .. }) => return format!("{owner} has taken the lease {} over", held.name),
                Err(error) if renewed.elapsed() >= held.lasts => {
                    return format!("the lease {} could not be renewed: {error}", held.name);
                }
                Err(error) => tracing::debug!(lease = held.name, cause = %error, "a lease is asked for again"),
            }
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        why = renewing => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::ports::{Rebuild, WarehouseError};

    /// Answers what it was told to, then that the lease is the asker's.
    struct Told(RefCell<Vec<Result<Lease, WarehouseError>>>);

    #[async_trait(?Send)]
    impl Leases for Told {
        async fn take(&self, _: &str, _: &str, _: Duration) -> Result<Lease, WarehouseError> {
            self.0.borrow_mut().pop().unwrap_or(Ok(Lease::Ours { done_for: None }))
        }

        async fn give_back(&self, _: &str, _: &str) -> Result<(), WarehouseError> {
            unreachable!("not asked")
        }

        async fn done(&self, _: &str, _: &str, _: DateTime<Utc>) -> Result<bool, WarehouseError> {
            unreachable!("not asked")
        }

        async fn rebuild(&self, _: &str) -> Result<Option<Rebuild>, WarehouseError> {
            unreachable!("not asked")
        }

        async fn put_rebuild(&self, _: &str, _: &Rebuild) -> Result<(), WarehouseError> {
            unreachable!("not asked")
        }

        async fn end_rebuild(&self, _: &str) -> Result<(), WarehouseError> {
            unreachable!("not asked")
        }
    }

    const HELD: Held<'_> = Held { name: "work", owner: "me", lasts: Duration::from_secs(30) };

    fn away() -> Result<Lease, WarehouseError> {
        Err(WarehouseError::Transient { what: "away".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_while_the_lease_is_renewed_and_a_failed_renewal_is_made_up_for() {
        let leases = Told(RefCell::new(vec![away(), away()]));
        let work = async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            7
        };
        assert_eq!(while_held(&leases, HELD, work).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_where_the_lease_runs_out_or_another_has_it() {
        let other = Ok(Lease::Of { owner: "you".to_owned(), left: Duration::ZERO });
        for (answers, told) in [(vec![away(), away(), away()], "could not be renewed"), (vec![other], "you has taken")]
        {
            let leases = Told(RefCell::new(answers));
            let why = while_held(&leases, HELD, std::future::pending::<()>()).await.unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
