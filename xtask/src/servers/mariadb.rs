//! MariaDB 10.11 from Debian bookworm's packages, run from its own folder with its own C library.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Durability;
use super::debian::{self, Mirror};
use super::guard::Guard;
use super::mysql::{as_root, copy_data, listen};

const SUITE: &str = "bookworm";
const PACKAGE: &str = "mariadb-server-core";

/// The scripts that `mariadb-install-db` runs, in its order; help texts and the sys schema are left out.
const SCRIPTS: [&str; 3] = ["mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"];

pub fn fetch(folder: &Path) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir(&root)?;
    let version = debian::unpack(&Mirror::of_this_machine()?, SUITE, PACKAGE, &root)?;
    initialize(folder)?;
    fs::write(folder.join("version"), format!("MariaDB {version}\n"))?;
    Ok(())
}

/// Makes the system tables: `mariadb-install-db` cannot be used, since it calls the server without its C library.
fn initialize(folder: &Path) -> Result<()> {
    let data = folder.join("data");
    fs::create_dir_all(data.join("mysql"))?;
    let mut sql = String::from("use mysql;\nset @auth_root_socket=NULL;\nset @skip_auth_anonymous=1;\n");
    for script in SCRIPTS {
        let path = folder.join("root/usr/share/mysql").join(script);
        sql += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        sql.push('\n');
    }
    let input = folder.join("bootstrap.sql");
    fs::write(&input, sql)?;
    let mut command = server(folder);
    command.arg(format!("--datadir={}", data.display()));
    command.args(["--bootstrap", "--max-allowed-packet=8M", "--net-buffer-length=16K", "--enforce-storage-engine="]);
    let output = command.stdin(fs::File::open(&input)?).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.context("cannot run mariadbd")?;
    if !output.status.success() {
        bail!("cannot initialise MariaDB's data: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn server(folder: &Path) -> Command {
    let mut command = debian::database_in(&folder.join("root"), "usr/sbin/mariadbd");
    command.args(as_root());
    command
}

pub fn start(folder: &Path, guard: &Guard, port: u16, durability: Durability) -> Result<Child> {
    let data = copy_data(folder, guard, "mariadb")?;
    let mut command = server(folder);
    listen(&mut command, guard, &data, "mariadb", port);
    command.arg("--performance-schema=OFF");
    if durability == Durability::Lean {
        command.args([
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=OFF",
        ]);
    }
    guard.start("mariadb", &command)
}
