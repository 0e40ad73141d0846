//! A daemon whose broker is gone for a while, which must cost nothing.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bief::adapters::embedded::EmbeddedBroker;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);
/// Several looks at the topic fall into it.
const OUTAGE: Duration = Duration::from_secs(8);
/// Of a core: several times what it takes, and far less than a thread that never rests.
const SHARE: f64 = 0.2;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn start(folder: &Path, brokers: &str) -> Self {
        fs::create_dir(folder.join("migrations")).unwrap();
        let table = "CREATE TABLE sale (id BIGINT NOT NULL PRIMARY KEY);";
        fs::write(folder.join("migrations/0001_sale.sql"), table).unwrap();
        let config = format!(
            "[daemon]\nhttp = \"127.0.0.1:0\"\n[kafka]\nbrokers = \"{brokers}\"\n[warehouse]\nurl = \
             \"sqlite://sales.db\"\nmigrations = \"migrations\"\n[[stream]]\ntopic = \"sales\"\n[[stream.table]]\nname = \
             \"sale\"\ncolumns = {{ id = \"id\" }}\n"
        );
        fs::write(folder.join("actors.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(["run", "-c"]).arg(folder.join("actors.toml")).env_remove("FAILPOINTS").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.join("log")).unwrap());
        Self(command.spawn().unwrap())
    }

    /// What it and its threads have had of processors so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The name before it may hold spaces. utime and stime are the 14th and 15th field of all, this begins at the 3rd.
        let ticks = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
        Duration::from_secs_f64(ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

fn wait_for(folder: &Path, words: &str) {
    let until = Instant::now() + LIMIT;
    loop {
        let log = fs::read_to_string(folder.join("log")).unwrap();
        if log.contains(words) {
            return;
        }
        assert!(Instant::now() < until, "no {words:?} in:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_daemon_rests_while_no_broker_answers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start("127.0.0.1:0".parse().unwrap(), &[("sales".to_owned(), 1)]).unwrap();
    let daemon = Daemon::start(folder.path(), &broker.address().to_string());
    wait_for(folder.path(), "partition taken over");
    broker.shutdown();
    wait_for(folder.path(), "broker trouble");
    let (began, before) = (Instant::now(), daemon.cpu());
    std::thread::sleep(OUTAGE);
    let share = (daemon.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < SHARE, "{share:.2} of a core");
}
