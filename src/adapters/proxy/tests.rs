//! The proxy between a client and a server that are plain sockets.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A server that answers each read with the same bytes, and a proxy before it.
async fn echo(packets: bool) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                    if socket.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Proxy::start(&upstream, packets).await.unwrap()
}

async fn ask(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    socket.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    match tokio::time::timeout(Duration::from_secs(30), socket.read_exact(&mut answer)).await {
        Ok(read) => read.map(|_| answer),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

fn query(text: &str) -> Vec<u8> {
    let mut packet = (text.len() as u32 + 1).to_le_bytes()[..3].to_vec();
    packet.extend([0, 3]);
    packet.extend(text.bytes());
    packet
}

#[tokio::test]
async fn what_is_not_disturbed_passes_unchanged() {
    for packets in [false, true] {
        let proxy = echo(packets).await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        for text in ["INSERT 1", "COMMIT", "SELECT 1"] {
            assert_eq!(ask(&mut socket, &query(text)).await.unwrap(), query(text));
        }
        assert_eq!(proxy.sprung(), 0);
    }
}

#[tokio::test]
async fn latency_and_bandwidth_slow_it_and_a_change_ends_them() {
    let proxy = echo(false).await;
    let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.traffic(Traffic { latency: Duration::from_millis(100), ..Traffic::default() });
    let began = Instant::now();
    ask(&mut socket, b"x").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    proxy.traffic(Traffic { bytes_per_second: Some(1000), ..Traffic::default() });
    let began = Instant::now();
    ask(&mut socket, &[b'x'; 100]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    proxy.traffic(Traffic { hangs: true, ..Traffic::default() });
    socket.write_all(b"y").await.unwrap();
    let mut byte = [0];
    assert!(tokio::time::timeout(Duration::from_millis(200), socket.read(&mut byte)).await.is_err(), "it hangs");
    proxy.traffic(Traffic::default());
    socket.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"y");
}

#[tokio::test]
async fn open_connections_are_reset_and_new_ones_refused() {
    let proxy = echo(false).await;
    let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
    ask(&mut socket, b"x").await.unwrap();
    proxy.cut_all();
    assert!(ask(&mut socket, b"x").await.is_err());
    let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
    ask(&mut socket, b"x").await.unwrap();
    proxy.traffic(Traffic { refuses: true, ..Traffic::default() });
    ask(&mut socket, b"x").await.unwrap();
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(ask(&mut refused, b"x").await.is_err());
}

#[tokio::test]
async fn traps_cut_at_their_statement_and_once() {
    let proxy = echo(true).await;
    let mut load = query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t");
    load.extend([200, 0, 0, 2]);
    load.extend([b'r'; 200]);
    let traps = [
        (Trap::CommitCut, query("COMMIT")),
        (Trap::CommitAnswerCut, query("commit")),
        (Trap::CutMidLoad { after: 100 }, load),
    ];
    for (sprung, (trap, bytes)) in traps.into_iter().enumerate() {
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.arm(trap);
        assert_eq!(ask(&mut socket, &query("SELECT 1")).await.unwrap(), query("SELECT 1"));
        assert!(ask(&mut socket, &bytes).await.is_err(), "{trap:?}");
        assert_eq!(proxy.sprung(), sprung as u64 + 1);
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut socket, &bytes).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn statements_that_write_are_refused_until_it_is_disarmed() {
    let proxy = echo(true).await;
    let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.arm(Trap::Refuse { code: 1290, words: "read-only" });
    assert_eq!(ask(&mut socket, &query("SELECT 1")).await.unwrap(), query("SELECT 1"));
    for _ in 0..2 {
        let statement = query("INSERT INTO t VALUES (1)");
        socket.write_all(&statement).await.unwrap();
        let wanted = packets::refusal(1290, "HY000", "read-only");
        let mut answer = vec![0; wanted.len()];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, wanted);
    }
    assert_eq!(proxy.sprung(), 2);
    proxy.disarm();
    assert_eq!(ask(&mut socket, &query("INSERT 1")).await.unwrap(), query("INSERT 1"));
}
