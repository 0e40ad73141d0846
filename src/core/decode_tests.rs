//! Records to rows: what is kept, what is refused, and that the order of fields changes nothing.

use proptest::prelude::*;

use super::*;
use crate::core::mapping::{EpochUnit, Mapping, Source};
use crate::core::schema::{Column, ColumnKind};
use crate::core::target::OnConflict::Update;
use crate::core::testing::{bigint, column, decode, envelope, mapping, required, shop, table, varchar};

/// Targets of [`shop`], parents first.
const CUSTOMERS: usize = 0;
const ORDERS: usize = 1;

fn decode_fresh(plan: &Plan, payloads: &[&str]) -> crate::core::testing::Decoded {
    decode(plan, &mut FieldOrder::default(), payloads)
}

/// The only rejection.
fn rejection(plan: &Plan, payload: impl AsRef<[u8]>) -> Rejection {
    let decoded = decode(plan, &mut FieldOrder::default(), &[payload]);
    assert!(decoded.tables.iter().all(|t| t.cells.is_empty() && t.records.is_empty()), "a rejected record leaves rows");
    decoded.rejected.into_iter().next().expect("the record is rejected").1
}

#[test]
fn a_record_becomes_a_row_of_each_table() {
    let plan = shop(Update);
    let decoded =
        decode_fresh(&plan, &[r#" { "id" : 7, "customer":"ab", "quantity": 2, "name":"Ann", "city":null } "#]);
    assert_eq!(decoded.rejected, []);
    assert_eq!(decoded.shown(&plan, ORDERS), [["7", "\"ab\"", "2"]]);
    assert_eq!(decoded.shown(&plan, CUSTOMERS), [["\"Ann\"", "\"ab\"", "null"]]);
}

#[test]
fn text_stays_where_it_was_and_only_escaped_text_is_copied() {
    let plan = shop(Update);
    let payload = r#"{"id":1,"quantity":1,"customer":"ab","name":"A\u006e\tn"}"#;
    let other = &payload.replace("ab", "cd");
    let decoded = decode_fresh(&plan, &[payload, other]);
    let row = &decoded.tables[CUSTOMERS].cells[3..6];
    let (Cell::Text(name), Cell::Text(code)) = (row[0], row[1]) else { panic!("{row:?}") };
    assert_eq!(code.start as usize, payload.len() + payload.find("ab").unwrap());
    assert!(name.start as usize >= 2 * payload.len());
    assert_eq!(name.of(&decoded.arena), b"An\tn");
    assert_eq!(decoded.arena.len(), 2 * payload.len() + 2 * "An\tn".len());
}

#[test]
fn a_parent_that_records_repeat_is_decoded_once() {
    let plan = shop(Update);
    let payload = |id: u32, name: &str| format!(r#"{{"id":{id},"quantity":1,"customer":"ab","name":"{name}"}}"#);
    let payloads = [payload(1, "A\\n"), payload(2, "A\\n"), payload(3, "B\\n"), payload(4, "A\\n")];
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let decoded = decode_fresh(&plan, &payloads);
    let names: Vec<Vec<String>> = decoded.shown(&plan, CUSTOMERS).into_iter().map(|row| row[..1].to_vec()).collect();
    assert_eq!(names, [["\"A\\n\""], ["\"A\\n\""], ["\"B\\n\""], ["\"A\\n\""]]);
    assert_eq!(decoded.tables[CUSTOMERS].records, [0, 1, 2, 3]);
    let cells = &decoded.tables[CUSTOMERS].cells;
    assert_eq!(cells[0], cells[3], "the same copy of the text");
    assert_ne!(cells[0], cells[9], "the place was taken by another row meanwhile");
}

#[test]
fn the_last_of_a_repeated_field_counts() {
    let plan = shop(Update);
    let decoded = decode_fresh(&plan, &[r#"{"id":1,"quantity":1,"id":2,"quantity":null,"quantity":3}"#]);
    assert_eq!(decoded.shown(&plan, ORDERS), [["2", "-", "3"]]);
    assert_eq!(rejection(&plan, r#"{"id":1,"quantity":1,"quantity":"x"}"#).reason, Reason::WrongType);
}

#[test]
fn unknown_fields_are_counted_and_their_names_are_bounded() {
    let plan = shop(Update);
    let mut order = FieldOrder::default();
    let base = r#"{"id":1,"quantity":1,"#;
    let long = "x".repeat(500);
    let mut payloads = vec![
        format!(r#"{base}"colour":1}}"#),
        format!(r#"{base}"colour":{{"id":9}},"size":[1]}}"#),
        format!(r#"{base}"{long}":1}}"#),
        format!(r#"{base}"c\u006flour":1}}"#),
    ];
    assert_eq!(decode(&plan, &mut order, &payloads).rejected, []);
    let unknown = |order: &mut FieldOrder| order.take_unknown().collect::<HashMap<_, _>>();
    let told = unknown(&mut order);
    assert_eq!((told["colour"], told["size"], told.len()), (3, 1, 3));
    assert!(told.keys().all(|name| name.len() < 120));
    assert!(unknown(&mut order).is_empty(), "each is told once");
    payloads = (0..2000).map(|i| format!(r#"{base}"field{i}":1}}"#)).collect();
    assert_eq!(decode(&plan, &mut order, &payloads).rejected, []);
    let told = unknown(&mut order);
    assert!(told.len() <= UNKNOWN_KEPT + 1);
    assert_eq!(told.values().sum::<u64>(), 2000);
    let wide = (0..2000).map(|i| format!(r#""field{i}":1"#)).collect::<Vec<_>>().join(",");
    assert_eq!(decode(&plan, &mut order, &[format!("{base}{wide}}}")]).rejected, []);
    assert!(order.expected.len() <= UNKNOWN_KEPT);
}

#[test]
fn long_names_take_no_place_among_those_expected() {
    let plan = shop(Update);
    let mut order = FieldOrder::default();
    let long = |i: usize| format!("{i}{}", "x".repeat(100_000));
    let payloads: Vec<String> =
        (0..100).map(|i| format!(r#"{{"id":1,"{}":1,"quantity":1,"{}":[]}}"#, long(i), long(i + 100))).collect();
    assert_eq!(decode(&plan, &mut order, &payloads).rejected, []);
    assert!(order.expected.iter().all(|expected| expected.name.len() <= NAME_EXPECTED));
    assert_eq!(order.take_unknown().map(|(_, count)| count).sum::<u64>(), 200);
}

#[test]
fn whatever_fields_a_record_lacks_and_in_whatever_order_they_come_each_is_found() {
    let plan = shop(Update);
    let fields = [r#""id":1"#, r#""quantity":2"#, r#""customer":"A""#, r#""name":"n""#, r#""colour":3"#, r#""size":4"#];
    let mut payloads = vec![format!("{{{}}}", fields.join(","))];
    // Each without some of them, and turned.
    for without in 0..1_u32 << fields.len() {
        let kept = (0..fields.len()).filter(|at| *at < 2 || without >> at & 1 == 0).map(|at| fields[at]);
        let mut kept: Vec<&str> = kept.collect();
        let turns = without as usize % kept.len();
        kept.rotate_left(turns);
        payloads.push(format!("{{{}}}", kept.join(",")));
    }
    let mut order = FieldOrder::default();
    let together = decode(&plan, &mut order, &payloads);
    assert_eq!(together.rejected, []);
    let apart: Vec<Vec<String>> =
        payloads.iter().flat_map(|payload| decode_fresh(&plan, &[payload.as_str()]).shown(&plan, ORDERS)).collect();
    assert_eq!(together.shown(&plan, ORDERS), apart);
    let of = |field: &str| payloads.iter().filter(|payload| payload.contains(field)).count() as u64;
    let told = order.take_unknown().collect::<HashMap<_, _>>();
    assert_eq!((told["colour"], told["size"]), (of("colour"), of("size")));
}

#[test]
fn an_optional_table_gets_no_row_without_its_key() {
    let plan = shop(Update);
    let decoded = decode_fresh(
        &plan,
        &[
            r#"{"id":1,"quantity":1,"customer":null,"name":"Ann"}"#,
            r#"{"id":2,"quantity":1,"name":"Ann"}"#,
            r#"{"id":3,"quantity":1,"customer":null,"name":"far too long a name"}"#,
        ],
    );
    assert_eq!(decoded.rejected, []);
    assert_eq!(decoded.tables[CUSTOMERS].records, [] as [u32; 0]);
    assert_eq!(decoded.shown(&plan, ORDERS), [["1", "null", "1"], ["2", "-", "1"], ["3", "null", "1"]]);
}

#[test]
fn an_optional_table_without_its_key_needs_no_other_value() {
    let tables = [table("sensors", vec![required("id", bigint()), required("label", varchar(3))], &[])];
    for columns in [[("label", "label"), ("id", "id")], [("id", "id"), ("label", "label")]] {
        let optional = Mapping { optional: true, ..mapping("sensors", Update, &columns) };
        let plan = Plan::new("t", &[optional], &tables).unwrap();
        let decoded = decode_fresh(&plan, &["{}", r#"{"id":null,"label":null}"#, r#"{"label":"far too long"}"#]);
        assert_eq!(decoded.rejected, [], "{columns:?}");
        assert!(decoded.tables[0].cells.is_empty());
        assert_eq!(rejection(&plan, r#"{"id":1}"#).reason, Reason::MissingField);
    }
}

#[test]
fn missing_and_null_are_told_apart() {
    let columns = vec![
        required("id", bigint()),
        column("free", bigint()),
        Column { has_default: true, ..required("state", bigint()) },
        required("label", varchar(3)),
    ];
    let names = [("id", "id"), ("free", "free"), ("state", "state"), ("label", "label")];
    let plan = Plan::new("t", &[mapping("sensors", Update, &names)], &[table("sensors", columns, &[])]).unwrap();
    let decoded = decode_fresh(&plan, &[r#"{"id":1,"label":"a"}"#, r#"{"id":2,"label":"a","free":null,"state":0}"#]);
    assert_eq!(decoded.shown(&plan, 0), [["1", "-", "-", "\"a\""], ["2", "null", "0", "\"a\""]]);
    for (payload, reason, field) in [
        (r#"{"label":"a"}"#, Reason::MissingField, "id"),
        (r#"{"id":null,"label":"a"}"#, Reason::NullNotAllowed, "id"),
        (r#"{"id":1}"#, Reason::MissingField, "label"),
        (r#"{"id":1,"label":null}"#, Reason::NullNotAllowed, "label"),
        (r#"{"id":1,"label":"a","state":null}"#, Reason::NullNotAllowed, "state"),
    ] {
        let found = rejection(&plan, payload);
        assert_eq!((found.reason, found.field.as_deref()), (reason, Some(field)), "{payload}");
        assert!(found.message.contains(&format!("sensors.{field}")), "{}", found.message);
    }
}

#[test]
fn a_rejection_names_field_value_and_column() {
    let found = rejection(&shop(Update), r#"{"id":1,"quantity":"many"}"#);
    assert_eq!((found.reason, found.field.as_deref()), (Reason::WrongType, Some("quantity")));
    assert!(found.message.starts_with("\"many\": a text does not fit"), "{}", found.message);
    assert!(found.message.contains("orders.quantity"), "{}", found.message);
}

#[test]
fn a_rejected_record_leaves_no_row_in_any_table() {
    let plan = shop(Update);
    let good = |id: u32| format!(r#"{{"id":{id},"quantity":1,"customer":"c{id}","name":"n"}}"#);
    let payloads = [
        good(1),
        r#"{"id":9,"quantity":1,"customer":"c9","name":"far too long a name"}"#.to_owned(),
        good(2),
        r#"{"id":9,"quantity":"x","customer":"c9"}"#.to_owned(),
        good(3),
    ];
    let decoded = decode(&plan, &mut FieldOrder::default(), &payloads);
    assert_eq!(
        decoded.rejected.iter().map(|(at, r)| (*at, r.reason)).collect::<Vec<_>>(),
        [(1, Reason::TooLong), (3, Reason::WrongType)]
    );
    for target in [CUSTOMERS, ORDERS] {
        assert_eq!(decoded.tables[target].records, [0, 2, 4]);
        assert_eq!(decoded.tables[target].cells.len(), 9);
    }
    assert!(decoded.shown(&plan, ORDERS).iter().all(|row| row[0] != "9"));
}

#[test]
fn a_record_that_feeds_a_table_twice_goes_whole_or_not_at_all() {
    let tables = [table("customers", vec![required("code", varchar(3)), column("name", varchar(3))], &[])];
    let twice = [("buyer", "n1"), ("payer", "n2")]
        .map(|(code, name)| mapping("customers", Update, &[("code", code), ("name", name)]));
    let plan = Plan::new("t", &twice, &tables).unwrap();
    let decoded = decode_fresh(
        &plan,
        &[
            r#"{"buyer":"a","payer":"b"}"#,
            r#"{"buyer":"c","payer":"d","n2":"long"}"#,
            r#"{"buyer":"e","payer":"e","n1":"x"}"#,
        ],
    );
    assert_eq!(decoded.tables[0].records, [0, 0, 2, 2]);
    assert_eq!(decoded.shown(&plan, 0), [["\"a\"", "-"], ["\"b\"", "-"], ["\"e\"", "\"x\""], ["\"e\"", "-"]]);
}

#[test]
fn what_is_no_json_object_is_refused_by_what_it_is() {
    let plan = shop(Update);
    for (payload, reason) in [
        ("", Reason::InvalidJson),
        ("{", Reason::InvalidJson),
        ("{\"id\":}", Reason::InvalidJson),
        ("{\"id\":1,}", Reason::InvalidJson),
        ("{} {}", Reason::InvalidJson),
        ("[1", Reason::InvalidJson),
        ("nul", Reason::InvalidJson),
        ("null", Reason::NotAnObject),
        ("[{}]", Reason::NotAnObject),
        ("7", Reason::NotAnObject),
        ("\"{}\"", Reason::NotAnObject),
        ("true", Reason::NotAnObject),
    ] {
        assert_eq!(rejection(&plan, payload).reason, reason, "{payload}");
    }
    let found = rejection(&plan, b"{\"id\":\"\xff\"}");
    assert_eq!(found.reason, Reason::InvalidUtf8);
    assert!(found.message.starts_with("byte 7 "), "{}", found.message);
}

#[test]
fn a_tombstone_and_a_record_that_is_too_large_are_refused() {
    let plan = shop(Update);
    let mut order = FieldOrder::default();
    let mut tables = vec![TableRows::default(); 2];
    let mut decoder = RecordDecoder::new(&plan, &mut order, b"");
    assert_eq!(decoder.decode(&envelope(), &mut tables).unwrap_err().reason, Reason::Tombstone);
    let large = Envelope { oversize: Oversize::of(None, Some(b"abc"), 2), ..envelope() };
    let found = decoder.decode(&large, &mut tables).unwrap_err();
    assert_eq!(found.reason, Reason::RecordTooLarge);
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(found.message.contains("3 bytes") && found.message.contains(hash), "{}", found.message);
    let large = Envelope { oversize: Oversize::of(Some(b"key"), Some(b"abc"), 5), ..envelope() };
    let found = decoder.decode(&large, &mut tables).unwrap_err().message;
    assert!(found.contains("the key has 3 bytes and the payload 3, together") && found.contains(hash), "{found}");
    assert_eq!(Oversize::of(Some(b"key"), Some(b"abc"), 6), None);
    assert_eq!(Oversize::of(None, None, 0), None);
    assert!(tables.iter().all(|t| t.cells.is_empty()));
}

#[test]
fn what_stands_beside_the_payload_is_mapped_too() {
    let columns = vec![
        required("offset", bigint()),
        column("partition", bigint()),
        column("topic", varchar(9)),
        column("key", varchar(3)),
        column("at", ColumnKind::DateTime { fraction: 3, timestamp: false }),
        column("made", ColumnKind::DateTime { fraction: 3, timestamp: false }),
    ];
    let mut all = mapping("log", Update, &[]);
    let made = Source::Epoch { field: "ts".into(), unit: EpochUnit::Millis };
    let sources = [Source::Offset, Source::Partition, Source::Topic, Source::Key, Source::Timestamp, made];
    all.columns = columns.iter().map(|c| c.name.clone()).zip(sources).collect();
    let plan = Plan::new("readings", &[all], &[table("log", columns, &[])]).unwrap();
    let arena = br#"{"ts":5}abcd"#;
    let mut order = FieldOrder::default();
    let mut tables = vec![TableRows::default()];
    let mut decoder = RecordDecoder::new(&plan, &mut order, arena);
    let record = Envelope {
        partition: 3,
        offset: 9,
        timestamp: 12,
        key: Some(&arena[8..11]),
        payload: Some(&arena[..8]),
        ..envelope()
    };
    decoder.decode(&record, &mut tables).unwrap();
    decoder.decode(&Envelope { index: 1, timestamp: -1, key: None, ..record }, &mut tables).unwrap();
    let long = decoder.decode(&Envelope { index: 2, key: Some(&arena[8..12]), ..record }, &mut tables).unwrap_err();
    assert_eq!((long.reason, long.field.as_deref()), (Reason::TooLong, Some("@key")));
    let foreign = decoder.decode(&Envelope { index: 3, key: Some(b"\xff"), ..record }, &mut tables).unwrap_err();
    assert_eq!(foreign.reason, Reason::InvalidUtf8);
    let late = decoder.decode(&Envelope { index: 4, timestamp: i64::MAX, ..record }, &mut tables).unwrap_err();
    assert_eq!((late.reason, late.field.as_deref()), (Reason::OutOfRange, Some("@timestamp")));
    let mut bytes = arena.to_vec();
    bytes.extend(decoder.into_extra());
    let rows = crate::core::testing::show_all(&tables[0].cells, &bytes);
    assert_eq!(rows[..6], ["9", "3", "\"readings\"", "\"abc\"", "at 12000", "at 5000"]);
    assert_eq!(rows[6..], ["9", "3", "\"readings\"", "null", "null", "at 5000"]);
}

/// Fields of an order, each with its value, in any order and any of them absent; some that nothing reads among them.
fn fields() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let all = (0..3i64, "[a-c\\\\\"]{1,2}", 0..3i64, "[a-z\n]{0,3}", any::<bool>()).prop_map(
        |(id, customer, quantity, name, odd)| {
            let text = |t: &str| serde_json::to_string(t).unwrap();
            let city = if odd { "null".to_owned() } else { "4".to_owned() };
            vec![
                ("id", id.to_string()),
                ("customer", text(&customer)),
                ("quantity", quantity.to_string()),
                ("name", text(&name)),
                ("city", city),
                ("colour", "[1,{\"id\":5}]".to_owned()),
                ("size", "\"id\"".to_owned()),
            ]
        },
    );
    all.prop_shuffle().prop_flat_map(|fields| {
        let count = fields.len();
        prop::sample::subsequence(fields, 0..=count)
    })
}

fn payload(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

proptest! {
    #[test]
    fn the_order_of_fields_changes_no_cell(records in prop::collection::vec(fields(), 1..12)) {
        let plan = shop(Update);
        let sorted: Vec<String> = records.iter().map(|fields| {
            let mut fields = fields.clone();
            fields.sort();
            payload(&fields)
        }).collect();
        let shuffled: Vec<String> = records.iter().map(|fields| payload(fields)).collect();
        let together = decode(&plan, &mut FieldOrder::default(), &shuffled);
        let mut expected = [Vec::new(), Vec::new()];
        let mut rejected = Vec::new();
        for (index, record) in sorted.iter().enumerate() {
            let alone = decode(&plan, &mut FieldOrder::default(), &[record]);
            rejected.extend(alone.rejected.iter().map(|(_, r)| (index as u32, r.clone())));
            for (target, rows) in expected.iter_mut().enumerate() {
                rows.extend(alone.shown(&plan, target));
            }
        }
        prop_assert_eq!(together.shown(&plan, 0), expected[0].clone());
        prop_assert_eq!(together.shown(&plan, 1), expected[1].clone());
        prop_assert_eq!(together.rejected, rejected);
    }

    #[test]
    fn any_bytes_are_answered(payload in prop::collection::vec(any::<u8>(), 0..40)) {
        let decoded = decode(&shop(Update), &mut FieldOrder::default(), &[payload]);
        prop_assert_eq!(decoded.rejected.len(), 1);
    }
}
