//! Questions to the cache and the warehouse. They are asked on one thread of their own, beside the HTTP worker: an adapter
//! lives on the runtime that opened it and can't be shared, and the worker's own must stay free for live streams, which
//! the wait for a database's answer, and the making of a large one, would hold up. A single thread with a queue for each
//! kind of question is the simplest thing that is sound: its connections are few and known in number whatever asks,
//! each is used by one question at a time, and no kind waits for another. What does not fit a queue is refused at once,
//! and a question that nobody waits for any more is dropped, with the adapter that it hung in.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::problem::problem;
use crate::ports::letter_changes::{LetterChanges, OpenLetterChanges};
use crate::ports::{Cache, LetterReader, Models, OpenCache, OpenLetterReader, OpenModels, OpenRowReader, RowReader};

/// Far more than an indexed query takes; less than a page's patience.
const READING_LIMIT: Duration = Duration::from_secs(5);
/// A look at the newest rows is worth no more.
const ROWS_LIMIT: Duration = Duration::from_secs(2);
/// Beyond what a change gives itself (15 s) with its last transaction, and below the 30 s after which a connection that
/// gets no further is cut off.
const CHANGE_LIMIT: Duration = Duration::from_secs(25);

/// Questions that wait, besides the one that is being asked: some pages' worth.
const READING_QUEUE: usize = 16;

/// How what is asked is opened, on the asking thread.
pub struct Sources {
    /// `None` where no cache is configured.
    pub cache: Option<OpenCache>,
    pub letters: OpenLetterReader,
    pub rows: OpenRowReader,
    pub changes: OpenLetterChanges,
    pub models: OpenModels,
}

/// Where questions are handed in.
pub(super) struct Desks {
    pub cache: Option<Desk<Box<dyn Cache>>>,
    pub letters: Desk<Box<dyn LetterReader>>,
    pub rows: Desk<Box<dyn RowReader>>,
    pub changes: Desk<Box<dyn LetterChanges>>,
    pub models: Desk<Box<dyn Models>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nothing of the kind is configured; how it would be.
    NotConfigured(&'static str),
    /// Too many questions wait.
    Busy,
    /// No answer within the limit.
    Late,
    /// What the cache or the warehouse says, for the reader, without secrets.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Unanswered {
    fn from(error: E) -> Self {
        Unanswered::Failed(error.to_string())
    }
}

impl Unanswered {
    pub fn answer(&self) -> HttpResponse {
        let detail: &str = match self {
            Unanswered::NotConfigured(how) => how,
            Unanswered::Busy => "Too many ask at the same time. Ask again in a moment.",
            Unanswered::Late => "There was no answer in time. /readyz?verbose says what is away.",
            Unanswered::Failed(what) => what,
        };
        let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
        if !matches!(self, Unanswered::NotConfigured(_)) {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        answer
    }
}

type Open<S> = Box<dyn Fn() -> LocalBoxFuture<'static, Result<S, Unanswered>> + Send>;
type Job<S> = Box<dyn for<'k> FnOnce(&'k mut Kept<S>) -> LocalBoxFuture<'k, ()> + Send>;

/// A source on the thread that asks it: opened when it is first needed, and again after it was given up.
struct Kept<S> {
    open: Open<S>,
    source: Option<S>,
}

impl<S> Kept<S> {
    async fn get(&mut self) -> Result<&mut S, Unanswered> {
        let source = match self.source.take() {
            Some(open) => open,
            None => (self.open)().await?,
        };
        Ok(self.source.insert(source))
    }
}

/// One kind of question.
pub(super) struct Desk<S> {
    jobs: mpsc::Sender<Job<S>>,
    limit: Duration,
    /// Whether a question is dropped when nobody waits for its answer any more.
    drops: bool,
}

impl<S: 'static> Desk<S> {
    fn new(limit: Duration, waiting: usize, drops: bool) -> (Self, mpsc::Receiver<Job<S>>) {
        let (jobs, receiver) = mpsc::channel(waiting);
        (Self { jobs, limit, drops }, receiver)
    }

    /// Asks, and waits for the answer as long as the desk's limit says.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl for<'s> FnOnce(&'s mut S) -> LocalBoxFuture<'s, Result<T, Unanswered>> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (mut answer, told) = oneshot::channel();
        let drops = self.drops;
        let job: Job<S> = Box::new(move |kept| {
            Box::pin(async move {
                let asked = async {
                    let source = kept.get().await?;
                    question(source).await
                };
                let outcome = tokio::select! {
                    biased;
                    outcome = asked => Some(outcome),
                    () = answer.closed(), if drops => None,
                };
                match outcome {
                    // Whoever waited may have gone just now.
                    Some(outcome) => _ = answer.send(outcome),
                    // What it hangs in is of no use to the next.
                    None => kept.source = None,
                }
            })
        });
        self.jobs.try_send(job).map_err(|_| Unanswered::Busy)?;
        match tokio::time::timeout(self.limit, told).await {
            Ok(Ok(outcome)) => outcome,
            // The question panicked, or the thread is gone.
            Ok(Err(_)) => Err(Unanswered::Failed("The question was not answered; the log says why.".to_owned())),
            Err(_) => Err(Unanswered::Late),
        }
    }
}

