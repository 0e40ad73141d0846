//! Waiting for what is due by the clock on the wall.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::ports::Clock;

/// A clock that was set, or a machine that slept, is noticed within this.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(30);

pub async fn wait_until(clock: &dyn Clock, moment: DateTime<Utc>) {
    while let Ok(left) = (moment - clock.now()).to_std()
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}
