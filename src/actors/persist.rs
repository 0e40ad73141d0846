//! A step of long work, tried again while a server is away or busy, so that a deadlock or a failover does not spoil what was
//! done before. Must never try for ever: whoever asked for the work learns of it.

use std::time::Duration;

use super::refresh::RefreshError;
use crate::runtime::Backoff;

/// About a minute in all.
const TRIES: u32 = 20;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The step's outcome; it must bear being done twice.
pub async fn persist<T>(mut attempt: impl AsyncFnMut() -> Result<T, RefreshError>) -> Result<T, RefreshError> {
    let mut backoff = Backoff::new(FIRST, LONGEST, None);
    for _ in 1..TRIES {
        match attempt().await {
            Err(error) if !error.is_fatal() => {
                tracing::debug!(cause = %error, "a step is tried again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::CacheError;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_what_does_not_is_told_at_once() {
        let mut left = 3;
        let passes = persist(async || {
            left -= 1;
            if left > 0 { Err(CacheError::Transient { what: "away".to_owned() }.into()) } else { Ok(7) }
        });
        assert_eq!(passes.await.unwrap(), 7);
        let mut tries = 0;
        let fatal = persist(async || {
            tries += 1;
            Err::<(), _>(CacheError::Fatal { what: "denied".to_owned() }.into())
        });
        assert!(fatal.await.unwrap_err().is_fatal());
        let mut lasting = 0;
        let away = persist(async || {
            lasting += 1;
            Err::<(), _>(CacheError::Transient { what: "away".to_owned() }.into())
        });
        assert!(!away.await.unwrap_err().is_fatal());
        assert_eq!((tries, lasting), (1, TRIES));
    }
}
