//! Creates the bookkeeping tables and changes them from version to version. Each migration can be run again
//! after it broke off midway: MySQL's DDL knows no transaction.

use sea_orm::sea_query::{Alias, ColumnDef, Index, IndexCreateStatement, IntoIden, Table, TableCreateStatement};
use sea_orm::{ConnectionTrait, DbBackend, DynIden};
use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait};

use super::entities::{
    audit, bucket_claim, dead_letter, dirty_bucket, dropped_letter, gap, lease, migration, model, offset, rebuild,
};

/// All migrations of the bookkeeping tables, in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(CreateTables),
            Box::new(AcceptedLosses),
            Box::new(PublishAndDropLetters),
            Box::new(DirtyBuckets),
            Box::new(Audit),
            Box::new(LeasesAndRebuilds),
            Box::new(Models),
        ]
    }

    /// Not sea-orm's own name: another application in this schema may use that.
    fn migration_table_name() -> DynIden {
        Alias::new("bief_schema").into_iden()
    }
}

struct CreateTables;

impl MigrationName for CreateTables {
    fn name(&self) -> &str {
        "m0001_create_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for table in [offset_table(), gap_table(), dead_letter_table(backend), migration_table()] {
            manager.create_table(for_backend(table, backend)).await?;
        }
        if backend == DbBackend::Sqlite {
            // SQLite takes no index within CREATE TABLE.
            manager.create_index(dead_letter_by_reason().table(dead_letter::Entity).if_not_exists().take()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["bief_migration", "bief_dead_letter", "bief_gap", "bief_offset"] {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        Ok(())
    }
}

/// Since then a gap tells whether an operator accepted it as a loss.
struct AcceptedLosses;

impl MigrationName for AcceptedLosses {
    fn name(&self) -> &str {
        "m0002_accepted_losses"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AcceptedLosses {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column("bief_gap", "accepted_at").await? {
            return Ok(());
        }
        let column = ColumnDef::new(gap::Column::AcceptedAt).custom("DATETIME(6)").null().take();
        manager.alter_table(Table::alter().table(gap::Entity).add_column(column).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table(gap::Entity).drop_column(gap::Column::AcceptedAt).take()).await
    }
}

struct PublishAndDropLetters;

impl MigrationName for PublishAndDropLetters {
    fn name(&self) -> &str {
        "m0003_publish_and_drop_letters"
    }
}

const UNPUBLISHED: &str = "bief_dead_letter_unpublished";

#[async_trait::async_trait]
impl MigrationTrait for PublishAndDropLetters {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use dead_letter::Column as C;
        if !manager.has_column("bief_dead_letter", "published_at").await? {
            let published = ColumnDef::new(C::PublishedAt).custom("DATETIME(6)").null().take();
            manager.alter_table(Table::alter().table(dead_letter::Entity).add_column(published).take()).await?;
        }
        if !manager.has_index("bief_dead_letter", UNPUBLISHED).await? {
            let index = Index::create().name(UNPUBLISHED).col(C::Topic).col(C::PublishedAt).col(C::Id).take();
            manager.create_index(index.clone().table(dead_letter::Entity).take()).await?;
        }
        manager.create_table(for_backend(dropped_letter_table(), manager.get_database_backend())).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("DROP TABLE IF EXISTS bief_dropped_letter").await?;
        manager.drop_index(Index::drop().name(UNPUBLISHED).table(dead_letter::Entity).to_owned()).await?;
        db.execute_unprepared("ALTER TABLE bief_dead_letter DROP COLUMN published_at").await.map(drop)
    }
}

/// Since then what is changed over HTTP is put down.
struct Audit;

impl MigrationName for Audit {
    fn name(&self) -> &str {
        "m0005_audit"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Audit {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(for_backend(audit_table(), manager.get_database_backend())).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE IF EXISTS bief_audit").await.map(drop)
    }
}

fn audit_table() -> TableCreateStatement {
    use audit::Column as C;
    Table::create()
        .table(audit::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(C::ChangedAt).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::Daemon).string_len(255).not_null())
        .col(ColumnDef::new(C::Peer).string_len(64).not_null())
        .col(ColumnDef::new(C::Action).string_len(16).not_null())
        .col(ColumnDef::new(C::Letters).custom("LONGTEXT").not_null())
        .col(ColumnDef::new(C::Request).custom("LONGTEXT").not_null())
        .col(ColumnDef::new(C::Payload).custom("LONGBLOB").null())
        .col(ColumnDef::new(C::Outcome).custom("LONGTEXT").not_null())
        .take()
}

fn dropped_letter_table() -> TableCreateStatement {
    use dropped_letter::Column as C;
    Table::create()
        .table(dropped_letter::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Topic).string_len(249).not_null())
        .col(ColumnDef::new(C::PartitionId).integer().not_null())
        .col(ColumnDef::new(C::RecordOffset).big_integer().not_null())
        .col(ColumnDef::new(C::Reason).string_len(32).not_null())
        .col(ColumnDef::new(C::DroppedAt).custom("DATETIME(6)").not_null())
        .primary_key(Index::create().col(C::Topic).col(C::PartitionId).col(C::RecordOffset))
        .take()
}

/// Since then buckets of time are marked whose rows changed.
struct DirtyBuckets;

impl MigrationName for DirtyBuckets {
    fn name(&self) -> &str {
        "m0004_dirty_buckets"
    }
}

const PENDING: &str = "bief_dirty_bucket_pending";
/// A table's name, a column's name and a width.
const SOURCE_CHARS: u32 = 160;

#[async_trait::async_trait]
impl MigrationTrait for DirtyBuckets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use dirty_bucket::Column as C;
        for table in [dirty_bucket_table(), bucket_claim_table()] {
            manager.create_table(for_backend(table, manager.get_database_backend())).await?;
        }
        if manager.has_index("bief_dirty_bucket", PENDING).await? {
            return Ok(());
        }
        // Those that wait, in the order of their waiting: the look for work reads no other.
        let index = Index::create().name(PENDING).col(C::Source).col(C::PendingSince).take();
        manager.create_index(index.clone().table(dirty_bucket::Entity).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["bief_bucket_claim", "bief_dirty_bucket"] {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        Ok(())
    }
}

fn dirty_bucket_table() -> TableCreateStatement {
    use dirty_bucket::Column as C;
    Table::create()
        .table(dirty_bucket::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Source).string_len(SOURCE_CHARS).not_null())
        .col(ColumnDef::new(C::BucketStart).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::Lane).integer().not_null())
        .col(ColumnDef::new(C::DirtyVersion).big_integer().not_null())
        .col(ColumnDef::new(C::CleanVersion).big_integer().not_null())
        .col(ColumnDef::new(C::PendingSince).custom("DATETIME(6)").null())
        .primary_key(Index::create().col(C::Source).col(C::BucketStart).col(C::Lane))
        .take()
}

