//! The replay behind the demo, on a thread of its own: how far it is, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::adapters::replay::{Options, Pace, Progress, Shift};
use crate::cli::replay::{Sent, send};
use crate::config::Config;

pub struct Feeding {
    progress: watch::Receiver<Progress>,
    cancel: Arc<AtomicBool>,
    /// `None` once its end was seen.
    sending: Option<JoinHandle<Result<Sent, String>>>,
    /// Records that were delivered, once all are.
    delivered: Option<u64>,
}

impl Feeding {
    /// Starts sending the configured replays: at a pace up to now, or, without one, all of it at once.
    pub fn start(config: &Arc<Config>, bootstrap: &str, rows: Option<u64>, pace: Option<f64>) -> Self {
        let now = Utc::now();
        let options = Options {
            rows,
            pace: pace.map_or(Pace::Unlimited, Pace::UpToNow),
            shift: if pace.is_some() { Shift::AroundNow { now } } else { Shift::WeeksToNow { now } },
        };
        let (told, progress) = watch::channel(Progress::default());
        let cancel = Arc::new(AtomicBool::new(false));
        let (config, bootstrap, stop) = (Arc::clone(config), bootstrap.to_owned(), Arc::clone(&cancel));
        let sending = tokio::task::spawn_blocking(move || {
            let mut tell = |progress: &Progress| drop(told.send_replace(progress.clone()));
            send(&config.replays, &config.kafka, &bootstrap, &options, &mut tell, &stop)
        });
        Self { progress, cancel, sending: Some(sending), delivered: None }
    }

    /// Records handed to the broker's client.
    pub fn sent(&self) -> u64 {
        self.progress.borrow().sent
    }

    /// How many records are sent at once, where that is known by now; waits for it so long.
    pub async fn at_once(&mut self, wait: Duration) -> Result<Option<u64>, String> {
        if let Ok(ended) = tokio::time::timeout(wait, self.end()).await {
            ended?;
        }
        let history = self.progress.borrow().history;
        Ok(history.or(self.delivered))
    }

    /// Says when the replay has come up to now, and when it has ended; answers with what stopped it short of that.
    pub async fn go_on(&mut self) -> String {
        let mut progress = self.progress.clone();
        let live = async {
            if progress.wait_for(|p| p.is_live).await.is_ok() {
                errln!("bief demo: up to now; from here on each record comes at its time");
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = self.end() => ended,
            () = live => Ok(()),
        };
        match ended {
            Err(error) => error,
            Ok(()) => {
                errln!("bief demo: all records are replayed; the page stays up");
                std::future::pending().await
            }
        }
    }

    /// Ends the replay between two records, and waits until it has ended.
    pub async fn stop(mut self) {
        self.cancel.store(true, Ordering::SeqCst);
        if let Some(sending) = self.sending.take() {
            let _ = sending.await;
        }
    }

    /// Waits for the replay's end; for ever once that was seen.
    async fn end(&mut self) -> Result<(), String> {
        let Some(sending) = &mut self.sending else { return std::future::pending().await };
        let ended = sending.await;
        self.sending = None;
        self.delivered = Some(ended.map_err(|e| e.to_string())??.topics.values().sum());
        Ok(())
    }
}
