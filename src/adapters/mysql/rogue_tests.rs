//! A database server that is not ours: it speaks just enough of the protocol to let a client in, and answers one
//! statement with a request for a file of the client's machine. It must get no byte of it, whatever the statement.
//! The protocol: dev.mysql.com/doc/dev/mysql-server/latest, "Connection Phase", "Text Protocol", "LOCAL INFILE Request".

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mysql_async::Value;

use super::connection::{Address, Session};
use super::errors::Failure;
use crate::adapters::warehouse;
use crate::config::{Load, Secret, Tls, WarehouseConfig};

const CANARY: &str = "canary-of-a-private-file";

/// How long anything may take that ends by itself on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;

/// When the server shows its face.
#[derive(Debug, Clone, Copy)]
enum Trap {
    /// At a command of this kind whose text begins so.
    At(u8, &'static str),
    /// At LOAD DATA: first the file that the statement names, then the other one.
    AfterLoad,
    Never,
}

/// What it got after it had asked for the file: nothing that it should not have, and the end of the connection.
struct Rogue {
    settings: WarehouseConfig,
    /// What came after the request of each connection, packets' headers and all.
    after: Receiver<Vec<u8>>,
    /// Texts of files that it was sent.
    loaded: Receiver<Vec<u8>>,
}

impl Rogue {
    fn start(trap: Trap, wanted: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, after) = channel();
        let (tell_load, loaded) = channel();
        let wanted = wanted.to_str().unwrap().to_owned();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tell, tell_load, wanted) = (tell.clone(), tell_load.clone(), wanted.clone());
                std::thread::spawn(move || {
                    let mut wire = Wire { stream, sequence: 0 };
                    wire.stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    if let Some(after) = serve(&mut wire, trap, &wanted, &|text| drop(tell_load.send(text))) {
                        let _ = tell.send(after);
                    }
                });
            }
        });
        let url = Secret::new(format!("mysql://orders:s3cret@127.0.0.1:{port}/orders"));
        let settings = WarehouseConfig { url, tls: Tls::Disable, ca: None, migrations: None, load: Load::Auto };
        Self { settings, after, loaded }
    }

    /// What the client sent on the connection on which it was asked for the file.
    fn caught(&self) -> Vec<u8> {
        self.after.recv_timeout(PATIENCE).expect("the trap was sprung and the connection closed")
    }
}

struct Wire {
    stream: TcpStream,
    sequence: u8,
}