fn bucket_claim_table() -> TableCreateStatement {
    use bucket_claim::Column as C;
    Table::create()
        .table(bucket_claim::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Source).string_len(SOURCE_CHARS).not_null())
        .col(ColumnDef::new(C::BucketStart).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::Owner).string_len(128).not_null())
        .col(ColumnDef::new(C::ClaimedUntil).custom("DATETIME(6)").not_null())
        .primary_key(Index::create().col(C::Source).col(C::BucketStart))
        .take()
}

/// Since then daemons and commands agree on who does what one alone may do.
struct LeasesAndRebuilds;

impl MigrationName for LeasesAndRebuilds {
    fn name(&self) -> &str {
        "m0006_leases_and_rebuilds"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for LeasesAndRebuilds {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [lease_table(), rebuild_table()] {
            manager.create_table(for_backend(table, manager.get_database_backend())).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["bief_rebuild", "bief_lease"] {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        Ok(())
    }
}

fn lease_table() -> TableCreateStatement {
    use lease::Column as C;
    Table::create()
        .table(lease::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Name).string_len(160).not_null().primary_key())
        .col(ColumnDef::new(C::Owner).string_len(192).not_null())
        .col(ColumnDef::new(C::HeldUntil).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::DoneFor).custom("DATETIME(6)").null())
        .take()
}

fn rebuild_table() -> TableCreateStatement {
    use rebuild::Column as C;
    Table::create()
        .table(rebuild::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Aggregate).string_len(128).not_null().primary_key())
        .col(ColumnDef::new(C::StartedAt).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::DoneUntil).custom("DATETIME(6)").null())
        .col(ColumnDef::new(C::Buckets).big_integer().not_null())
        .take()
}

/// Since then versions of forecasts' models are kept.
struct Models;

impl MigrationName for Models {
    fn name(&self) -> &str {
        "m0007_models"
    }
}

const PROMOTED: &str = "bief_model_promoted";

#[async_trait::async_trait]
impl MigrationTrait for Models {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use model::Column as C;
        manager.create_table(for_backend(model_table(), manager.get_database_backend())).await?;
        if manager.has_index("bief_model", PROMOTED).await? {
            return Ok(());
        }
        // The champion is the one promoted last.
        let index = Index::create().name(PROMOTED).col(C::Forecast).col(C::PromotedAt).take();
        manager.create_index(index.clone().table(model::Entity).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE IF EXISTS bief_model").await.map(drop)
    }
}

