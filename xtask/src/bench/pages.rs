//! What a thousand open pages cost the stream: `bief run` on the same records with and without readers of `/events`, in
//! turns, some of which take nothing at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::config::{Config, TOPIC};
use super::daemon::{self, Replay};
use super::database;
use super::sink::{self, Pass, median};
use super::{PagesArguments, Schema, Setup, cores};

/// How often what has come is taken, as browsers would at once: the looking must leave the processors to what is measured.
const EVERY: Duration = Duration::from_millis(200);
/// The receive buffer of a page that stalls, so that it does so within seconds.
const STALLED_BUFFER: usize = 4 << 10;
/// How long a pass at a given rate lasts, where no number of records is given.
const PACED_SECONDS: u64 = 40;
/// From the daemon's start until all pages are open.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

pub async fn run(setup: &Setup, arguments: &PagesArguments) -> Result<Value> {
    ensure!(arguments.stalled <= arguments.pages, "more pages stall than there are");
    ensure!(arguments.common.schema == Schema::Real, "the stream that is measured writes the shipped tables");
    let (mysql, http) = (setup.mysql()?, daemon::free_address()?);
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &http)?;
    let mut path = config.write()?;
    let records = match arguments.rate {
        Some(rate) => arguments.rows.unwrap_or(rate * PACED_SECONDS),
        None => {
            Replay::start(setup, &path, arguments.rows, None)?.wait(setup)?;
            daemon::records_in_topic(setup)?
        }
    };
    eprintln!("{records} records a pass");
    let mut number = 0;
    let mut pass = async |pages: bool| -> Result<(Pass, Option<Taken>)> {
        database::recreate(mysql).await?;
        let open = pages.then(|| Pages::open(&http, arguments.pages, arguments.stalled)).transpose()?;
        let replay = match arguments.rate {
            Some(rate) => {
                // A topic of its own, which fills while it is read.
                number += 1;
                let topic = format!("{TOPIC}-{number}");
                let file = config.replayed()?;
                config.set_topic(&topic)?;
                config.set_replay(&topic, &file)?;
                path = config.write()?;
                Some(Replay::start(setup, &path, Some(records), Some(rate))?)
            }
            None => None,
        };
        let pass = sink::pass(setup, &path, records).await?;
        let taken = open.map(Pages::close).transpose()?;
        replay.map_or(Ok(()), |replay| replay.wait(setup))?;
        database::assert_complete(mysql, records).await?;
        Ok((pass, taken))
    };
    // Warms everything up.
    pass(false).await?;
    let (mut rates, mut memory, mut without) = (Vec::new(), Vec::new(), Vec::new());
    let (mut taken, mut processor) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        // Who goes first changes, so that a drift of the machine favours none.
        let first = pass(round % 2 == 0).await?;
        let second = pass(round % 2 == 1).await?;
        let (alone, (watched, told)) = if round % 2 == 0 { (second.0, first) } else { (first.0, second) };
        let told = told.context("the pages were not open")?;
        let rate = |pass: &Pass| if arguments.rate.is_some() { pass.later_rows_per_s } else { pass.rows_per_s };
        let more = watched.peak_rss as f64 - alone.peak_rss as f64;
        println!(
            "round {round}: {:.0} rows/s alone, {:.0} with {} pages of which {} stall; {:+.1} MiB at the peak; processor \
             seconds: bief {:.1} and {:.1}, the pages {:.1}; each page that reads was sent {:.0} KiB, all were open after \
             {:.1} s",
            rate(&alone),
            rate(&watched),
            arguments.pages,
            arguments.stalled,
            more / f64::from(1 << 20),
            alone.cpu.bief,
            watched.cpu.bief,
            told.cpu_seconds,
            told.bytes_each / 1024.0,
            told.open_seconds,
        );
        rates.push(rate(&watched) / rate(&alone));
        without.push(rate(&alone));
        memory.push(more);
        taken.push(told.bytes_each);
        processor.push(watched.cpu.bief - alone.cpu.bief);
    }
    let (cost, more) = (1.0 - median(rates.clone()), median(memory.clone()));
    println!(
        "{} pages of which {} stall: {:.1} % of the throughput, {:.1} MiB (medians of {}); {} cores",
        arguments.pages,
        arguments.stalled,
        cost * 100.0,
        more / f64::from(1 << 20),
        arguments.rounds,
        cores()
    );
    Ok(json!({
        "pages": arguments.pages,
        "stalled": arguments.stalled,
        "records": records,
        "rows_per_s_alone": median(without).round(),
        "cost": (cost * 1e4).round() / 1e4,
        "ratios": rates,
        "rate": arguments.rate,
        "more_processor_seconds": median(processor),
        "memory_bytes": more,
        "memory_bytes_all": memory,
        "bytes_sent_to_each": median(taken).round(),
        "cores": cores(),
    }))
}

/// Readers of `/events`, on a thread of their own.
struct Pages {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<Taken>>,
}

struct Taken {
    /// From the daemon's first answer.
    open_seconds: f64,
    /// Mean of those that read.
    bytes_each: f64,
    /// What the pages themselves took, which would be on other machines.
    cpu_seconds: f64,
}

impl Pages {
    /// Opens them as soon as the daemon answers.
    fn open(http: &str, pages: usize, stalled: usize) -> Result<Self> {
        let (address, end) = (http.parse()?, Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || read(address, pages, stalled, &ended));
        Ok(Self { end, thread })
    }

    fn close(self) -> Result<Taken> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the pages' thread panicked"))?
    }
}

fn read(address: SocketAddr, pages: usize, stalled: usize, end: &AtomicBool) -> Result<Taken> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(
            began.elapsed() < OPEN_LIMIT && !end.load(Ordering::Relaxed),
            "the daemon does not answer on {address}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let began = Instant::now();
    let (mut silent, mut readers) = (Vec::new(), Vec::new());
    for page in 0..pages {
        if page < stalled {
            silent.push(connect(address, Some(STALLED_BUFFER))?);
        } else {
            let stream = connect(address, None)?;
            stream.set_nonblocking(true)?;
            readers.push((stream, 0_u64));
        }
    }
    let open_seconds = began.elapsed().as_secs_f64();
    let mut buffer = vec![0; 64 << 10];
    while !end.load(Ordering::Relaxed) {
        let round = Instant::now();
        for (stream, taken) in &mut readers {
            loop {
                match stream.read(&mut buffer) {
                    // The daemon has ended.
                    Ok(0) => break,
                    Ok(read) => {
                        let answered = *taken > 0 || buffer.starts_with(b"HTTP/1.1 200");
                        ensure!(answered, "a page is answered: {}", String::from_utf8_lossy(&buffer[..read.min(300)]));
                        *taken += read as u64;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => break,
                }
            }
        }
        std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
    }
    let unanswered = readers.iter().filter(|(_, taken)| *taken == 0).count();
    ensure!(unanswered == 0, "{unanswered} of {} pages were never answered", readers.len());
    drop(silent);
    let all: u64 = readers.iter().map(|(_, taken)| taken).sum();
    let bytes_each = all as f64 / readers.len().max(1) as f64;
    Ok(Taken { open_seconds, bytes_each, cpu_seconds: daemon::cpu_seconds_of("/proc/thread-self/stat") })
}

fn connect(address: SocketAddr, buffer: Option<usize>) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(&address.into()).context("cannot open one more page")?;
    let mut stream = TcpStream::from(socket);
    write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    Ok(stream)
}
