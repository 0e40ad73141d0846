//! Every section and key that a configuration file may have, each with an example: what the reader accepts,
//! what messages offer, and what `docs/configuration.md` must name.

/// A table of the file.
#[derive(Debug)]
pub struct SectionSpec {
    /// Dotted, as in its header.
    pub path: &'static str,
    /// Written `[[…]]`.
    pub repeated: bool,
    /// Its keys are the user's own names.
    pub free: bool,
    pub keys: &'static [KeySpec],
    /// A line that shows it used, where it is best written as a value.
    pub example: &'static str,
    /// The last part of the path of each section within it.
    pub sections: &'static [&'static SectionSpec],
}

/// A key and a line that shows it used.
#[derive(Debug)]
pub struct KeySpec {
    pub name: &'static str,
    pub example: &'static str,
    /// Its value is never shown.
    pub secret: bool,
}

const fn key(name: &'static str, example: &'static str) -> KeySpec {
    KeySpec { name, example, secret: false }
}

const fn free(path: &'static str, example: &'static str) -> SectionSpec {
    SectionSpec { path, repeated: false, free: true, keys: &[], example, sections: &[] }
}

pub static ROOT: SectionSpec = SectionSpec {
    path: "",
    repeated: false,
    free: false,
    keys: &[],
    example: "",
    sections: &[&DAEMON, &KAFKA, &WAREHOUSE, &CACHE, &STREAM, &AGGREGATE, &FORECAST, &PANEL, &REPLAY, &COMPARE],
};

pub static DAEMON: SectionSpec = SectionSpec {
    path: "daemon",
    repeated: false,
    free: false,
    keys: &[
        key("name", "name = \"bief\""),
        key("http", "http = \"127.0.0.1:8080\""),
        key("allowed_hosts", "allowed_hosts = [\"bief.example.org\"]"),
        KeySpec { name: "token", example: "token = \"${BIEF_TOKEN}\"", secret: true },
        key("auth", "auth = \"none\""),
        key("metrics_auth", "metrics_auth = \"none\""),
        key("memory", "memory = \"256MiB\""),
        key("drain_timeout", "drain_timeout = \"10s\""),
        key("on_fatal", "on_fatal = \"stay_up\""),
        key("restart_budget", "restart_budget = 10"),
        key("restart_window", "restart_window = \"10m\""),
        key("log", "log = \"auto\""),
    ],
    example: "",
    sections: &[],
};

pub static KAFKA: SectionSpec = SectionSpec {
    path: "kafka",
    repeated: false,
    free: false,
    keys: &[key("brokers", "brokers = \"kafka:9092\""), key("group", "group = \"bief\"")],
    example: "",
    sections: &[&PROPERTIES],
};

pub static PROPERTIES: SectionSpec = free("kafka.properties", "");

pub static WAREHOUSE: SectionSpec = SectionSpec {
    path: "warehouse",
    repeated: false,
    free: false,
    keys: &[
        KeySpec { name: "url", example: "url = \"mysql://bief:${BIEF_DB_PASSWORD}@mysql/bief\"", secret: true },
        key("tls", "tls = \"verify\""),
        key("ca", "ca = \"certs/ca.pem\""),
        key("migrations", "migrations = \"migrations\""),
        key("load", "load = \"auto\""),
    ],
    example: "",
    sections: &[],
};

pub static CACHE: SectionSpec = SectionSpec {
    path: "cache",
    repeated: false,
    free: false,
    keys: &[
        KeySpec { name: "url", example: "url = \"mongodb://bief:${BIEF_CACHE_PASSWORD}@mongo/bief\"", secret: true },
        key("reconcile", "reconcile = \"30 3 * * *\""),
        key("reconcile_sample", "reconcile_sample = 0.1"),
    ],
    example: "",
    sections: &[],
};

pub static STREAM: SectionSpec = SectionSpec {
    path: "stream",
    repeated: true,
    free: false,
    keys: &[
        key("topic", "topic = \"orders\""),
        key("name", "name = \"orders\""),
        key("start", "start = \"earliest\""),
        key("lanes", "lanes = 2"),
        key("max_batch_records", "max_batch_records = 10000"),
        key("max_batch_bytes", "max_batch_bytes = \"8MiB\""),
        key("max_record_bytes", "max_record_bytes = \"4MiB\""),
        key("dead_letter_topic", "dead_letter_topic = \"orders.dead\""),
        key("max_dead_letter_share", "max_dead_letter_share = 0.05"),
    ],
    example: "",
    sections: &[&TABLE],
};

pub static TABLE: SectionSpec = SectionSpec {
    path: "stream.table",
    repeated: true,
    free: false,
    keys: &[
        key("name", "name = \"customer\""),
        key("on_conflict", "on_conflict = \"ignore\""),
        key("optional", "optional = true"),
    ],
    example: "",
    sections: &[&COLUMNS],
};

pub static COLUMNS: SectionSpec = free("stream.table.columns", "columns = { id = \"customer_id\" }");

pub static AGGREGATE: SectionSpec = SectionSpec {
    path: "aggregate",
    repeated: true,
    free: false,
    keys: &[
        key("name", "name = \"orders_hourly\""),
        key("table", "table = \"orders\""),
        key("time", "time = \"placed_at\""),
        key("bucket", "bucket = \"1h\""),
        key("query", "query = \"aggregates/orders_hourly.sql\""),
        key("key", "key = [\"shop\"]"),
        key("every", "every = \"5s\""),
        key("keep", "keep = \"400d\""),
    ],
    example: "",
    sections: &[],
};

