//! Applies the domain's own SQL files, `NNNN_name.sql`, in order and once. Must never run a statement twice, nor
//! pass over a file that was changed or taken away after it was applied.
//!
//! On SQLite all new files are one transaction. MySQL ends a transaction at each DDL statement, so there the row in
//! `bief_migration` keeps count: before a statement runs, `sha256` becomes that of the statements up to and with it;
//! after it failed, of those before it. So a start after a crash knows whether a statement was under way, and a
//! statement that failed may be corrected in the file, but none that was applied.

use std::path::{Path, PathBuf};

use chrono::Utc;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, QueryOrder, RuntimeErr, Set, TransactionTrait,
};
use sha2::{Digest, Sha256};

use super::bookkeeping::connect::{lock_schema, unlock_schema};
use super::bookkeeping::entities::migration;
use super::bookkeeping::immediate;
use super::bookkeeping::limits::{ANSWER_LIMIT, limited};
use super::sql_errors::{from_db_err, mysql_number};
use crate::core::sql_split::{SqlStatement, split};
use crate::ports::WarehouseError;

/// A file whose statements were run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub name: String,
    /// Statements run now.
    pub statements: usize,
    /// Statements that an earlier start had run already.
    pub already_applied: usize,
}

/// Why the schema is not as the files say.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error("migrations folder {}: {source}; correct warehouse.migrations", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "{file}: a migration's name is four digits or more, an underscore, a word and .sql, like 0001_tables.sql; rename the file"
    )]
    Name { file: String },
    #[error("{first} and {second} have the same number; give the later one the next free number")]
    SameNumber { first: String, second: String },
    #[error("{file} is new but comes before {last}, which is applied already; give it a higher number")]
    OutOfOrder { file: String, last: String },
    #[error("{file} was changed after it was applied; restore it and put the change into a new file")]
    Changed { file: String },
    #[error(
        "{file} was changed in its first {applied} statements, which are applied already; restore them: \
         only the statements after them may change"
    )]
    ChangedHalfway { file: String, applied: usize },
    #[error("{file} is applied in the database but missing in the folder; restore it")]
    Vanished { file: String },
    #[error("{file}, line {line}: {what}")]
    Unclear { file: String, line: usize, what: String },
    #[error("{file}, line {line}: {words}; the statement begins: {excerpt}; {advice}")]
    Statement { file: String, line: usize, words: String, excerpt: String, advice: &'static str, transient: bool },
    #[error(transparent)]
    Database(#[from] WarehouseError),
}

impl From<MigrationError> for WarehouseError {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Database(error) => error,
            MigrationError::Statement { transient: true, .. } => WarehouseError::Transient { what: error.to_string() },
            _ => WarehouseError::Fatal { what: error.to_string() },
        }
    }
}

/// Applies the files of `folder` that the database lacks; answers them. `db` holds one session
/// ([`super::bookkeeping::connect::Sessions::One`]) and has the bookkeeping tables. A second daemon waits.
pub async fn apply(db: &DatabaseConnection, folder: &Path) -> Result<Vec<Applied>, MigrationError> {
    let files = read_files(folder).await?;
    if db.get_database_backend() == DbBackend::Sqlite {
        let transaction = db.begin_with_options(immediate()).await.map_err(failed)?;
        let applied = apply_files(&transaction, &files).await?;
        transaction.commit().await.map_err(failed)?;
        return Ok(applied);
    }
    lock_schema(db).await?;
    let applied = apply_files(db, &files).await;
    unlock_schema(db).await;
    applied
}

/// A file as it is now.
struct SqlFile {
    number: u64,
    name: String,
    text: String,
}

async fn read_files(folder: &Path) -> Result<Vec<SqlFile>, MigrationError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| MigrationError::Unreadable { path, source }
    };
    let mut files: Vec<SqlFile> = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await.map_err(unreadable(folder))?;
    while let Some(entry) = entries.next_entry().await.map_err(unreadable(folder))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.to_ascii_lowercase().ends_with(".sql") {
            continue;
        }
        let number = number_of(&name).ok_or_else(|| MigrationError::Name { file: name.clone() })?;
        let text = tokio::fs::read_to_string(entry.path()).await.map_err(unreadable(&entry.path()))?;
        // Editors and checkouts change these; the statements stay the same.
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        files.push(SqlFile { number, name, text });
    }
    files.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    match files.windows(2).find(|w| w[0].number == w[1].number) {
        Some(w) => Err(MigrationError::SameNumber { first: w[0].name.clone(), second: w[1].name.clone() }),
        None => Ok(files),
    }
}

