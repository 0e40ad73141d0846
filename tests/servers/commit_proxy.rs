//! Stands between the daemon and MySQL or MariaDB and swallows answers to COMMIT: it cuts the connection either
//! before the COMMIT gets to the server or after the server has answered it. Only on connections that write batches:
//! those that prepare the compare-and-set of an offset.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const MOVES_AN_OFFSET: &[u8] = b"UPDATE bief_offset SET next_offset";
/// Of a packet: three bytes of length, one of its number.
const HEADER: usize = 4;

/// What was swallowed.
#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    before: AtomicU64,
    after: AtomicU64,
    wanted: AtomicU64,
}

pub struct CommitProxy {
    port: u16,
    counters: Arc<Counters>,
}

impl CommitProxy {
    /// `server`: `mysql://user@host:port/`. Swallows so many answers, every third, half of them before the COMMIT
    /// gets there; from then on it only passes on.
    pub fn start(server: &str, wanted: u64) -> Self {
        let upstream = url::Url::parse(server).unwrap();
        let upstream = format!("{}:{}", upstream.host_str().unwrap(), upstream.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counters = Arc::new(Counters::default());
        counters.wanted.store(wanted, Ordering::SeqCst);
        let shared = Arc::clone(&counters);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                serve(client, server, &shared);
            }
        });
        Self { port, counters }
    }

    /// The server's URL by way of the proxy.
    pub fn url(&self, direct: &str) -> String {
        let mut url = url::Url::parse(direct).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }

    /// Answers swallowed before the COMMIT got there, and after it was done.
    pub fn swallowed(&self) -> (u64, u64) {
        (self.counters.before.load(Ordering::SeqCst), self.counters.after.load(Ordering::SeqCst))
    }
}

fn serve(client: TcpStream, server: TcpStream, counters: &Arc<Counters>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let swallow = Arc::new(AtomicBool::new(false));
    let (Ok(client_out), Ok(server_in)) = (client.try_clone(), server.try_clone()) else { return };
    let (answers, counted) = (Arc::clone(&swallow), Arc::clone(counters));
    std::thread::spawn(move || pass_answers(server_in, client_out, &answers, &counted));
    let counters = Arc::clone(counters);
    std::thread::spawn(move || pass_commands(client, server, &swallow, &counters));
}

/// From the server to the client, until an answer is to be swallowed.
fn pass_answers(mut server: TcpStream, mut client: TcpStream, swallow: &AtomicBool, counters: &Counters) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = server.read(&mut buffer) {
        if swallow.load(Ordering::SeqCst) {
            if read > 0 && buffer[HEADER] == 0 {
                counters.after.fetch_add(1, Ordering::SeqCst);
            }
            break;
        }
        if read == 0 || client.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
}

/// From the client to the server, packet by packet.
fn pass_commands(mut client: TcpStream, mut server: TcpStream, swallow: &AtomicBool, counters: &Counters) {
    let mut writes_batches = false;
    let mut packet = Vec::new();
    loop {
        packet.resize(HEADER, 0);
        if client.read_exact(&mut packet).is_err() {
            break;
        }
        let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
        packet.resize(HEADER + length, 0);
        if client.read_exact(&mut packet[HEADER..]).is_err() {
            break;
        }
        // What is no command of its own (a file's content) has a number above 0.
        let (command, text) = packet[HEADER..].split_first().map_or((0, &[][..]), |(c, rest)| (*c, rest));
        writes_batches |= command == COM_STMT_PREPARE && text.starts_with(MOVES_AN_OFFSET);
        if packet[3] == 0 && command == COM_QUERY && text == b"COMMIT" && writes_batches {
            let number = counters.commits.fetch_add(1, Ordering::SeqCst);
            if number % 3 == 2 && take_one(&counters.wanted) {
                if number.is_multiple_of(2) {
                    counters.before.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                swallow.store(true, Ordering::SeqCst);
            }
        }
        if server.write_all(&packet).is_err() {
            break;
        }
    }
    if !swallow.load(Ordering::SeqCst) {
        let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
    }
}

fn take_one(wanted: &AtomicU64) -> bool {
    wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
