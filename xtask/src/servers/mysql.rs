//! MySQL 9 from Debian sid's packages, run from its own folder with its own C library.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Durability;
use super::debian::{self, Mirror};
use super::guard::Guard;
use crate::shell;

const SUITE: &str = "sid";
const PACKAGE: &str = "mysql-server-core";

pub fn fetch(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir(&root)?;
    let version = debian::unpack(&Mirror::of_this_machine()?, SUITE, PACKAGE, &root)?;
    // Small, since each start copies it.
    initialize(folder, &folder.join("data"), &["--innodb-redo-log-capacity=16M"])?;
    // Each copy names itself.
    let _ = fs::remove_file(folder.join("data/auto.cnf"));
    fs::write(folder.join("version"), format!("MySQL {version}\n"))?;
    Ok(())
}

fn initialize(folder: &Path, data: &Path, options: &[&str]) -> Result<()> {
    let mut command = server(folder);
    command.arg(format!("--datadir={}", data.display())).args(options);
    command.args(["--skip-log-bin", "--initialize-insecure"]);
    shell::run(&mut command).context("cannot initialise MySQL's data")
}

fn server(folder: &Path) -> Command {
    let mut command = debian::database_in(&folder.join("root"), "usr/sbin/mysqld");
    command.args(["--secure-file-priv=", "--performance-schema=OFF", "--mysqlx=OFF"]);
    command.args(as_root());
    command
}

/// The servers refuse to run as root unless told to.
pub fn as_root() -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0).then_some("--user=root")
}

pub fn start(folder: &Path, guard: &Guard, port: u16, durability: Durability) -> Result<Child> {
    let data = match durability {
        Durability::Lean => copy_data(folder, guard, "mysql")?,
        // A redo log that was made small grows while it is written to, and the server stalls meanwhile.
        Durability::Durable => {
            let data = guard.folder().join("mysql");
            let _ = fs::remove_dir_all(&data);
            initialize(folder, &data, &[])?;
            data
        }
    };
    let mut command = server(folder);
    listen(&mut command, guard, &data, "mysql", port);
    if durability == Durability::Lean {
        command.args([
            "--skip-log-bin",
            "--innodb-buffer-pool-size=64M",
            "--innodb-redo-log-capacity=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=OFF",
        ]);
    }
    guard.start("mysql", &command)
}

/// A fresh copy of the data of a server that was initialised once.
pub fn copy_data(folder: &Path, guard: &Guard, name: &str) -> Result<std::path::PathBuf> {
    let data = guard.folder().join(name);
    let _ = fs::remove_dir_all(&data);
    shell::run(Command::new("cp").args(["-r", "--reflink=auto"]).arg(folder.join("data")).arg(&data))?;
    Ok(data)
}

/// The options of both servers: where they listen, what they take. Many tests run at once, some send 10 MiB records.
pub fn listen(command: &mut Command, guard: &Guard, data: &Path, name: &str, port: u16) {
    let at = |ending: &str| guard.folder().join(format!("{name}.{ending}")).display().to_string();
    command.arg(format!("--datadir={}", data.display()));
    command.arg(format!("--socket={}", at("sock")));
    // Not `.pid`: that one is the guard's.
    command.arg(format!("--pid-file={}", at("process")));
    command.arg(format!("--port={port}"));
    command.args([
        "--bind-address=127.0.0.1",
        "--local-infile=ON",
        "--max-connections=500",
        "--max-allowed-packet=64M",
    ]);
}

/// Whether a server greets on the port: the head of a packet, then version 10 of the protocol.
pub fn answers(port: u16) -> bool {
    let greeting = || -> std::io::Result<[u8; 5]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    greeting().is_ok_and(|head| head[3] == 0 && head[4] == 10)
}