fn number_of(name: &str) -> Option<u64> {
    let (digits, rest) = name.strip_suffix(".sql")?.split_once('_')?;
    let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    let named = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty();
    (named && plain && name.len() <= 255).then(|| digits.parse().ok())?
}

async fn apply_files<C: ConnectionTrait>(db: &C, files: &[SqlFile]) -> Result<Vec<Applied>, MigrationError> {
    let reading = migration::Entity::find().order_by_asc(migration::Column::Name);
    let recorded = async { reading.all(db).await.map_err(failed) };
    let recorded = limited("reading bief_migration", ANSWER_LIMIT, recorded).await?;
    if let Some(lost) = recorded.iter().find(|r| files.iter().all(|f| f.name != r.name)) {
        return Err(MigrationError::Vanished { file: lost.name.clone() });
    }
    let record_of = |file: &SqlFile| recorded.iter().find(|r| r.name == file.name);
    let last = files.iter().rposition(|f| record_of(f).is_some());
    let mut applied = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let statements = split(&file.text).map_err(|e| MigrationError::Unclear {
            file: file.name.clone(),
            line: e.line,
            what: e.what,
        })?;
        let begun = match record_of(file) {
            None => match last.filter(|&last| last > at) {
                Some(last) => {
                    return Err(MigrationError::OutOfOrder { file: file.name.clone(), last: files[last].name.clone() });
                }
                None => Begun { applied: 0, in_doubt: false },
            },
            Some(record) if record.statements_applied >= record.statements => {
                if record.sha256 != sha256(&file.text) {
                    return Err(MigrationError::Changed { file: file.name.clone() });
                }
                continue;
            }
            Some(record) => begun(file, &statements, record)?,
        };
        applied.push(apply_file(db, file, &statements, begun).await?);
    }
    Ok(applied)
}

/// How far an earlier start came with a file.
struct Begun {
    applied: usize,
    /// It was cut off while the next statement ran: that may be done or not.
    in_doubt: bool,
}

fn begun(file: &SqlFile, statements: &[SqlStatement<'_>], record: &migration::Model) -> Result<Begun, MigrationError> {
    let applied = usize::try_from(record.statements_applied).unwrap_or(0);
    let in_doubt = applied < statements.len() && sha256_of(&statements[..=applied]) == record.sha256;
    let as_before = applied <= statements.len() && sha256_of(&statements[..applied]) == record.sha256;
    match in_doubt || as_before {
        true => Ok(Begun { applied, in_doubt }),
        false => Err(MigrationError::ChangedHalfway { file: file.name.clone(), applied }),
    }
}

async fn apply_file<C: ConnectionTrait>(
    db: &C,
    file: &SqlFile,
    statements: &[SqlStatement<'_>],
    begun: Begun,
) -> Result<Applied, MigrationError> {
    let mysql = db.get_database_backend() == DbBackend::MySql;
    let total = statements.len();
    for (at, statement) in statements.iter().enumerate().skip(begun.applied) {
        record(db, file, sha256_of(&statements[..=at]), at, total).await?;
        if let Err(error) = run(db, file, statements, at, mysql).await {
            if at == begun.applied && begun.in_doubt && is_done_already(&error) {
                record(db, file, sha256_of(&statements[..=at]), at + 1, total).await?;
                continue;
            }
            if mysql {
                // Best effort: the first error is the one to tell, and without this the statement is merely in doubt.
                let _ = db.execute_unprepared("ROLLBACK").await;
                let _ = record(db, file, sha256_of(&statements[..at]), at, total).await;
            }
            return Err(refused(file, statement, &error, mysql));
        }
    }
    record(db, file, sha256(&file.text), total, total).await?;
    Ok(Applied { name: file.name.clone(), statements: total - begun.applied, already_applied: begun.applied })
}

/// One statement, and the count of it; on MySQL one transaction, where the statement lets it.
async fn run<C: ConnectionTrait>(
    db: &C,
    file: &SqlFile,
    statements: &[SqlStatement<'_>],
    at: usize,
    mysql: bool,
) -> Result<(), DbErr> {
    if mysql {
        db.execute_unprepared("BEGIN").await?;
    }
    db.execute_unprepared(statements[at].text).await?;
    write_record(db, file, sha256_of(&statements[..=at]), at + 1, statements.len()).await?;
    if mysql {
        db.execute_unprepared("COMMIT").await?;
    }
    Ok(())
}

async fn record<C: ConnectionTrait>(
    db: &C,
    file: &SqlFile,
    sha256: String,
    applied: usize,
    statements: usize,
) -> Result<(), MigrationError> {
    write_record(db, file, sha256, applied, statements).await.map_err(failed)
}

async fn write_record<C: ConnectionTrait>(
    db: &C,
    file: &SqlFile,
    sha256: String,
    applied: usize,
    statements: usize,
) -> Result<(), DbErr> {
    use migration::Column as C;
    migration::Entity::insert(migration::ActiveModel {
        name: Set(file.name.clone()),
        sha256: Set(sha256),
        statements_applied: Set(applied as i32),
        statements: Set(statements as i32),
        applied_at: Set(Utc::now().naive_utc()),
    })
    .on_conflict(
        OnConflict::column(C::Name)
            .update_columns([C::Sha256, C::StatementsApplied, C::Statements, C::AppliedAt])
            .to_owned(),
    )
    .exec_without_returning(db)
    .await
    .map(drop)
}

/// What MySQL says when the thing to be made is there, or the thing to be dropped is not.
fn is_done_already(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e))) = error else { return false };
    mysql_number(e).is_some_and(|n| matches!(n, 1050 | 1051 | 1060 | 1061 | 1091 | 1826 | 3822))
}

