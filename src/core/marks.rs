//! Which buckets of time a batch makes dirty: those of the rows that it inserts or changes. A row's time belongs to its
//! primary key, so that no update moves a row from one bucket to another. Pure; must never leave out a bucket whose rows
//! changed, since what was computed of it would stay stale for ever. One too many costs a query.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bucket::Width;
use super::cell::Cell;
use super::document::Bucket;
use super::mapping::Plan;
use super::schema::{ColumnKind, Table};
use super::target::Rows;
use super::time::MICROS_PER_DAY;

/// Rows of one table by the bucket of one of their times: what all aggregates with the same table, time and width share,
/// so that a row's bucket is marked once for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketSource {
    pub table: String,
    /// A column of the table's primary key.
    pub time: String,
    pub width: Width,
}

impl BucketSource {
    /// What it is called in `bief_dirty_bucket`: `sale.sold_at/1h`. Without regard to case, as the configuration names
    /// tables and columns.
    pub fn id(&self) -> String {
        format!("{}.{}/{}", self.table.to_ascii_lowercase(), self.time.to_ascii_lowercase(), self.width)
    }

    /// Why the table's rows have no buckets of this kind, and what to write instead.
    pub fn misfit(&self, table: &Table) -> Option<(String, String)> {
        let Some(position) = table.column(&self.time) else {
            let times = table.columns.iter().filter(|c| is_time(&c.kind)).map(|c| format!("`{}`", c.name));
            let times: Vec<String> = times.collect();
            return Some((
                format!("table `{}` has no column `{}`", table.name, self.time),
                match times.is_empty() {
                    true => "name a table with a DATETIME column in its primary key".to_owned(),
                    false => format!("its times are {}", times.join(", ")),
                },
            ));
        };
        let column = &table.columns[position];
        if !is_time(&column.kind) {
            return Some((
                format!("column `{}` of `{}` has type {}, which is no time", column.name, table.name, column.declared),
                "name a DATETIME, TIMESTAMP or DATE column".to_owned(),
            ));
        }
        if column.kind == ColumnKind::Date && !self.width.is_whole_days() {
            return Some((
                format!("column `{}` of `{}` holds dates, which have no time of the day", column.name, table.name),
                "write `bucket = \"1d\"`".to_owned(),
            ));
        }
        if !table.primary_key.contains(&position) {
            return Some((
                format!("column `{}` is not part of the primary key of `{}`", column.name, table.name),
                "name a time that is, or make it part of the key: else an update could move a row to another bucket, and \
                 the one it left would not be computed anew"
                    .to_owned(),
            ));
        }
        None
    }
}

fn is_time(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::DateTime { .. } | ColumnKind::Date)
}

/// A source whose table a stream writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marking {
    /// The source's [`BucketSource::id`].
    pub source: Arc<str>,
    /// Position among the plan's targets.
    pub target: usize,
    /// Position of the time among the target's columns.
    pub time: usize,
    pub width: Width,
}

/// The sources whose tables this plan writes, ascending by their ids; or why they can't be marked.
pub fn markings(plan: &Plan, sources: &[BucketSource]) -> Result<Vec<Marking>, Vec<(String, String)>> {
    let (mut found, mut misfits) = (Vec::new(), Vec::new());
    for source in sources {
        let written = |table: &Table| table.name.eq_ignore_ascii_case(&source.table);
        let Some(target) = plan.targets.iter().position(|t| written(&t.table)) else { continue };
        let of = &plan.targets[target];
        if let Some(misfit) = source.misfit(&of.table) {
            misfits.push(misfit);
            continue;
        }
        let column = of.table.column(&source.time);
        // A plan maps every column of the primary key.
        if let Some(time) = of.columns.iter().position(|c| Some(*c) == column) {
            found.push(Marking { source: source.id().into(), target, time, width: source.width });
        }
    }
    if !misfits.is_empty() {
        return Err(misfits);
    }
    found.sort_by(|a, b| a.source.cmp(&b.source));
    found.dedup();
    Ok(found)
}

/// The lane of marks that no writer of a stream makes, but a command.
pub const LANE_OF_COMMANDS: i32 = -1;

/// A bucket that was made dirty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The source's [`BucketSource::id`].
    pub source: Arc<str>,
    /// The bucket's start in microseconds since 1970.
    pub bucket: i64,
}

impl Mark {
    /// Marks of these buckets, in the order in which they are made.
    pub fn of_buckets(source: &BucketSource, buckets: &[Bucket]) -> Vec<Mark> {
        let id: Arc<str> = source.id().into();
        let mut starts: Vec<i64> = buckets.iter().map(|bucket| bucket.start().timestamp_micros()).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().map(|bucket| Mark { source: Arc::clone(&id), bucket }).collect()
    }
}