impl Wire {
    fn read(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).ok()?;
        self.sequence = head[3].wrapping_add(1);
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(payload)
    }

    fn write(&mut self, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let packet = [&length[..3], &[self.sequence], payload].concat();
        self.sequence = self.sequence.wrapping_add(1);
        let _ = self.stream.write_all(&packet);
    }

    fn ok(&mut self) {
        self.write(&[0, 0, 0, 2, 0, 0, 0]);
    }

    fn end_of_part(&mut self) {
        self.write(&[0xfe, 0, 0, 2, 0]);
    }

    fn column(&mut self, name: &str) {
        let mut packet = Vec::new();
        for text in ["def", "", "", "", name, name] {
            packet.push(u8::try_from(text.len()).unwrap());
            packet.extend_from_slice(text.as_bytes());
        }
        // Fixed part: utf8mb4, length, VAR_STRING, no flags, no decimals.
        packet.extend_from_slice(&[0x0c, 45, 0, 0xff, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
        self.write(&packet);
    }

    /// One row of a SELECT's expressions.
    fn row(&mut self, sql: &str) {
        let list = sql.trim_start_matches("SELECT ").split(" FROM ").next().unwrap_or_default();
        let names: Vec<&str> = list.split(',').map(str::trim).collect();
        self.write(&[u8::try_from(names.len()).unwrap()]);
        names.iter().for_each(|name| self.column(&name[..name.len().min(60)]));
        self.end_of_part();
        let mut row = Vec::new();
        for name in &names {
            let value = match name.to_lowercase() {
                n if n.contains("version") => "8.0.40",
                n if n.contains("local_infile") => "1",
                _ => "8388608",
            };
            row.push(u8::try_from(value.len()).unwrap());
            row.extend_from_slice(value.as_bytes());
        }
        self.write(&row);
        self.end_of_part();
    }

    fn ask_for(&mut self, file: &str) {
        self.write(&[&[0xfb], file.as_bytes()].concat());
    }
}

/// Serves one connection to its end; what came after the trap, if it was sprung.
fn serve(wire: &mut Wire, trap: Trap, wanted: &str, loaded: &dyn Fn(Vec<u8>)) -> Option<Vec<u8>> {
    let mut hello = vec![0x0a];
    hello.extend_from_slice(b"8.0.40\0");
    hello.extend_from_slice(&[1, 0, 0, 0]);
    hello.extend_from_slice(b"saltsalt\0");
    // Long passwords and flags, a database, LOCAL FILES, 4.1, transactions, several results, named log-ins.
    hello.extend_from_slice(&0xa28d_u16.to_le_bytes());
    hello.extend_from_slice(&[45, 2, 0]);
    hello.extend_from_slice(&0x000e_u16.to_le_bytes());
    hello.push(21);
    hello.extend_from_slice(&[0; 10]);
    hello.extend_from_slice(b"saltsaltsalt\0mysql_native_password\0");
    wire.write(&hello);
    wire.read()?;
    wire.ok();
    loop {
        let command = wire.read()?;
        let (kind, text) = command.split_first()?;
        let text = String::from_utf8_lossy(text).into_owned();
        let sprung = match trap {
            Trap::At(at, start) => *kind == at && text.starts_with(start),
            Trap::AfterLoad | Trap::Never => false,
        };
        if sprung {
            wire.ask_for(wanted);
            return Some(rest(wire));
        }
        match *kind {
            QUERY if text.starts_with("SELECT") => wire.row(&text),
            QUERY if text.starts_with("LOAD DATA") => {
                wire.ask_for(text.split('\'').nth(1).unwrap());
                let mut file = Vec::new();
                while let Some(part) = wire.read().filter(|part| !part.is_empty()) {
                    file.extend_from_slice(&part);
                }
                loaded(file);
                if matches!(trap, Trap::AfterLoad) {
                    wire.ask_for(wanted);
                    return Some(rest(wire));
                }
                wire.ok();
            }
            PREPARE => {
                let parameters = u8::try_from(text.matches('?').count()).unwrap();
                wire.write(&[0, 1, 0, 0, 0, 0, 0, parameters, 0, 0, 0, 0]);
                if parameters > 0 {
                    (0..parameters).for_each(|_| wire.column("?"));
                    wire.end_of_part();
                }
            }
            // Closing a statement has no answer; quitting has neither.
            0x19 => {}
            0x01 => return None,
            _ => wire.ok(),
        }
    }
}

/// All that the client still sends until it hangs up.
fn rest(wire: &mut Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    match wire.stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bytes.extend_from_slice(b"(kept open)"),
        _ => {}
    }
    bytes
}

/// A file that anyone on this machine could read.
fn private_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CANARY.as_bytes()).unwrap();
    file
}

/// Nothing was sent but, perhaps, an empty file and the word that the connection ends.
fn assert_nothing_sent(after: &[u8], what: &str) {
    let mut packets = after;
    while let [length, 0, 0, _, payload @ ..] = packets {
        let (payload, others) = payload.split_at_checked(usize::from(*length)).unwrap_or((payload, &[]));
        assert!(payload.is_empty() || payload == [0x01], "{what}: sent {:?}", String::from_utf8_lossy(after));
        packets = others;
    }
    assert!(packets.is_empty(), "{what}: sent {:?}", String::from_utf8_lossy(after));
}

