//! What a client without a token does to lock others out: holds connections that get no further.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::route_tests::until_closed;
use super::tests::{Daemon, daemon, daemon_that_waits, next_line};
use super::*;

/// Long enough for a reader on a busy machine, short enough for a test.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How long anything may take that ends by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon whose documents are larger than what the system keeps for a client.
fn daemon_with_much_to_say() -> Daemon {
    let daemon = daemon_that_waits(STALLED_AFTER, Access::default(), routes::table());
    (0..4000).for_each(|n| daemon.board.declare(&format!("stream_{n}"), "orders.v1"));
    daemon
}

/// Asks for `path` and takes nothing of the answer.
fn ask_and_take_nothing(daemon: &Daemon, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&daemon.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address).unwrap();
    stream
}

fn wait_until_held(daemon: &Daemon, wanted: usize) {
    let began = Instant::now();
    while daemon.connections.held() != wanted {
        assert!(began.elapsed() < PATIENCE, "{} connections, not {wanted}", daemon.connections.held());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_ends_with_its_answer_and_a_second_head_is_not_waited_for() {
    let daemon = daemon();
    for second in ["G", "GET /livez HTTP/1.1\r\n"] {
        for at_once in [false, true] {
            let mut stream = TcpStream::connect(daemon.address).unwrap();
            let first = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address);
            let mut answer = [0; 1];
            if at_once {
                stream.write_all(format!("{first}{second}").as_bytes()).unwrap();
            } else {
                stream.write_all(first.as_bytes()).unwrap();
                assert_eq!(stream.read(&mut answer).unwrap(), 1);
                // Refused by now or not: the daemon may have hung up.
                let _ = stream.write_all(second.as_bytes());
            }
            let rest = until_closed(&mut stream, connections::STALLED_AFTER / 2);
            let rest = String::from_utf8_lossy(&rest).to_ascii_lowercase();
            assert!(!at_once || rest.contains("\r\nconnection: close\r\n"), "{rest}");
        }
    }
    wait_until_held(&daemon, 0);
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off_and_who_reads_stays() {
    let daemon = daemon_with_much_to_say();
    let mut reader = daemon.open_events();
    assert!(next_line(&mut reader, "HTTP/1.1").contains(" 200 "));
    let mut idle: Vec<_> = ["/status", "/events"].map(|path| ask_and_take_nothing(&daemon, path)).into();
    // A byte of a second head behind an answer that is not taken.
    idle.push(ask_and_take_nothing(&daemon, "/status"));
    idle[2].write_all(b"G").unwrap();
    wait_until_held(&daemon, 4);
    let began = Instant::now();
    while daemon.connections.held() > 1 {
        assert!(began.elapsed() < PATIENCE, "{} connections are held", daemon.connections.held());
        next_line(&mut reader, "data: ");
    }
    assert_eq!(daemon.connections.held(), 1, "the reader's own");
    next_line(&mut reader, "data: ");
    drop(idle);
}