/// Collects the dirty buckets of one batch.
#[derive(Debug, Default)]
pub struct DirtyBuckets {
    /// Position of the marking, start of the bucket; several times where rows of one bucket do not follow each other.
    found: Vec<(u32, i64)>,
}

impl DirtyBuckets {
    /// Adds the buckets of rows that were written into the table at `target`, but for the `unchanged` (ascending).
    pub fn add(&mut self, markings: &[Marking], target: usize, rows: &Rows<'_>, unchanged: &[usize]) {
        for (index, marking) in (0..).zip(markings).filter(|(_, marking)| marking.target == target) {
            let Some(time) = rows.columns.iter().position(|c| *c == marking.time) else { continue };
            let width = marking.width.micros();
            let mut same = unchanged.iter().copied().peekable();
            // Rows come in the order of their key, in which times mostly follow each other.
            let mut last = None;
            for (at, row) in rows.iter().enumerate() {
                if same.next_if_eq(&at).is_some() {
                    continue;
                }
                let micros = match row[time] {
                    Cell::DateTime(micros) => micros,
                    Cell::Date(days) => i64::from(days) * MICROS_PER_DAY,
                    // The key's cells are never absent, and these are the kinds of a time.
                    _ => continue,
                };
                if last.is_none_or(|start| !(start..start + width).contains(&micros)) {
                    let start = marking.width.start_of(micros);
                    // What is in no bucket must not wait for ever to be computed.
                    if marking.width.bucket_of(start).is_some() {
                        self.found.push((index, start));
                    }
                    last = Some(start);
                }
            }
        }
    }

    /// Each bucket once, ascending by source and start.
    pub fn into_marks(mut self, markings: &[Marking]) -> Vec<Mark> {
        self.found.sort_unstable();
        self.found.dedup();
        let marking = |index: u32| markings.get(index as usize);
        let marks = self
            .found
            .into_iter()
            .filter_map(|(index, bucket)| Some(Mark { source: Arc::clone(&marking(index)?.source), bucket }));
        marks.collect()
    }
}

/// So many buckets at the end of time count as the newest: those that people look at.
pub const NEWEST: usize = 256;

