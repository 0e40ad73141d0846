//! What the databases', the cache's and the broker's error codes mean: one table, shown by docs/errors.md, which a test compares.
//! Must never call an error the row's fault that an outage could cause: an outage would drain the topic into the dead
//! letters.

use crate::core::outcome::Reason;

/// What an error means for the work that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: the batch is tried again, for ever.
    Transient,
    /// This row can't be written; others can.
    Row(Reason),
    /// Only an operator can help; the text says how.
    Fatal(&'static str),
    /// The table is not as it was when it was read: it is read again, and either fits or the difference is named.
    Schema(&'static str),
    /// The server does not let clients send files: rows go by INSERT.
    LocalInfileOff,
    /// Not known: a row's fault only where something shows that the server works.
    Unknown,
}

/// Which messages an entry is for.
enum Words {
    Any,
    /// Those that begin with one of these: what follows can be a value, which says anything.
    Begin(&'static [&'static str]),
    /// Those that hold one of these.
    Hold(&'static [&'static str]),
}

impl Words {
    fn fit(&self, message: &str) -> bool {
        match self {
            Words::Any => true,
            Words::Begin(words) => words.iter().any(|w| message.starts_with(w)),
            Words::Hold(words) => words.iter().any(|w| message.contains(w)),
        }
    }
}

/// Codes that mean the same. The first entry that fits counts.
pub struct Entry {
    codes: &'static [u16],
    words: Words,
    pub class: Class,
    /// For people.
    pub meaning: &'static str,
}

pub const SCHEMA: &str = "compare the table with the mapping: `bief check --connect`";
pub const GRANT: &str = "grant the user what is missing: `bief check --connect` prints the statement";
/// Of no use to who wrote the statement.
pub const SERVER: &str = "this server does not understand bief: MySQL 8.0 or MariaDB 10.6 and newer are supported";
pub const LOGIN: &str = "check user and password in warehouse.url and the hosts that the account may come from";

pub const CACHE_LOGIN: &str =
    "check user and password in cache.url, and authSource: the database that the account is in, often admin";
pub const CACHE_SERVER: &str =
    "this server does not understand bief: MongoDB 6 and newer, DocumentDB and FerretDB 2 are supported";
const CACHE_GRANT: &str = "grant the account the role readWrite on the database of cache.url";

const fn entry(codes: &'static [u16], class: Class, meaning: &'static str) -> Entry {
    Entry { codes, words: Words::Any, class, meaning }
}

const fn only(codes: &'static [u16], words: Words, class: Class, meaning: &'static str) -> Entry {
    Entry { codes, words, class, meaning }
}

const TIME_WORDS: &[&str] =
    &["Incorrect datetime", "Incorrect date ", "Incorrect time", "Incorrect TIMESTAMP", "Incorrect DATE"];

