//! What the port of leases promises, on the database of these settings.

use std::path::Path;
use std::time::Duration;

use bief::adapters::warehouse;
use bief::config::WarehouseConfig;
use bief::ports::{Lease, Leases, Rebuild};
use chrono::{DateTime, Utc};

const LONG: Duration = Duration::from_secs(60);

async fn open(settings: &WarehouseConfig) -> Box<dyn Leases> {
    warehouse::prepare(settings, Path::new("")).await.unwrap();
    warehouse::open_leases(settings)().await.unwrap()
}

fn ours(lease: &Lease) -> bool {
    matches!(lease, Lease::Ours { .. })
}

pub async fn a_lease_has_one_holder_until_it_is_given_back_or_ends(settings: &WarehouseConfig) {
    let (one, other) = (open(settings).await, open(settings).await);
    assert!(ours(&one.take("work", "one", LONG).await.unwrap()));
    match other.take("work", "other", LONG).await.unwrap() {
        Lease::Of { owner, left } => {
            assert_eq!(owner, "one");
            assert!(left > LONG / 2 && left <= LONG, "{left:?}");
        }
        ours => panic!("{ours:?}"),
    }
    // Another's work is another lease, and names differ by case.
    for name in ["rest", "Work"] {
        assert!(ours(&other.take(name, "other", LONG).await.unwrap()), "{name}");
    }
    other.give_back("work", "other").await.unwrap();
    assert!(!ours(&other.take("work", "other", LONG).await.unwrap()), "a lease was taken from its holder");
    one.give_back("work", "one").await.unwrap();
    assert!(ours(&other.take("work", "other", Duration::from_millis(700)).await.unwrap()));
    // Renewed, it lasts anew.
    assert!(ours(&other.take("work", "other", LONG).await.unwrap()));
    assert!(!ours(&one.take("work", "one", LONG).await.unwrap()));
    // One that ends by itself: its holder is gone.
    assert!(ours(&other.take("work", "other", Duration::from_millis(300)).await.unwrap()));
    let began = std::time::Instant::now();
    while !ours(&one.take("work", "one", LONG).await.unwrap()) {
        assert!(began.elapsed() < LONG, "the lease did not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn what_a_lease_was_held_for_is_known_to_the_next(settings: &WarehouseConfig) {
    let (one, other) = (open(settings).await, open(settings).await);
    let due = "2024-03-01T03:30:00Z".parse::<DateTime<Utc>>().unwrap();
    assert_eq!(one.take("work", "one", LONG).await.unwrap(), Lease::Ours { done_for: None });
    assert!(!other.done("work", "other", due).await.unwrap(), "who does not hold it puts nothing down");
    assert!(one.done("work", "one", due).await.unwrap());
    assert_eq!(other.take("work", "other", LONG).await.unwrap(), Lease::Ours { done_for: Some(due) });
    other.give_back("work", "other").await.unwrap();
    assert_eq!(one.take("work", "one", LONG).await.unwrap(), Lease::Ours { done_for: Some(due) });
}

pub async fn of_many_that_ask_at_once_one_gets_the_lease(settings: &WarehouseConfig) {
    let mut askers = Vec::new();
    for _ in 0..8 {
        askers.push(open(settings).await);
    }
    let asked = askers.iter().enumerate().map(|(n, leases)| async move {
        loop {
            match leases.take("race", &format!("asker {n}"), LONG).await {
                Ok(lease) => return ours(&lease),
                // A deadlock, a busy file: the same call is made again.
                Err(bief::ports::WarehouseError::Transient { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let got = futures_util::future::join_all(asked).await;
    assert_eq!(got.iter().filter(|ours| **ours).count(), 1, "{got:?}");
}

pub async fn a_rebuild_is_put_down_and_forgotten(settings: &WarehouseConfig) {
    let leases = open(settings).await;
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    assert_eq!(leases.rebuild("sums").await.unwrap(), None);
    let begun = Rebuild { started_at: at("2024-03-01T03:30:00.123456Z"), done_until: None, buckets: 0 };
    let further = Rebuild { done_until: Some(at("1999-12-31T23:00:00Z")), buckets: 64, ..begun.clone() };
    for state in [&begun, &further, &begun, &further] {
        leases.put_rebuild("sums", state).await.unwrap();
        assert_eq!(leases.rebuild("sums").await.unwrap().as_ref(), Some(state));
    }
    assert_eq!(leases.rebuild("Sums").await.unwrap(), None);
    leases.end_rebuild("sums").await.unwrap();
    leases.end_rebuild("sums").await.unwrap();
    assert_eq!(leases.rebuild("sums").await.unwrap(), None);
}