/// Which buckets are refreshed next, ascending: of the `newest` that wait, given newest first, as many as half of `limit`,
/// so that a long backlog does not hide the present; then of those that wait longest, given in that order, so that none
/// waits for ever. Where either leaves room the other takes it. A bucket may be given many times, and in both.
pub fn next_to_refresh(newest: Vec<Bucket>, waiting: Vec<Bucket>, limit: usize) -> Vec<Bucket> {
    let mut chosen = BTreeSet::new();
    let (half, rest) = (limit.div_ceil(2), newest.clone());
    for (buckets, most) in [(newest, half), (waiting, limit), (rest, limit)] {
        for bucket in buckets {
            if chosen.len() >= most {
                break;
            }
            chosen.insert(bucket);
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::schema::Column;
    use crate::core::target::OnConflict;
    use crate::core::testing::{bigint, column, mapping, required, table};

    fn time() -> ColumnKind {
        ColumnKind::DateTime { fraction: 6, timestamp: false }
    }

    fn sales(key: Vec<usize>, more: Vec<Column>) -> Arc<Table> {
        let mut columns = vec![required("shop", bigint()), required("sold_at", time()), column("paid_at", time())];
        columns.extend(more);
        let sales = table("Sale", columns, &[]);
        Arc::new(Table { primary_key: key, ..(*sales).clone() })
    }

    fn plan() -> Plan {
        let columns = [("sold_at", "at"), ("shop", "shop"), ("paid_at", "paid")];
        let mappings = [mapping("sale", OnConflict::Update, &columns)];
        Plan::new("sales", &mappings, &[sales(vec![0, 1], Vec::new())]).unwrap()
    }

    fn source(time: &str, width: &str) -> BucketSource {
        BucketSource { table: "SALE".into(), time: time.into(), width: width.parse().unwrap() }
    }

    #[test]
    fn a_source_is_named_without_regard_to_case_and_spelling() {
        assert_eq!(source("Sold_At", "60m").id(), "sale.sold_at/1h");
    }

    #[test]
    fn sources_of_other_tables_are_left_out_and_the_same_source_is_marked_once() {
        let mut sources = vec![source("sold_at", "1h"), source("sold_at", "60m"), source("sold_at", "1d")];
        sources.push(BucketSource { table: "visit".into(), ..sources[0].clone() });
        let found = markings(&plan(), &sources).unwrap();
        let shown: Vec<_> = found.iter().map(|m| (&*m.source, m.target, m.time)).collect();
        assert_eq!(shown, [("sale.sold_at/1d", 0, 0), ("sale.sold_at/1h", 0, 0)]);
    }

    #[test]
    fn a_time_that_can_move_or_is_none_is_told() {
        let day = || required("day", ColumnKind::Date);
        for (source, told) in [
            (source("sold", "1h"), "its times are `sold_at`, `paid_at`, `day`"),
            (source("shop", "1h"), "name a DATETIME"),
            (source("paid_at", "1h"), "could move a row"),
            (source("day", "1h"), "write `bucket = \"1d\"`"),
        ] {
            let (problem, help) = source.misfit(&sales(vec![0, 1, 3], vec![day()])).unwrap();
            assert!(help.contains(told), "{problem}: {help}");
        }
        assert_eq!(source("day", "1d").misfit(&sales(vec![0, 1, 3], vec![day()])), None);
        assert_eq!(markings(&plan(), &[source("paid_at", "1h"), source("sold_at", "1h")]).unwrap_err().len(), 1);
    }

    const HOUR: i64 = 3_600_000_000;

    fn marked(times: &[i64], unchanged: &[usize]) -> Vec<(String, i64)> {
        let plan = plan();
        let found = markings(&plan, &[source("sold_at", "1d"), source("sold_at", "1h")]).unwrap();
        let columns = [0, 1];
        let cells: Vec<Cell> = times.iter().flat_map(|t| [Cell::DateTime(*t), Cell::Int(1)]).collect();
        let rows = Rows { target: &plan.targets[0], columns: &columns, cells: &cells, arena: b"" };
        let mut dirty = DirtyBuckets::default();
        dirty.add(&found, 0, &rows, unchanged);
        dirty.add(&found, 7, &rows, &[]);
        dirty.into_marks(&found).into_iter().map(|m| (m.source.to_string(), m.bucket)).collect()
    }

    #[test]
    fn each_bucket_of_a_changed_row_is_marked_once_and_in_order() {
        let of = |width: &str, bucket: i64| (format!("sale.sold_at/{width}"), bucket);
        let times = [HOUR, HOUR + 1, -1, 2 * HOUR - 1, 5 * HOUR, HOUR];
        let expected = [of("1d", -24 * HOUR), of("1d", 0), of("1h", -HOUR), of("1h", HOUR)];
        assert_eq!(marked(&times, &[4]), expected);
        assert_eq!(marked(&times, &[0, 1, 2, 3, 4, 5]), []);
        assert_eq!(marked(&[], &[]), []);
        let never = crate::core::time::DATETIME_MAX;
        assert_eq!(
            marked(&[never], &[]),
            [of("1d", Width::DAY.start_of(never)), of("1h", Width::HOUR.start_of(never))]
        );
    }

    proptest! {
        #[test]
        fn exactly_the_buckets_of_the_changed_rows_are_marked(
            rows in prop::collection::vec((-40 * HOUR..40 * HOUR, prop::bool::ANY), 0..40),
        ) {
            let times: Vec<i64> = rows.iter().map(|(time, _)| *time).collect();
            let unchanged: Vec<usize> = (0..rows.len()).filter(|at| !rows[*at].1).collect();
            let changed = || rows.iter().filter(|(_, changed)| *changed).map(|(time, _)| *time);
            let mut expected = BTreeSet::new();
            for (text, width) in [("1d", Width::DAY), ("1h", Width::HOUR)] {
                expected.extend(changed().map(|t| (format!("sale.sold_at/{text}"), width.start_of(t))));
            }
            prop_assert_eq!(marked(&times, &unchanged), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_newest_have_half_and_those_that_wait_longest_the_rest() {
        let hours = |all: &[i64]| -> Vec<Bucket> {
            let width: Width = "1h".parse().unwrap();
            all.iter().map(|hour| width.bucket_of(hour * 3_600_000_000).unwrap()).collect()
        };
        let next = |newest: &[i64], waiting: &[i64]| next_to_refresh(hours(newest), hours(waiting), 4);
        assert_eq!(next(&[90, 89, 88, 87], &[1, 2, 3, 4]), hours(&[1, 2, 89, 90]));
        // Two lanes have marked each.
        assert_eq!(next(&[90, 90, 89, 89, 88], &[1, 1, 2, 2, 3]), hours(&[1, 2, 89, 90]));
        assert_eq!(next(&[90], &[1, 2, 3, 4]), hours(&[1, 2, 3, 90]));
        assert_eq!(next(&[90, 89, 88, 87, 86], &[86, 87, 88, 89]), hours(&[86, 87, 89, 90]));
        assert_eq!(next(&[90, 89, 88, 87], &[1]), hours(&[1, 88, 89, 90]));
        assert_eq!(next(&[], &[7]), hours(&[7]));
        assert_eq!(next(&[], &[]), []);
    }
}