/// MySQL's and MariaDB's codes.
#[rustfmt::skip]
pub const MYSQL: &[Entry] = {
    use Class::{Fatal, LocalInfileOff, Row, Schema, Transient};
    &[
        entry(&[1205, 1206, 1213, 3058, 3572], Transient, "lock wait, lock table full, deadlock"),
        entry(&[1020, 1032, 1613, 1614, 1637], Transient, "record changed, rolled back from outside"),
        entry(&[1040, 1042, 1043, 1053, 1077, 1078, 1079, 1080, 1129, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1203, 1226], Transient, "connections: too many, aborted, network, shutdown"),
        entry(&[1028, 1317, 1927, 1969, 3024, 3168, 3169, 4031], Transient, "killed, interrupted, timed out"),
        entry(&[2002, 2003, 2006, 2013, 2055], Transient, "server gone"),
        entry(&[1290, 1792, 1836], Transient, "read-only, as after a failover"),
        only(&[1047], Words::Begin(&["Unsupported 'LOAD DATA LOCAL INFILE'"]), LocalInfileOff, "ProxySQL lets no LOAD DATA LOCAL through"),
        entry(&[1047, 1180, 3100, 3101], Transient, "a cluster's node is not ready or asks to roll back"),
        entry(&[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45], Transient, "the server's own files: a full disk of temporary files, out of memory or descriptors"),
        entry(&[1015, 1016, 1017, 1023, 1024, 1034, 1036, 1297, 1874, 1878], Transient, "a file that cannot be opened, read or written; a storage engine that is read-only for now"),
        only(&[1005], Words::Hold(&["errno: 150"]), Fatal("correct the foreign key"), "a foreign key that is not well formed"),
        entry(&[1005, 1021, 1026, 1030, 1114, 1197, 1296, 3675], Transient, "disk full or failing, storage engine"),
        entry(&[1037, 1038, 1041, 1135], Transient, "out of memory or threads"),
        entry(&[1194, 1195], Transient, "a table that is marked as crashed, until it is repaired"),
        entry(&[1243, 1412, 1461, 1615], Transient, "a definition changed under the statement, or too many are prepared"),
        entry(&[1148, 3948, 4166], LocalInfileOff, "the server takes no LOAD DATA LOCAL"),
        entry(&[1048, 1263, 1566], Row(Reason::NullNotAllowed), "NULL in a column that must have a value"),
        entry(&[1022, 1062, 1169, 1557, 1586, 1761, 1762], Row(Reason::UniqueKey), "a unique index has the value already"),
        entry(&[1216, 1217, 1451, 1452], Row(Reason::ForeignKey), "no such parent, or children are left"),
        entry(&[1369, 3819, 4025], Row(Reason::Check), "CHECK, or a view's CHECK OPTION"),
        entry(&[1264, 1416, 1425, 1426, 1526, 1690, 1748], Row(Reason::OutOfRange), "a number or partition that the column cannot hold"),
        entry(&[139, 1118, 1301, 1406], Row(Reason::TooLong), "a value or row that is too long"),
        entry(&[1300, 1977, 3854, 3988], Row(Reason::NotEncodable), "characters that the column's character set lacks"),
        only(&[1366], Words::Begin(&["Incorrect string value"]), Row(Reason::NotEncodable), "characters that the column's character set lacks"),
        only(&[1292, 1366, 1411], Words::Begin(TIME_WORDS), Row(Reason::InvalidTime), "no date or time"),
        entry(&[1265, 1292, 1366, 1367, 1411, 3140, 3141, 3142, 3143, 3144, 3145, 3146, 3147, 3148, 3149, 3150, 3151, 3152, 3153, 3154, 3155, 3156, 3157, 3158], Row(Reason::WrongType), "a value of another kind, no JSON"),
        entry(&[1261, 1262, 1365, 1644, 1645], Row(Reason::Refused), "a trigger's SIGNAL, division by zero, too few or too many fields"),
        entry(&[1044, 1142, 1143, 1227, 1370], Fatal(GRANT), "a grant is missing"),
        entry(&[1820, 1862, 3118], Fatal("the database's administrator has to renew the account"), "the account is locked or its password has expired"),
        entry(&[1045, 1130, 1251, 1524, 1698], Fatal(LOGIN), "the login is refused"),
        entry(&[1046], Fatal("name the database in warehouse.url: mysql://user@host/database"), "no database is named"),
        entry(&[1049], Fatal("create the database (CREATE DATABASE … CHARACTER SET utf8mb4), or correct warehouse.url"), "no such database"),
        entry(&[1051, 1146], Schema("create the table (`bief run` applies the migrations) or correct its name in the mapping"), "no such table"),
        entry(&[1054, 1109, 1110, 1136, 1288, 1347, 1471], Schema(SCHEMA), "no such column, another number of columns, no table that takes rows"),
        entry(&[1364], Schema("a column without a default is not mapped: map it to a field, or give it a default"), "a column without a default got no value"),
        entry(&[1906, 3105], Schema("a column that the database computes is mapped: leave it out of the mapping"), "a computed column got a value"),
        entry(&[1598, 1665], Fatal("set binlog_format = ROW on the server: bief writes under READ COMMITTED"), "the binary log takes no such statement"),
        entry(&[3159], Fatal("the server demands TLS: set warehouse.tls = \"require\" or \"verify\""), "the server demands TLS"),
        entry(&[1064, 1137, 1149, 1193, 1231, 1235], Fatal(SERVER), "a statement or setting that the server does not know"),
    ]
};

/// SQLite's primary result codes; the extended one names the constraint.
#[rustfmt::skip]
pub const SQLITE: &[Entry] = {
    use Class::{Fatal, Row, Transient};
    &[
        entry(&[5, 6, 15, 17], Transient, "locked, or the schema changed under the statement"),
        entry(&[7, 9, 10, 13], Transient, "out of memory, interrupted, I/O error, disk full"),
        entry(&[18], Row(Reason::TooLong), "a value that is too long"),
        entry(&[19, 20], Row(Reason::Refused), "a constraint, by its extended code; a value of another type"),
        only(&[1], Words::Hold(SQLITE_STATEMENT_ERRORS), Fatal(""), "the statement is at fault: no such table or column"),
        entry(&[1], Row(Reason::Refused), "a function does not like the value"),
    ]
};

