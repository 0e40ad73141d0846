//! mongo-java-server: MongoDB's protocol over a memory, by plain `java`. Compiled with the compiler that comes from Maven,
//! so that a Java without one does.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::guard::Guard;
use super::maven;
use crate::shell;

const SERVER: &str = "de.bwaldvogel:mongo-java-server:1.47.0";
const COMPILER: &str = "org.eclipse.jdt:ecj:3.38.0";
const LAUNCHER: &str = include_str!("MongoJavaServer.java");

pub fn fetch(folder: &Path) -> Result<()> {
    maven::copy(&[SERVER], &folder.join("jars"))?;
    let compiler = folder.join("compiler");
    maven::copy(&[COMPILER], &compiler)?;
    let source = folder.join("MongoJavaServer.java");
    fs::write(&source, LAUNCHER)?;
    let jars: Vec<_> = fs::read_dir(folder.join("jars"))?.collect::<Result<_, _>>()?;
    let jars: Vec<_> = jars.iter().map(|jar| jar.path().display().to_string()).collect();
    let mut compile = Command::new("java");
    compile.arg("-cp").arg(compiler.join("*")).arg("org.eclipse.jdt.internal.compiler.batch.Main");
    compile.args(["-17", "-cp", &jars.join(":"), "-d"]).arg(folder.join("classes")).arg(&source);
    shell::run(&mut compile).context("cannot compile the launcher of mongo-java-server")?;
    fs::remove_dir_all(compiler)?;
    fs::write(folder.join("version"), "mongo-java-server 1.47.0\n")?;
    Ok(())
}

pub fn start(folder: &Path, guard: &Guard, port: u16) -> Result<Child> {
    let mut server = Command::new("java");
    server.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    server.arg(format!("{}:{}", folder.join("classes").display(), folder.join("jars/*").display()));
    server.arg("MongoJavaServer").arg(port.to_string());
    guard.start("mongodb", &server)
}

/// Whether a server answers on the port: it is asked, in the protocol's oldest way, which all know, whether it is a
/// primary.
pub fn answers(port: u16) -> bool {
    let mut query = Vec::new();
    // Flags, collection, none skipped, one document wanted.
    query.extend(0_i32.to_le_bytes());
    query.extend(b"admin.$cmd\0");
    query.extend(0_i32.to_le_bytes());
    query.extend((-1_i32).to_le_bytes());
    // { isMaster: 1 }
    query.extend(b"\x13\0\0\0\x10isMaster\0\x01\0\0\0\0");
    let length = 16 + i32::try_from(query.len()).unwrap_or_default();
    // Length, number of the request, answer to none, OP_QUERY.
    let head: Vec<u8> = [length, 1, 0, 2004].iter().flat_map(|n| n.to_le_bytes()).collect();
    let ask = || -> std::io::Result<[u8; 16]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&head)?;
        stream.write_all(&query)?;
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    // Answer to the first, OP_REPLY.
    ask().is_ok_and(|head| head[8..] == [1, 0, 0, 0, 1, 0, 0, 0])
}
