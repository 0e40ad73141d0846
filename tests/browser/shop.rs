//! A daemon of the tests' own, with a small domain: sales of two shops, by the hour. Its broker lives in the test, so that
//! the daemon can be ended and started beneath an open page.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bief::adapters::embedded::EmbeddedBroker;
use chrono::{DateTime, DurationRound, TimeDelta, Timelike, Utc};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, ConnectOptions};
use serde_json::{Value, json};

use super::driver::{Driver, PATIENCE, Page};

const TOPIC: &str = "sales";
pub const TOKEN: &str = "a-token-of-the-tests-own-0123456789";

const TABLE: &str = "\
CREATE TABLE sale (
  sold_at DATETIME(6) NOT NULL,
  number INTEGER NOT NULL,
  shop VARCHAR(60) NOT NULL,
  amount INTEGER NOT NULL,
  note VARCHAR(80) NULL,
  PRIMARY KEY (sold_at, number)
);
";

const QUERY: &str = "\
SELECT shop, COUNT(*) AS sales, SUM(amount) AS sum_amount
FROM sale
WHERE sold_at >= :bucket_start AND sold_at < :bucket_end
GROUP BY shop
ORDER BY shop;
";

const CONFIG: &str = r#"
[daemon]
name = "corner-shops"
http = "HTTP"
TOKEN

[kafka]
brokers = "KAFKA"
group = "shops"

[warehouse]
url = "sqlite://FOLDER/shops.db"
migrations = "migrations"

[cache]
url = "sqlite://FOLDER/cache.db"

[[stream]]
topic = "sales"

[[stream.table]]
name = "sale"
on_conflict = "update"
columns = { sold_at = "sold_at", number = "number", shop = "shop", amount = "amount", note = "note" }

[[aggregate]]
name = "sales_hourly"
table = "sale"
time = "sold_at"
bucket = "1h"
query = "sales_hourly.sql"
key = ["shop"]
every = "1s"

[[panel]]
title = "Takings"
source = "aggregate:sales_hourly"
value = "sum_amount"
by = "shop"
range = "2d"

[[panel]]
title = "Sales"
source = "aggregate:sales_hourly"
kind = "bar"
values = ["sales"]
range = "2d"

[[panel]]
title = "Sales by shop"
source = "aggregate:sales_hourly"
kind = "histogram"
value = "sales"
by = "shop"
range = "2d"

[[panel]]
title = "Hours"
source = "aggregate:sales_hourly"
kind = "table"
values = ["sales", "sum_amount"]
by = "shop"
range = "2d"

[[panel]]
title = "Takings of the hour"
source = "aggregate:sales_hourly"
kind = "stat"
value = "sum_amount"
range = "1h"
"#;

/// What is added where takings are forecast: trained by hand, when a test says so.
const FORECAST: &str = r#"
[[forecast]]
name = "takings"
aggregate = "sales_hourly"
target = "sum_amount"
horizons = ["1h", "3h"]
lags = [0]
calendar = ["hour"]
harmonics = 2
holdout = "4d"
train_at = "off"
interval = 0.8
"#;

/// Hours before the present one that have sales.
pub const HOURS: i64 = 30;
/// The same where takings are forecast.
const FORECAST_HOURS: i64 = 16 * 24;
/// The last of them, which come after the model was trained.
pub const LATER_HOURS: i64 = 48;

#[derive(Debug, Clone)]
pub struct Sale {
    pub sold_at: DateTime<Utc>,
    pub number: i64,
    pub shop: String,
    pub amount: i64,
    pub note: Option<String>,
}

impl Sale {
    fn json(&self) -> String {
        json!({
            "sold_at": self.sold_at, "number": self.number, "shop": self.shop, "amount": self.amount, "note": self.note,
        })
        .to_string()
    }
}

/// A program that keeps everyone else from writing to the warehouse until it is dropped.
pub struct Hog {
    _connection: SqliteConnection,
}

/// Sales and takings of an hour's shop, by the beginning of the hour: what the charts must hold.
pub type Hours = BTreeMap<(DateTime<Utc>, String), (i64, i64)>;

pub struct Shops {
    folder: tempfile::TempDir,
    broker: EmbeddedBroker,
    producer: BaseProducer,
    daemon: Option<Daemon>,
    http: String,
    token: bool,
    forecasts: bool,
    /// All that was sent and can be written.
    pub sales: Vec<Sale>,
    sent: i64,
}