/// A batch's way: connect, ask, begin, prepared statements, LOAD DATA, commit.
async fn work(settings: &WarehouseConfig) -> Result<(), Failure> {
    let mut session: Session = Address::of(settings)?.connect().await?;
    session.run("START TRANSACTION").await?;
    session.rows::<(String,)>("SELECT COLUMN_NAME FROM information_schema.COLUMNS").await?;
    session.execute("UPDATE bief_offset SET next_offset = ? WHERE id = ?", vec![Value::Int(7), Value::Int(1)]).await?;
    session.run("SAVEPOINT rows").await?;
    session.load("INTO TABLE item", &mut b"1\tone\n".to_vec()).await?;
    session.run("COMMIT").await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_keeps_to_the_protocol_gets_the_batch_and_no_more() {
    let file = private_file();
    let rogue = Rogue::start(Trap::Never, file.path());
    work(&rogue.settings).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(rogue.loaded.recv_timeout(PATIENCE).unwrap(), b"1\tone\n");
}

#[tokio::test]
async fn no_statement_can_be_answered_with_a_request_for_a_file() {
    let traps = [
        ("the driver's own first question", Trap::At(QUERY, "SELECT @@"), true),
        ("connect's SET", Trap::At(QUERY, "SET SESSION sql_mode"), true),
        ("SET NAMES", Trap::At(QUERY, "SET NAMES"), true),
        ("connect's SELECT", Trap::At(QUERY, "SELECT VERSION()"), true),
        ("START TRANSACTION", Trap::At(QUERY, "START TRANSACTION"), true),
        ("SELECT", Trap::At(QUERY, "SELECT COLUMN_NAME"), true),
        // Here the protocol knows no such answer, and the driver makes nothing of it.
        ("prepare", Trap::At(PREPARE, "UPDATE"), false),
        ("a prepared statement", Trap::At(EXECUTE, ""), true),
        ("SAVEPOINT", Trap::At(QUERY, "SAVEPOINT"), true),
        ("LOAD DATA of another name", Trap::At(QUERY, "LOAD DATA"), true),
        // The driver takes it for the statement's end and goes on.
        ("the end of LOAD DATA", Trap::AfterLoad, false),
        ("COMMIT", Trap::At(QUERY, "COMMIT"), true),
    ];
    let file = private_file();
    for (what, trap, is_named) in traps {
        let rogue = Rogue::start(trap, file.path());
        // What the driver makes nothing of it may wait for; the statement's own limit, longer than this, ends that.
        let limit = if is_named { PATIENCE } else { Duration::from_secs(5) };
        let error = match tokio::time::timeout(limit, work(&rogue.settings)).await {
            Ok(Ok(())) => panic!("{what}: went on"),
            Ok(Err(Failure::Fatal(error))) => error,
            Ok(Err(other)) if !is_named => format!("{other:?}"),
            Err(_) if !is_named => String::new(),
            other => panic!("{what}: {other:?}"),
        };
        if is_named {
            assert!(error.contains(file.path().to_str().unwrap()), "{what}: {error}");
        }
        assert!(!error.contains("s3cret"), "{what}: {error}");
        let after = tokio::task::spawn_blocking(move || rogue.caught()).await.unwrap();
        assert!(!String::from_utf8_lossy(&after).contains(CANARY), "{what}: sent the file");
        if is_named {
            assert_nothing_sent(&after, what);
        }
    }
}

#[tokio::test]
async fn the_bookkeepings_connection_sends_no_file_either() {
    let file = private_file();
    let mut sprung = 0;
    for trap in [Trap::At(QUERY, ""), Trap::At(PREPARE, ""), Trap::At(EXECUTE, "")] {
        let rogue = Rogue::start(trap, file.path());
        let settings = rogue.settings.clone();
        let asked = async {
            let bookkeeping = (warehouse::open_bookkeeping(&settings))().await?;
            bookkeeping.offsets(None).await.map(|_| ())
        };
        // This driver may take it for an answer that has not ended, and wait.
        let outcome = tokio::time::timeout(PATIENCE / 4, asked).await;
        assert!(!matches!(outcome, Ok(Ok(()))), "{trap:?}: went on");
        // Some statements are never sent that way.
        while let Ok(after) = rogue.after.recv_timeout(Duration::from_secs(3)) {
            assert_nothing_sent(&after, &format!("{trap:?}"));
            sprung += 1;
        }
    }
    assert!(sprung > 0, "the server never came to ask for the file");
}
