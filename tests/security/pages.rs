//! A thousand open pages, a tenth of which take nothing: they are all served, and cost the daemon little memory. Broker
//! and database are away.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::daemon::{Daemon, PATIENCE};

const PAGES: usize = 1000;
const STALLED: usize = 100;
/// Bytes that all of them may cost.
const MOST: u64 = 32 << 20;
/// Long enough for each to be told a few times, and shorter than a stalled one is put up with.
const OPEN_FOR: Duration = Duration::from_secs(15);

/// The socket of a page, and what it took.
struct Page {
    stream: TcpStream,
    taken: usize,
}

fn open(daemon: &Daemon) -> Page {
    let mut stream = TcpStream::connect(&daemon.address).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    Page { stream, taken: 0 }
}

/// Takes what is there.
fn take(page: &mut Page, buffer: &mut [u8]) {
    loop {
        match page.stream.read(buffer) {
            Ok(0) => panic!("a page was cut off"),
            Ok(taken) => page.taken += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_thousand_open_pages_of_which_a_tenth_take_nothing_cost_little_memory() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = 8192;
    if maximum.is_some_and(|maximum| maximum < wanted) {
        eprintln!("left out: this process may not open {wanted} files");
        return;
    }
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("actors.toml");
    let text = "[daemon]\nhttp = \"127.0.0.1:0\"\nlog = \"json\"\n[kafka]\nbrokers = \"127.0.0.1:1\"\n\
                [warehouse]\nurl = \"sqlite://bief.db\"\n[[stream]]\ntopic = \"orders\"\nlanes = 1\n\
                [[stream.table]]\nname = \"sale\"\ncolumns = { number = \"n\" }\n";
    std::fs::write(&path, text).unwrap();
    let daemon = Daemon::start(&path, &[]);
    let mut buffer = vec![0; 64 << 10];

    // What a few cost is there anyway.
    let mut pages: Vec<Page> = (0..10).map(|_| open(&daemon)).collect();
    let settled = Instant::now() + Duration::from_secs(5);
    while Instant::now() < settled {
        pages.iter_mut().for_each(|page| take(page, &mut buffer));
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = daemon.resident();

    let stalled: Vec<Page> = (0..STALLED).map(|_| open(&daemon)).collect();
    let (began, mut most) = (Instant::now(), before);
    while began.elapsed() < OPEN_FOR || pages.iter().any(|page| page.taken == 0) {
        assert!(began.elapsed() < PATIENCE, "a page was told nothing");
        let more = PAGES - pages.len() - stalled.len();
        pages.extend((0..more.min(50)).map(|_| open(&daemon)));
        pages.iter_mut().for_each(|page| take(page, &mut buffer));
        most = most.max(daemon.resident());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(pages.len() + stalled.len(), PAGES);
    assert_eq!(daemon.get("/livez", None).0, 200, "a probe gets through");
    let cost = most - before;
    assert!(cost <= MOST, "{PAGES} pages cost {} KiB", cost >> 10);
    eprintln!("{PAGES} pages cost {} KiB", cost >> 10);
    stalled.iter().for_each(|page| page.stream.shutdown(Shutdown::Both).unwrap());
}
