//! A daemon whose broker is gone for a while, which must cost nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bief::adapters::embedded::EmbeddedBroker;

use crate::running::Running;

/// Several looks at the topic fall into it.
const OUTAGE: Duration = Duration::from_secs(8);
/// Of a core: several times what it takes, and far less than a thread that never rests.
const SHARE: f64 = 0.2;

fn start(folder: &Path, brokers: &str) -> Running {
    fs::create_dir(folder.join("migrations")).unwrap();
    let table = "CREATE TABLE sale (id BIGINT NOT NULL PRIMARY KEY);";
    fs::write(folder.join("migrations/0001_sale.sql"), table).unwrap();
    let config = format!(
        "[daemon]\nhttp = \"127.0.0.1:0\"\n[kafka]\nbrokers = \"{brokers}\"\n[warehouse]\nurl = \
         \"sqlite://sales.db\"\nmigrations = \"migrations\"\n[[stream]]\ntopic = \"sales\"\n[[stream.table]]\nname = \
         \"sale\"\ncolumns = {{ id = \"id\" }}\n"
    );
    fs::write(folder.join("actors.toml"), config).unwrap();
    Running::start(Command::new(env!("CARGO_BIN_EXE_bief")).args(["run", "-c"]).arg(folder.join("actors.toml")))
}

/// What it and its threads have had of processors so far.
fn cpu(daemon: &Running) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.child.id())).unwrap();
    // The name before it may hold spaces. utime and stime are the 14th and 15th field of all, this begins at the 3rd.
    let ticks = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
    Duration::from_secs_f64(ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[test]
fn a_daemon_rests_while_no_broker_answers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start("127.0.0.1:0".parse().unwrap(), &[("sales".to_owned(), 1)]).unwrap();
    let daemon = start(folder.path(), &broker.address().to_string());
    daemon.wait_for("partition taken over");
    broker.shutdown();
    daemon.wait_for("broker trouble");
    let (began, before) = (Instant::now(), cpu(&daemon));
    std::thread::sleep(OUTAGE);
    let share = (cpu(&daemon) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < SHARE, "{share:.2} of a core");
}
