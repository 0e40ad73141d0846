//! Where the cache is and how it is spoken to: the driver's options, from the URL. Must never tell the URL or a part of
//! it, since it holds a password; nor let it turn off what the cache relies on.

use std::net::IpAddr;
use std::time::Duration;

use ::mongodb::options::{ClientOptions, ReadPreference, SelectionCriteria, ServerAddress, Tls, TlsOptions};

use crate::ports::CacheError;

/// A server that is not found within this is as good as down; the URL can say otherwise.
const FIND_LIMIT: Duration = Duration::from_secs(5);

const EXAMPLE: &str = "mongodb://user:${PASSWORD}@host:27017/database?authSource=admin";

pub(super) struct Address {
    pub options: ClientOptions,
    pub database: String,
}

impl Address {
    pub async fn of(url: &str) -> Result<Self, CacheError> {
        if url.starts_with("mongodb+srv:") {
            return Err(fatal(
                "is of the form mongodb+srv, which takes a look-up in DNS that bief does not do: write the servers out, \
                 mongodb://host1,host2,host3/database?tls=true&replicaSet=NAME&authSource=admin (Atlas shows this form \
                 for older drivers)",
            ));
        }
        // The driver's own words may repeat a part of the password where that is what broke the URL.
        let mut options = ClientOptions::parse(url).await.map_err(|_| {
            fatal(&format!(
                "cannot be read; {EXAMPLE} is expected, with what MongoDB's manual has for a connection string behind \
                 the question mark; write special characters of user and password as %XX (`/` is %2F, `@` is %40)"
            ))
        })?;
        let Some(database) = options.default_database.clone() else {
            return Err(fatal(&format!("names no database; {EXAMPLE} is expected")));
        };
        options.app_name.get_or_insert_with(|| "bief".to_owned());
        options.server_selection_timeout.get_or_insert(FIND_LIMIT);
        options.connect_timeout.get_or_insert(FIND_LIMIT);
        if options.tls.is_none() && !options.hosts.iter().all(is_this_machine) {
            options.tls = Some(Tls::Enabled(TlsOptions::default()));
        }
        // The guard of versions is read back, and buckets are read in several steps: a member that lags behind would
        // show a state that never was.
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        // Each command says itself what it asks for.
        options.write_concern = None;
        Ok(Self { options, database })
    }
}

fn is_this_machine(address: &ServerAddress) -> bool {
    match address {
        ServerAddress::Tcp { host, .. } => {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        ServerAddress::Unix { .. } => true,
        _ => false,
    }
}

fn fatal(what: &str) -> CacheError {
    CacheError::Fatal { what: format!("cache.url {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> String {
        match Address::of(url).await {
            Err(CacheError::Fatal { what }) => what,
            Err(error) => panic!("{url}: {error:?}"),
            Ok(_) => panic!("{url} was accepted"),
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_url_is_said_without_its_content() {
        for (url, words) in [
            ("mongodb://u:hun/ter2@h/d", "cannot be read"),
            ("mongodb://u:hunter2@h:x/d", "cannot be read"),
            ("mongodb://u:hunter2@h/d?hunter2=1", "cannot be read"),
            ("mysql://u:hunter2@h/d", "cannot be read"),
            ("mongodb://u:hunter2@h", "names no database"),
            ("mongodb://u:hunter2@h/?tls=true", "names no database"),
            ("mongodb+srv://u:hunter2@h/d", "write the servers out"),
        ] {
            let text = refused(url).await;
            assert!(text.contains(words) && text.contains("cache.url") && !text.contains("ter2"), "{url}: {text}");
        }
    }

    #[tokio::test]
    async fn the_connection_is_encrypted_unless_the_server_is_here_or_the_url_says_otherwise() {
        for (url, encrypted) in [
            ("mongodb://localhost/d", false),
            ("mongodb://127.0.0.1:1,[::1]:2/d", false),
            ("mongodb://localhost/d?tls=true", true),
            ("mongodb://db.example/d", true),
            ("mongodb://localhost,db.example/d", true),
            ("mongodb://db.example/d?tls=false", false),
            ("mongodb://db.example/d?ssl=false", false),
        ] {
            let options = Address::of(url).await.unwrap_or_else(|e| panic!("{url}: {e}")).options;
            assert_eq!(matches!(options.tls, Some(Tls::Enabled(_))), encrypted, "{url}");
        }
    }

    #[tokio::test]
    async fn what_the_cache_relies_on_stays_whatever_the_url_says() {
        let url = "mongodb://h1,h2/d?readPreference=secondary&w=1&serverSelectionTimeoutMS=700&retryWrites=false";
        let Address { options, database } = Address::of(url).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(database, "d");
        assert_eq!(options.selection_criteria, Some(SelectionCriteria::ReadPreference(ReadPreference::Primary)));
        assert_eq!(options.write_concern, None);
        assert_eq!(options.server_selection_timeout, Some(Duration::from_millis(700)));
        assert_eq!(options.connect_timeout, Some(FIND_LIMIT));
    }
}