struct Daemon {
    child: Child,
    lines: std::thread::JoinHandle<Vec<String>>,
}

impl Shops {
    /// With the sales of [`HOURS`] hours, all of them committed and computed.
    pub fn open() -> Self {
        let mut shops = Self::empty(false, false);
        shops.sell_by_the_hour();
        shops
    }

    /// A daemon that wants a token and lets who shows it change something.
    pub fn with_token() -> Self {
        let mut shops = Self::empty(true, false);
        shops.sell_by_the_hour();
        shops
    }

    /// Takings that a model can learn: a day's tide in each shop, with a ripple that it cannot know. The last
    /// [`LATER_HOURS`] are not sold yet.
    pub fn with_forecast() -> Self {
        let mut shops = Self::empty(false, true);
        shops.sell_tides(LATER_HOURS + 1..FORECAST_HOURS);
        shops
    }

    /// The tides of hours so many before the present one, each hour and shop one sale.
    pub fn sell_tides(&mut self, back: Range<i64>) {
        let present = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap();
        for back in back.rev() {
            let hour = present - TimeDelta::hours(back);
            let tide = (f64::from(hour.hour()) * std::f64::consts::TAU / 24.0).sin();
            for (shop, height) in [("north", 300.0), ("south", 200.0)] {
                let ripple = back * 7919 % 41 - 20;
                self.sell(shop, hour + TimeDelta::minutes(5), 1000 + (height * tide) as i64 + ripple);
            }
        }
        self.flush();
        self.wait_computed();
    }