impl Desks {
    /// Starts the thread that asks; it ends when the desks are dropped.
    pub fn open(sources: Sources) -> io::Result<Self> {
        let (cache, cache_jobs) = Desk::new(READING_LIMIT, READING_QUEUE, true);
        let (letters, letter_jobs) = Desk::new(READING_LIMIT, READING_QUEUE, true);
        let (rows, row_jobs) = Desk::new(ROWS_LIMIT, READING_QUEUE, true);
        let (models, model_jobs) = Desk::new(READING_LIMIT, READING_QUEUE, true);
        // A change that was begun is done, whoever waits.
        let (changes, change_jobs) = Desk::new(CHANGE_LIMIT, 1, false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Sources {
            cache: open_cache,
            letters: open_letters,
            rows: open_rows,
            changes: open_changes,
            models: open_models,
        } = sources;
        let cache = open_cache.is_some().then_some(cache);
        thread::Builder::new().name("http-desks".to_owned()).spawn(move || {
            let served = join(
                join(
                    async {
                        if let Some(open) = open_cache {
                            serve(opening(open), cache_jobs).await;
                        }
                    },
                    join(serve(opening(open_letters), letter_jobs), serve(opening(open_models), model_jobs)),
                ),
                join(serve(opening(open_rows), row_jobs), serve(opening(open_changes), change_jobs)),
            );
            LocalSet::new().block_on(&runtime, served);
        })?;
        Ok(Self { cache, letters, rows, changes, models })
    }
}

type OpenPort<S, E> = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<S, E>> + Send + Sync>;

fn opening<S: 'static, E: std::error::Error + 'static>(open: OpenPort<S, E>) -> Open<S> {
    Box::new(move || {
        let opened = open();
        Box::pin(async move { Ok(opened.await?) })
    })
}

async fn serve<S: 'static>(open: Open<S>, mut jobs: mpsc::Receiver<Job<S>>) {
    let mut kept = Kept { open, source: None };
    while let Some(job) = jobs.recv().await {
        // The panic was logged; its question is unanswered, and the next one gets a source of its own.
        if AssertUnwindSafe(job(&mut kept)).catch_unwind().await.is_err() {
            kept.source = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Desks whose source is the number of times that one was opened.
    fn desk(limit: Duration, waiting: usize, drops: bool) -> Desk<usize> {
        let opened = Arc::new(AtomicUsize::new(0));
        let open: OpenPort<usize, Infallible> = Arc::new(move || {
            let nth = opened.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move { Ok(nth) })
        });
        let (desk, jobs) = Desk::new(limit, waiting, drops);
        tokio::task::spawn_local(serve(opening(open), jobs));
        desk
    }

    async fn opened(desk: &Desk<usize>) -> Result<usize, Unanswered> {
        desk.ask(|nth| Box::pin(async move { Ok(*nth) })).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_opened_once_and_anew_after_a_question_hung_in_it() {
        LocalSet::new()
            .run_until(async {
                let desk = desk(Duration::from_secs(5), 4, true);
                assert_eq!((opened(&desk).await, opened(&desk).await), (Ok(1), Ok(1)));
                let hung: Result<(), _> = desk.ask(|_| Box::pin(std::future::pending())).await;
                assert_eq!(hung, Err(Unanswered::Late));
                assert_eq!(opened(&desk).await, Ok(2));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_the_queue_is_refused_at_once() {
        LocalSet::new()
            .run_until(async {
                let desk = desk(Duration::from_secs(5), 1, true);
                let wait = |desk: &Desk<usize>| {
                    let asked = desk.jobs.try_send(Box::new(|_| Box::pin(std::future::pending())));
                    asked.is_ok()
                };
                assert!(wait(&desk));
                tokio::task::yield_now().await;
                assert!(wait(&desk), "one waits behind the one that is asked");
                assert_eq!(opened(&desk).await, Err(Unanswered::Busy));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_was_begun_is_done_though_nobody_waits() {
        LocalSet::new()
            .run_until(async {
                let desk = desk(Duration::from_secs(5), 1, false);
                let late: Result<(), _> = desk
                    .ask(|nth| {
                        Box::pin(async move {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                            *nth = 70;
                            Ok(())
                        })
                    })
                    .await;
                assert_eq!(late, Err(Unanswered::Late));
                tokio::time::sleep(Duration::from_secs(60)).await;
                assert_eq!(opened(&desk).await, Ok(70));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_its_question_and_no_other() {
        LocalSet::new()
            .run_until(async {
                let desk = desk(Duration::from_secs(5), 1, true);
                let panicked: Result<(), _> = desk.ask(|_| Box::pin(async { panic!("a fault of an adapter") })).await;
                assert!(matches!(panicked, Err(Unanswered::Failed(_))), "{panicked:?}");
                assert_eq!(opened(&desk).await, Ok(2));
            })
            .await;
    }

    #[test]
    fn an_answer_says_when_to_ask_again_and_what_failed() {
        let refused = Unanswered::Failed("the cache is away".to_owned()).answer();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers().get(header::RETRY_AFTER).unwrap(), "2");
        assert!(Unanswered::NotConfigured("add [cache]").answer().headers().get(header::RETRY_AFTER).is_none());
    }
}
