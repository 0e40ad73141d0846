//! Reads `[daemon]` and `[kafka]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::reader::{Fault, Reader, Section};
use super::schema::{DAEMON, KAFKA};
use super::{Brokers, Daemon, Kafka, LogFormat, OnFatal, access, names, properties, units};

/// Below this, librdkafka's own buffers leave nothing for records.
pub(super) const LEAST_MEMORY: u64 = 32 << 20;
const DEFAULT_MEMORY: u64 = 256 << 20;

pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>) -> Daemon {
    let s = r.section_or_empty(root, &DAEMON);
    let name = r.parsed(&s, "name", ("bief".to_owned(), "bief"), |text| names::label(text).map(|()| text.to_owned()));
    let local = SocketAddr::from(([127, 0, 0, 1], 8080));
    let http = r.parsed(&s, "http", (local, "127.0.0.1:8080"), address);
    let allowed_hosts = match r.texts(&s, "allowed_hosts") {
        None => {
            r.default("allowed_hosts", "[]");
            Vec::new()
        }
        Some(hosts) => {
            for host in &hosts {
                if let Err(fault) = host_header(&host.value) {
                    r.refuse("allowed_hosts", host, fault);
                }
            }
            hosts.into_iter().map(|host| host.value.to_ascii_lowercase()).collect()
        }
    };
    let access = access::read(r, &s, http);
    let memory = r.parsed(&s, "memory", (DEFAULT_MEMORY, &units::size_text(DEFAULT_MEMORY)), |text| {
        let bytes = units::size(text)?;
        if bytes < LEAST_MEMORY {
            return Err(Fault::new(
                "is too little to hold a batch beside the client's own buffers",
                "write \"32MiB\" or more",
            ));
        }
        Ok(bytes)
    });
    let drain_timeout = r.parsed(&s, "drain_timeout", (Duration::from_secs(10), "10s"), |text| {
        between(text, Duration::from_secs(1), Duration::from_secs(3600))
    });
    let on_fatal = r.choice(&s, "on_fatal", &[("stay_up", OnFatal::StayUp), ("exit", OnFatal::Exit)], OnFatal::StayUp);
    let restart_budget = r.integer(&s, "restart_budget", 1..=1000, 10);
    let restart_window = r.parsed(&s, "restart_window", (Duration::from_secs(600), "10m"), |text| {
        between(text, Duration::from_secs(1), Duration::from_secs(86_400))
    });
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = r.choice(&s, "log", &formats, LogFormat::Auto);
    Daemon { name, http, allowed_hosts, access, memory, drain_timeout, on_fatal, restart_budget, restart_window, log }
}

/// A duration within limits, both of them allowed.
pub(super) fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, Fault> {
    let duration = units::duration(text)?;
    if duration < least || duration > most {
        let (least, most) = (units::duration_text(least), units::duration_text(most));
        return Err(Fault::new("is out of range", format!("write a time from \"{least}\" to \"{most}\"")));
    }
    Ok(duration)
}

fn address(text: &str) -> Result<SocketAddr, Fault> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("8080");
        Fault::new(
            "is not an address and port",
            format!("write an IP address and a port, such as \"127.0.0.1:{port}\""),
        )
    })
}

fn host_header(host: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    if host.is_empty() || host.len() > 255 || !host.chars().all(plain) {
        return Err(Fault::new(
            "holds what is not a host",
            "write hosts as browsers send them, name or name:port, without `http://` and path",
        ));
    }
    Ok(())
}

pub(super) fn read_kafka(r: &mut Reader<'_>, root: &Section<'_>) -> Kafka {
    if root.value(KAFKA.name()).is_none() {
        r.missing_section(root, &KAFKA, "add [kafka] with `brokers = \"host:9092\"`, or \"embedded\"");
    }
    let s = r.section_or_empty(root, &KAFKA);
    let mut brokers = Brokers::Embedded;
    if let Some(text) = r.required(&s, "brokers") {
        match servers(&text.value) {
            Ok(found) => brokers = found,
            Err(fault) => {
                r.refuse("brokers", &text, fault);
                brokers = Brokers::Servers(String::new());
            }
        }
    }
    let group = r.parsed(&s, "group", ("bief".to_owned(), "bief"), |text| names::label(text).map(|()| text.to_owned()));
    let properties = properties::read(r, &s, &brokers);
    Kafka { brokers, group, properties }
}

fn servers(text: &str) -> Result<Brokers, Fault> {
    if text == "embedded" {
        return match cfg!(feature = "embedded") {
            true => Ok(Brokers::Embedded),
            false => {
                Err(Fault::new("needs the embedded broker, which this build leaves out", "name brokers: \"host:9092\""))
            }
        };
    }
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    for server in &servers {
        if server.contains("://") {
            return Err(Fault::new(
                "has a scheme in it",
                "write host:port alone; encryption is \"security.protocol\" in [kafka.properties]",
            ));
        }
        let Some((host, port)) = server.rsplit_once(':') else {
            let help = match super::unknown::nearest(server, ["embedded"].into_iter()) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => "write the port too, such as \"kafka:9092\"".to_owned(),
            };
            return Err(Fault::new("is neither \"embedded\" nor a list of host:port", help));
        };
        if host.is_empty() || host.contains(char::is_whitespace) || host.contains('/') {
            return Err(Fault::new("has a broker without a host", "write \"host:9092\", several with commas between"));
        }
        if port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(Fault::new("has a broker whose port is no number from 1 to 65535", "write \"host:9092\""));
        }
    }
    Ok(Brokers::Servers(servers.join(",")))
}