    /// Puts a comparison of frameworks where the daemon looks for the newest.
    pub fn store_comparison(&self, comparison: &Value) {
        let folder = self.folder.path().join("var/compare");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("newest.json"), comparison.to_string()).unwrap();
    }

    /// Runs a command on the daemon's configuration; what it printed.
    pub fn command(&self, arguments: &[&str]) -> String {
        let config = self.folder.path().join("actors.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_bief")).args(arguments).arg("-c").arg(config).output().unwrap();
        let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "bief {arguments:?}: {printed}{told}");
        printed.into_owned()
    }

    fn empty(token: bool, forecasts: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let migrations = folder.path().join("migrations");
        std::fs::create_dir(&migrations).unwrap();
        std::fs::write(migrations.join("0001_sale.sql"), TABLE).unwrap();
        std::fs::write(folder.path().join("sales_hourly.sql"), QUERY).unwrap();
        let broker = EmbeddedBroker::start("127.0.0.1:0".parse().unwrap(), &[(TOPIC.to_owned(), 2)]).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", broker.address().to_string())
            .set("linger.ms", "0")
            .create()
            .unwrap();
        let http = "127.0.0.1:0".to_owned();
        let mut shops =
            Self { folder, broker, producer, daemon: None, http, token, forecasts, sales: Vec::new(), sent: 0 };
        shops.start();
        shops
    }

    fn sell_by_the_hour(&mut self) {
        let present = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap();
        for back in (1..=HOURS).rev() {
            let hour = present - TimeDelta::hours(back);
            // Nothing is alike, so that no number is right by chance.
            for number in 0..=(back % 4) {
                self.sell("north", hour + TimeDelta::minutes(number), 100 + 17 * back + number);
            }
            if back % 5 != 0 {
                self.sell("south", hour + TimeDelta::minutes(30), 900 - 13 * back);
            }
        }
        self.flush();
        self.wait_computed();
    }

    /// Starts the daemon; again under the address that it had.
    pub fn start(&mut self) {
        let token = if self.token { format!("token = \"{TOKEN}\"") } else { String::new() };
        let text = CONFIG
            .replace("HTTP", &self.http)
            .replace("TOKEN", &token)
            .replace("KAFKA", &self.broker.address().to_string())
            .replace("FOLDER", self.folder.path().to_str().unwrap());
        let text = text + if self.forecasts { FORECAST } else { "" };
        let config = self.folder.path().join("actors.toml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        for variable in ["FAILPOINTS", "RUST_LOG", "BIEF_LOG", "BIEF_TOKEN"] {
            command.env_remove(variable);
        }
        command.args(["run", "-c"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (told, address) = channel();
        let lines = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for line in errors.lines().map_while(Result::ok) {
                let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(http) = parsed["http"].as_str() {
                    let _ = told.send(http.to_owned());
                }
                kept.push(line);
            }
            kept
        });
        let address = address.recv_timeout(PATIENCE);
        self.daemon = Some(Daemon { child, lines });
        match address {
            Ok(address) => self.http = address,
            Err(_) => panic!("the daemon told no address: {:#?}", self.stop()),
        }
    }

    /// Kills the daemon, as a crash would; what it logged.
    pub fn stop(&mut self) -> Vec<String> {
        let Some(mut daemon) = self.daemon.take() else { return Vec::new() };
        let _ = daemon.child.kill();
        let _ = daemon.child.wait();
        daemon.lines.join().unwrap_or_default()
    }

    /// What a program does that begins a transaction and does not end it.
    pub fn hog_the_warehouse(&self) -> Hog {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("shops.db")).busy_timeout(PATIENCE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let mut connection = options.connect().await?;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        });
        Hog { _connection: connection.unwrap() }
    }

    pub fn sell(&mut self, shop: &str, sold_at: DateTime<Utc>, amount: i64) -> Sale {
        let number = self.sales.len() as i64;
        self.send_sale(Sale { sold_at, number, shop: shop.to_owned(), amount, note: None })
    }

    pub fn send_sale(&mut self, sale: Sale) -> Sale {
        self.send(&sale.json());
        self.sales.push(sale.clone());
        sale
    }

    /// Any payload.
    pub fn send(&mut self, payload: &str) {
        let record = BaseRecord::<(), str>::to(TOPIC).payload(payload).partition(0);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.poll(Duration::ZERO);
        self.sent += 1;
    }

    pub fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }

    pub fn hours(&self) -> Hours {
        let mut hours = Hours::new();
        for sale in &self.sales {
            let hour = sale.sold_at.duration_trunc(TimeDelta::hours(1)).unwrap();
            let (sales, takings) = hours.entry((hour, sale.shop.clone())).or_default();
            *sales += 1;
            *takings += sale.amount;
        }
        hours
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.text(path)?).ok()
    }

    /// What the daemon answers, as it is.
    pub fn text(&self, path: &str) -> Option<String> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut request = agent.get(format!("http://{}{path}", self.http));
        if self.token {
            request = request.header("Authorization", format!("Bearer {TOKEN}"));
        }
        request.call().ok()?.body_mut().read_to_string().ok()
    }

    /// Waits until the daemon's answer is what it should be.
    pub fn wait(&self, what: &str, path: &str, met: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < PATIENCE {
            last = self.get(path).unwrap_or_default();
            if met(&last) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not {what} in {PATIENCE:?}: {last:#}");
    }

    /// Waits until each record has an outcome and the cache holds what the rows say.
    pub fn wait_computed(&self) {
        self.wait("all records with an outcome", "/status", |status| {
            let totals = &status["totals"];
            let of = |name: &str| totals[name].as_i64().unwrap_or(0);
            of("applied") + of("duplicates") + of("dead_letters") == self.sent
        });
        let expected: i64 = self.hours().values().map(|(sales, _)| sales).sum();
        self.wait("all hours in the cache", "/api/v1/aggregates/sales_hourly?limit=5000", |page| {
            let documents = page["documents"].as_array().cloned().unwrap_or_default();
            documents.iter().filter_map(|document| document["values"]["sales"].as_i64()).sum::<i64>() == expected
        });
    }

    pub fn url(&self, hash: &str) -> String {
        format!("http://{}/{hash}", self.http)
    }

    /// A browser that shows a view, live.
    pub fn page(&self, driver: &Driver, hash: &str) -> Page {
        let page = driver.page();
        page.open(&self.url(hash));
        if self.token {
            page.wait("asked for the token", "!document.getElementById('login').hidden");
            page.write("#token", TOKEN);
            page.click("#login-form button");
        }
        page.wait("live", "document.getElementById('link-text').textContent === 'live'");
        if self.token {
            // That the page was refused before it had the token is no fault of its.
            let said = page.console();
            assert!(said.iter().all(|line| !line.starts_with("SEVERE") || line.contains("401")), "{said:#?}");
        }
        page
    }
}

impl Drop for Shops {
    fn drop(&mut self) {
        let log = self.stop();
        if std::thread::panicking() {
            eprintln!("the daemon's last words: {:#?}", &log[log.len().saturating_sub(15)..]);
        }
    }
}