fn model_table() -> TableCreateStatement {
    use model::Column as C;
    Table::create()
        .table(model::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Forecast).string_len(128).not_null())
        .col(ColumnDef::new(C::Version).big_integer().not_null())
        .col(ColumnDef::new(C::TrainedAt).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::CodeVersion).string_len(64).not_null())
        .col(ColumnDef::new(C::InputHash).char_len(64).not_null())
        .col(ColumnDef::new(C::DataFrom).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::DataTo).custom("DATETIME(6)").not_null())
        .col(ColumnDef::new(C::PromotedAt).custom("DATETIME(6)").null())
        .col(ColumnDef::new(C::Verdict).text().not_null())
        .col(ColumnDef::new(C::Scores).custom("LONGTEXT").not_null())
        .col(ColumnDef::new(C::Model).custom("LONGTEXT").not_null())
        .primary_key(Index::create().col(C::Forecast).col(C::Version))
        .take()
}

/// Names of topics differ by case, and MariaDB's default character set is not Unicode.
fn for_backend(mut table: TableCreateStatement, backend: DbBackend) -> TableCreateStatement {
    if backend == DbBackend::MySql {
        table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
    }
    table
}

fn offset_table() -> TableCreateStatement {
    use offset::Column as C;
    Table::create()
        .table(offset::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Topic).string_len(249).not_null())
        .col(ColumnDef::new(C::PartitionId).integer().not_null())
        .col(ColumnDef::new(C::TopicId).string_len(64).not_null())
        .col(ColumnDef::new(C::Epoch).big_integer().not_null())
        .col(ColumnDef::new(C::StartOffset).big_integer().not_null())
        .col(ColumnDef::new(C::NextOffset).big_integer().not_null())
        .col(ColumnDef::new(C::Applied).big_integer().not_null())
        .col(ColumnDef::new(C::Duplicates).big_integer().not_null())
        .col(ColumnDef::new(C::DeadLetters).big_integer().not_null())
        .col(ColumnDef::new(C::Gaps).big_integer().not_null())
        .col(ColumnDef::new(C::UpdatedAt).custom("DATETIME(6)").not_null())
        .primary_key(Index::create().col(C::Topic).col(C::PartitionId))
        .take()
}

fn gap_table() -> TableCreateStatement {
    use gap::Column as C;
    Table::create()
        .table(gap::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Topic).string_len(249).not_null())
        .col(ColumnDef::new(C::PartitionId).integer().not_null())
        .col(ColumnDef::new(C::FirstOffset).big_integer().not_null())
        .col(ColumnDef::new(C::LastOffset).big_integer().not_null())
        .col(ColumnDef::new(C::Offsets).big_integer().not_null())
        .col(ColumnDef::new(C::Ranges).custom("LONGTEXT").not_null())
        .primary_key(Index::create().col(C::Topic).col(C::PartitionId).col(C::FirstOffset))
        .take()
}

fn dead_letter_table(backend: DbBackend) -> TableCreateStatement {
    use dead_letter::Column as C;
    let mut table = Table::create()
        .table(dead_letter::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(C::Topic).string_len(249).not_null())
        .col(ColumnDef::new(C::PartitionId).integer().not_null())
        .col(ColumnDef::new(C::RecordOffset).big_integer().not_null())
        .col(ColumnDef::new(C::RecordTimestamp).custom("DATETIME(6)").null())
        .col(ColumnDef::new(C::RecordKey).custom("LONGBLOB").null())
        .col(ColumnDef::new(C::Payload).custom("LONGBLOB").null())
        .col(ColumnDef::new(C::Reason).string_len(32).not_null())
        .col(ColumnDef::new(C::Field).string_len(255).null())
        .col(ColumnDef::new(C::Message).text().not_null())
        .col(ColumnDef::new(C::StoredAt).custom("DATETIME(6)").not_null())
        .index(
            Index::create()
                .unique()
                .name("bief_dead_letter_record")
                .col(C::Topic)
                .col(C::PartitionId)
                .col(C::RecordOffset),
        )
        .take();
    if backend == DbBackend::MySql {
        table.index(&mut dead_letter_by_reason());
    }
    table
}

fn dead_letter_by_reason() -> IndexCreateStatement {
    use dead_letter::Column as C;
    Index::create().name("bief_dead_letter_by_reason").col(C::Reason).col(C::StoredAt).take()
}

fn migration_table() -> TableCreateStatement {
    use migration::Column as C;
    Table::create()
        .table(migration::Entity)
        .if_not_exists()
        .col(ColumnDef::new(C::Name).string_len(255).not_null().primary_key())
        .col(ColumnDef::new(C::Sha256).char_len(64).not_null())
        .col(ColumnDef::new(C::StatementsApplied).integer().not_null())
        .col(ColumnDef::new(C::Statements).integer().not_null())
        .col(ColumnDef::new(C::AppliedAt).custom("DATETIME(6)").not_null())
        .take()
}