pub static FORECAST: SectionSpec = SectionSpec {
    path: "forecast",
    repeated: true,
    free: false,
    keys: &[
        key("name", "name = \"orders_next_hour\""),
        key("aggregate", "aggregate = \"orders_hourly\""),
        key("target", "target = \"orders\""),
        key("key", "key = [\"shop\"]"),
        key("horizons", "horizons = [\"1h\", \"24h\"]"),
        key("lags", "lags = [0, 1, 2]"),
        key("seasons", "seasons = [24, 168]"),
        key("others", "others = [0]"),
        key("calendar", "calendar = [\"hour\", \"weekday\"]"),
        key("harmonics", "harmonics = 3"),
        key("train_at", "train_at = \"0 3 * * *\""),
        key("holdout", "holdout = \"28d\""),
        key("interval", "interval = 0.8"),
        key("memory", "memory = \"1GiB\""),
    ],
    example: "",
    sections: &[&ROLLING, &COVARIATES, &DRIFT],
};

pub static ROLLING: SectionSpec = SectionSpec {
    path: "forecast.rolling",
    repeated: true,
    free: false,
    keys: &[key("window", "window = 24"), key("of", "of = \"mean\""), key("every", "every = 24")],
    example: "rolling = [{ window = 24, of = \"mean\" }]",
    sections: &[],
};

pub static COVARIATES: SectionSpec = SectionSpec {
    path: "forecast.covariates",
    repeated: true,
    free: false,
    keys: &[key("aggregate", "aggregate = \"visits_hourly\""), key("fields", "fields = [\"visitors\"]")],
    example: "covariates = [{ aggregate = \"visits_hourly\", fields = [\"visitors\"] }]",
    sections: &[],
};

pub static DRIFT: SectionSpec = SectionSpec {
    path: "forecast.drift",
    repeated: false,
    free: false,
    keys: &[key("ratio", "ratio = 1.5"), key("window", "window = \"3d\"")],
    example: "drift = { ratio = 1.5, window = \"3d\" }",
    sections: &[],
};

pub static PANEL: SectionSpec = SectionSpec {
    path: "panel",
    repeated: true,
    free: false,
    keys: &[
        key("title", "title = \"Orders\""),
        key("source", "source = \"aggregate:orders_hourly\""),
        key("kind", "kind = \"line\""),
        key("value", "value = \"orders\""),
        key("values", "values = [\"orders\", \"amount\"]"),
        key("by", "by = \"shop\""),
        key("range", "range = \"7d\""),
        key("unit", "unit = \"EUR\""),
    ],
    example: "",
    sections: &[],
};

pub static REPLAY: SectionSpec = SectionSpec {
    path: "replay",
    repeated: true,
    free: false,
    keys: &[
        key("topic", "topic = \"orders\""),
        key("file", "file = \"data/orders.csv.gz\""),
        key("key", "key = [\"order_id\"]"),
        key("event_time", "event_time = \"ordered_at\""),
        key("times", "times = [\"ordered_at\", \"shipped_at\"]"),
        key("partitions", "partitions = 4"),
    ],
    example: "",
    sections: &[&LOOKUP],
};

pub static COMPARE: SectionSpec = SectionSpec {
    path: "compare",
    repeated: false,
    free: false,
    keys: &[
        key("schedule", "schedule = \"0 2 * * SUN\""),
        key("frameworks", "frameworks = [\"linfa\", \"scikit-learn\"]"),
        key("sizes", "sizes = [1, 10]"),
        key("workers", "workers = [1, 2]"),
        key("time_limit", "time_limit = \"10m\""),
        key("memory", "memory = \"4GiB\""),
        key("environment", "environment = \"var/ml\""),
        key("python", "python = \"/opt/ml/bin/python\""),
        key("spark_master", "spark_master = \"spark://spark:7077\""),
        key("dask_scheduler", "dask_scheduler = \"tcp://dask:8786\""),
        key("folder", "folder = \"var/compare\""),
    ],
    example: "",
    sections: &[],
};

pub static LOOKUP: SectionSpec = SectionSpec {
    path: "replay.lookup",
    repeated: true,
    free: false,
    keys: &[
        key("file", "file = \"data/customers.csv\""),
        key("field", "field = \"customer\""),
        key("key", "key = \"id\""),
    ],
    example: "",
    sections: &[&TAKE],
};

pub static TAKE: SectionSpec = free("replay.lookup.take", "take = { customer_name = \"name\" }");

impl SectionSpec {
    /// The last part of the path: its key in the table around it.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// As its header is written.
    pub fn header(&self) -> String {
        match (self.path, self.repeated) {
            ("", _) => "the file".into(),
            (path, true) => format!("[[{path}]]"),
            (path, false) => format!("[{path}]"),
        }
    }

    /// A value in its place may be a password.
    pub fn may_hold_secrets(&self) -> bool {
        let kafka = self.path.starts_with("kafka");
        kafka || self.keys.iter().any(|key| key.secret) || self.sections.iter().any(|s| s.may_hold_secrets())
    }

    pub fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub fn section(&self, name: &str) -> Option<&'static SectionSpec> {
        self.sections.iter().copied().find(|section| section.name() == name)
    }

    /// This section and all within it.
    pub fn all(&'static self) -> Vec<&'static SectionSpec> {
        std::iter::once(self).chain(self.sections.iter().flat_map(|section| section.all())).collect()
    }
}