fn refused(file: &SqlFile, statement: &SqlStatement<'_>, error: &DbErr, mysql: bool) -> MigrationError {
    const EXCERPT: usize = 60;
    let error = from_db_err("the database refuses the statement", error);
    MigrationError::Statement {
        file: file.name.clone(),
        line: statement.line,
        words: error.to_string(),
        excerpt: statement.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT).collect(),
        advice: if mysql {
            "the statements before it are applied and will not run again: correct this one and start again"
        } else {
            "no file of this start was applied: correct the statement and start again"
        },
        transient: matches!(error, WarehouseError::Transient { .. }),
    }
}

fn sha256(text: &str) -> String {
    hex(Sha256::digest(text))
}

fn sha256_of(statements: &[SqlStatement<'_>]) -> String {
    let mut digest = Sha256::new();
    for statement in statements {
        digest.update(statement.text);
        digest.update([0]);
    }
    hex(digest.finalize())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn failed(error: DbErr) -> MigrationError {
    MigrationError::Database(from_db_err("reading or writing bief_migration", &error))
}

#[cfg(test)]
mod tests {
    use sea_orm::Statement;
    use tempfile::TempDir;

    use super::*;
    use crate::adapters::bookkeeping;
    use crate::adapters::bookkeeping::connect::{Sessions, connect_sqlite};
    use crate::adapters::sqlite;

    struct Fixture {
        folder: TempDir,
        db: DatabaseConnection,
    }

    impl Fixture {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let db = Self::open(&folder).await;
            bookkeeping::migrate(&db).await.unwrap();
            std::fs::create_dir(folder.path().join("sql")).unwrap();
            Self { folder, db }
        }

        async fn open(folder: &TempDir) -> DatabaseConnection {
            let url = format!("sqlite://{}/x.db", folder.path().display());
            connect_sqlite(sqlite::options(&url).unwrap().create_if_missing(true), Sessions::One).await.unwrap()
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("sql")
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path().join(name), text).unwrap();
        }

        async fn apply(&self) -> Result<Vec<(String, usize)>, String> {
            let applied = apply(&self.db, &self.path()).await.map_err(|e| e.to_string())?;
            Ok(applied.into_iter().map(|a| (a.name, a.statements)).collect())
        }

        async fn tables(&self) -> Vec<String> {
            let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 't_' ORDER BY name";
            let rows = self.db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
            rows.iter().map(|r| r.try_get("", "name").unwrap()).collect()
        }
    }

    #[tokio::test]
    async fn files_are_applied_in_order_of_their_numbers_and_once() {
        let f = Fixture::new().await;
        f.write("10000_last.sql", "INSERT INTO t1 VALUES (2)");
        f.write("0002_more.sql", "INSERT INTO t1 VALUES (1);\r\nCREATE TABLE t2 (a INTEGER);\r\n");
        f.write("0001_first.sql", "-- the one table\nCREATE TABLE t1 (a INTEGER PRIMARY KEY);");
        f.write("0003_empty.sql", "-- nothing yet\n");
        f.write("README.md", "not SQL");
        let names: Vec<_> = f.apply().await.unwrap();
        let expected = [("0001_first.sql", 1), ("0002_more.sql", 2), ("0003_empty.sql", 0), ("10000_last.sql", 1)];
        assert_eq!(names, expected.map(|(n, s)| (n.to_owned(), s)));
        assert_eq!(f.apply().await.unwrap(), []);
        // Line endings are a checkout's matter.
        f.write("0002_more.sql", "INSERT INTO t1 VALUES (1);\nCREATE TABLE t2 (a INTEGER);\n");
        assert_eq!(f.apply().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_file_that_was_changed_or_taken_away_is_named_with_what_to_do() {
        let f = Fixture::new().await;
        f.write("0001_first.sql", "CREATE TABLE t1 (a INTEGER)");
        f.apply().await.unwrap();
        f.write("0001_first.sql", "CREATE TABLE t1 (a INTEGER, b INTEGER)");
        let error = f.apply().await.unwrap_err();
        assert!(error.contains("0001_first.sql was changed") && error.contains("new file"), "{error}");
        std::fs::remove_file(f.path().join("0001_first.sql")).unwrap();
        let error = f.apply().await.unwrap_err();
        assert!(error.contains("0001_first.sql is applied") && error.contains("restore"), "{error}");
    }

    #[tokio::test]
    async fn names_that_leave_the_order_open_are_refused() {
        let f = Fixture::new().await;
        f.write("0002_b.sql", "CREATE TABLE t2 (a INTEGER)");
        f.apply().await.unwrap();
        f.write("0001_late.sql", "CREATE TABLE t1 (a INTEGER)");
        assert!(f.apply().await.unwrap_err().contains("comes before 0002_b.sql"));
        std::fs::rename(f.path().join("0001_late.sql"), f.path().join("0002_late.sql")).unwrap();
        assert!(f.apply().await.unwrap_err().contains("same number"));
        std::fs::rename(f.path().join("0002_late.sql"), f.path().join("late.sql")).unwrap();
        assert!(f.apply().await.unwrap_err().contains("rename the file"));
        assert!(apply(&f.db, &f.path().join("absent")).await.unwrap_err().to_string().contains("warehouse.migrations"));
    }

    #[tokio::test]
    async fn a_refused_statement_is_told_with_file_line_and_the_databases_words_and_nothing_is_kept() {
        let f = Fixture::new().await;
        f.write("0001_first.sql", "CREATE TABLE t1 (a INTEGER);");
        f.write("0002_bad.sql", "CREATE TABLE t2 (a INTEGER);\n\n-- oops\nINSERT INTO t9\n  VALUES (1);\n");
        let error = f.apply().await.unwrap_err();
        for part in ["0002_bad.sql, line 4", "no such table: t9", "INSERT INTO t9 VALUES (1)", "start again"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(f.tables().await, Vec::<String>::new());
        f.write("0002_bad.sql", "CREATE TABLE t2 (a INTEGER);\nINSERT INTO t2\n  VALUES (1);\n");
        assert_eq!(f.apply().await.unwrap().len(), 2);
        assert_eq!(f.tables().await, ["t1", "t2"]);
        f.write("0003_open.sql", "SELECT 1;\nSELECT 'x");
        assert!(f.apply().await.unwrap_err().contains("0003_open.sql, line 2: a quote"));
    }

    #[tokio::test]
    async fn two_daemons_that_start_at_once_apply_each_file_once() {
        let f = Fixture::new().await;
        f.write("0001_first.sql", "CREATE TABLE t1 (a INTEGER); INSERT INTO t1 VALUES (1);");
        let other = Fixture::open(&f.folder).await;
        let path = f.path();
        let (a, b) = tokio::join!(apply(&f.db, &path), apply(&other, &path));
        assert_eq!(a.unwrap().len() + b.unwrap().len(), 1);
    }
}