/// Codes of MongoDB and what speaks its protocol, of commands and of single writes. A duplicate key is no error there.
#[rustfmt::skip]
pub const MONGODB: &[Entry] = {
    use Class::{Fatal, Transient};
    &[
        entry(&[6, 7, 89, 202, 317, 384, 9001], Transient, "network"),
        entry(&[91, 11600, 11601, 11602, 13436], Transient, "shutdown, recovery, interrupted"),
        entry(&[133, 189, 10058, 10107, 13435], Transient, "no primary, or another one"),
        entry(&[24, 46, 50, 112, 262], Transient, "locks, time limits, conflicts"),
        entry(&[43, 136, 175, 237], Transient, "a cursor or plan that was given up"),
        entry(&[64, 100, 134], Transient, "most members of the replica set do not have it yet"),
        entry(&[63, 150, 13388], Transient, "a shard's routing is out of date"),
        entry(&[146, 292, 14031], Transient, "disk or memory used up"),
        entry(&[117, 215, 276, 12586, 12587], Transient, "an index is being built, or the database is being dropped"),
        entry(&[391], Transient, "the log-in has expired and is renewed"),
        entry(&[13], Fatal(CACHE_GRANT), "a role is missing"),
        entry(&[11, 18], Fatal(CACHE_LOGIN), "the login is refused"),
        entry(&[59, 115, 238, 303, 40324, 40415], Fatal(CACHE_SERVER), "a command or option that the server does not know"),
        entry(&[121], Fatal("remove the validator from the collection"), "a validator refuses the document"),
        entry(&[10334, 17280, 17419, 17420], Fatal("let the aggregate's query give fewer columns and shorter keys"), "a document above 16 MiB, a key that is too long for an index"),
        entry(&[73, 166], Fatal("give the aggregate, or the database of cache.url, another name"), "a name that the server does not take, or that is a view's"),
        entry(&[61], Fatal("shard the collection by _id, or not at all"), "a shard key that replacing by _id does not suit"),
    ]
};

/// Words of SQLite's plain error where the statement is at fault, not a value.
const SQLITE_STATEMENT_ERRORS: &[&str] = &[
    "no such ",
    "has no column named",
    "syntax error",
    "incomplete input",
    "unrecognized token",
    "foreign key mismatch",
    "because it is a view",
    "may not be modified",
    "generated column",
    "ON CONFLICT clause does not match",
    "already exists",
    "too many SQL variables",
    "values for",
    "transaction",
];

/// The class of a code of MySQL or MariaDB. `state`, the SQLSTATE, decides where the code is not in the table.
pub fn mysql(code: u16, state: &str, words: &str) -> Class {
    find(MYSQL, code, words).unwrap_or(match state.get(..2) {
        Some("22" | "23" | "45") => Class::Row(Reason::Refused),
        Some("08" | "40" | "53" | "57") => Class::Transient,
        Some("28") => Class::Fatal(LOGIN),
        Some("42") => Class::Schema(SCHEMA),
        _ => Class::Unknown,
    })
}

/// The class of an extended result code of SQLite.
pub fn sqlite(code: i32, words: &str) -> Class {
    u16::try_from(code & 0xff).ok().and_then(|code| find(SQLITE, code, words)).unwrap_or(Class::Fatal(""))
}

/// The class of a code of MongoDB. One that is not known may well pass.
pub fn mongodb(code: i32) -> Class {
    u16::try_from(code).ok().and_then(|code| find(MONGODB, code, "")).unwrap_or(Class::Transient)
}

fn find(table: &[Entry], code: u16, words: &str) -> Option<Class> {
    let fits = |e: &&Entry| e.codes.contains(&code) && e.words.fit(words);
    table.iter().find(fits).map(|e| e.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &[Entry]) -> Vec<String> {
        let of = |e: &Entry| {
            let codes: Vec<String> = e.codes.iter().map(u16::to_string).collect();
            let class = match e.class {
                Class::Transient => "transient".to_owned(),
                Class::Row(reason) => format!("row, `{reason}`"),
                Class::Fatal("") => "fatal".to_owned(),
                Class::Fatal(advice) => format!("fatal: {advice}"),
                Class::Schema(advice) => format!("schema: {advice}"),
                Class::LocalInfileOff => "rows go by INSERT".to_owned(),
                Class::Unknown => "unknown".to_owned(),
            };
            let only = if matches!(e.words, Words::Any) { "" } else { ", by its words" };
            format!("| {}{only} | {} | {class} |", codes.join(", "), e.meaning)
        };
        table.iter().map(of).collect()
    }

    /// Rows of the page below a heading.
    fn documented(heading: &str) -> Vec<&'static str> {
        let page = include_str!("../../docs/errors.md");
        let section = page.lines().skip_while(|line| *line != heading).skip(1);
        let table = section.skip_while(|line| !line.starts_with("|---")).skip(1);
        table.take_while(|line| line.starts_with('|')).collect()
    }

    #[test]
    fn the_page_shows_the_table() {
        for (table, heading) in
            [(MYSQL, "## MySQL and MariaDB"), (SQLITE, "## SQLite"), (MONGODB, "## MongoDB, DocumentDB, FerretDB")]
        {
            let rows = rows(table);
            assert_eq!(documented(heading), rows, "write into docs/errors.md:\n{}", rows.join("\n"));
        }
    }

    #[test]
    fn no_code_stands_twice_without_words_to_tell_them_apart() {
        for table in [MYSQL, SQLITE, MONGODB] {
            let mut plain: Vec<u16> =
                table.iter().filter(|e| matches!(e.words, Words::Any)).flat_map(|e| e.codes.iter().copied()).collect();
            let all = plain.len();
            plain.sort_unstable();
            plain.dedup();
            assert_eq!(plain.len(), all);
        }
    }
}
