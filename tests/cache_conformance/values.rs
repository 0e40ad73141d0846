//! What goes in comes out: values, keys, names, sizes.

use bief::ports::CacheError;
use bief::ports::cache::Fields;

use super::*;

fn named(fields: Vec<(&str, Value)>) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub async fn a_document_reads_back_as_it_was_put_in(open: OpenCache) {
    let mut cache = open().await.unwrap();
    cache.prepare(&[aggregate("mixed", &["shop", "aisle"], None)]).await.unwrap();
    let entry = Entry {
        key: named(vec![("shop", "north".into()), ("aisle", 3.into())]),
        // Not in the order of the alphabet.
        values: named(vec![("orders", 12.into()), ("mean", 2.5.into()), ("best", "x".into()), ("none", Value::Null)]),
    };
    let computed_at = at(77) + chrono::Duration::microseconds(123_456);
    let offsets = BTreeMap::from([
        ("orders".to_owned(), BTreeMap::from([(0, 17), (1, 0), (11, i64::MAX)])),
        ("returns".to_owned(), BTreeMap::new()),
    ]);
    let put = Replacement {
        version: i64::MAX,
        computed_at,
        offsets: offsets.clone(),
        ..replacement("mixed", hour(3), 1, vec![entry.clone()])
    };
    cache.replace(&put).await.unwrap();
    let expected = Document {
        aggregate: "mixed".to_owned(),
        key: entry.key,
        bucket: hour(3),
        values: entry.values,
        version: i64::MAX,
        computed_at: at(77) + chrono::Duration::milliseconds(123),
        offsets,
    };
    assert_eq!(cache.bucket("mixed", hour(3).start()).await.unwrap(), std::slice::from_ref(&expected));
    assert_eq!(cache.read(&query("mixed", 1)).await.unwrap(), Page { documents: vec![expected], next: None });
}

pub async fn numbers_read_back_to_the_last_bit(open: OpenCache) {
    let mut cache = open().await.unwrap();
    cache.prepare(&[aggregate("numbers", &["n"], None)]).await.unwrap();
    let floats = [
        0.0,
        -0.0,
        1.0,
        0.1,
        1.0 / 3.0,
        -2.5e-308,
        5e-324,
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        9_007_199_254_740_992.0,
        0.1 + 0.2,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let whole = [0, 1, -1, i64::MAX, i64::MIN, 9_007_199_254_740_993, i64::from(i32::MAX) + 1];
    let values: Vec<Value> = floats.map(Value::Float).into_iter().chain(whole.map(Value::Integer)).collect();
    let entry = |(n, value): (usize, &Value)| Entry {
        key: named(vec![("n", i64::try_from(n).unwrap().into())]),
        values: named(vec![("value", value.clone())]),
    };
    let entries: Vec<Entry> = values.iter().enumerate().map(entry).collect();
    cache.replace(&replacement("numbers", hour(0), 1, entries.clone())).await.unwrap();
    let mut found = cache.bucket("numbers", hour(0).start()).await.unwrap();
    let number = |d: &Document| if let Value::Integer(n) = d.key[0].1 { n } else { panic!("{d:?}") };
    found.sort_by_key(number);
    assert_eq!(found.len(), values.len());
    for (document, put) in found.iter().zip(&values) {
        match (&document.values[0].1, put) {
            (Value::Float(read), Value::Float(put)) if !put.is_nan() => {
                assert_eq!(read.to_bits(), put.to_bits(), "{put}");
            }
            (read, put) => assert_eq!(read, put),
        }
    }
}

pub async fn keys_of_any_text_are_told_apart_and_found(open: OpenCache) {
    let mut cache = ready(&open).await;
    let long = "ü".repeat(400);
    let texts = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "a|b",
        "a\\pb",
        "a\\|b",
        "|",
        "||",
        "\\",
        "\\\\",
        "\\N",
        "null",
        "a.b",
        ".",
        "..",
        "$",
        "$set",
        "$where: 1",
        "{\"$gt\": \"\"}",
        "ü",
        "u\u{308}",
        "日本語",
        "😀",
        "'",
        "''",
        "\"",
        "'; DROP TABLE bief_document; --",
        "%",
        "%2E",
        "\n",
        "\t\r",
        "}",
        "~",
        "1",
        "1.0",
        "true",
        "\u{7f}",
        "\u{feff}",
        "\u{200d}",
        &long,
    ];
    let shops: Vec<(&str, i64)> = texts.iter().enumerate().map(|(n, &text)| (text, n as i64)).collect();
    assert_eq!(cache.replace(&sums(hour(0), 1, &shops)).await, Ok(written(texts.len() as u64, 0)));
    let found = super::shops(&mut cache, hour(0)).await;
    assert_eq!(found.len(), texts.len());
    for (text, n) in shops {
        assert!(found.contains(&(text.to_owned(), n, 1)), "{text:?}");
        let by_key = CacheQuery { key: named(vec![("shop", text.into())]), ..query("sums", 10) };
        let read: Vec<_> = cache.read(&by_key).await.unwrap().documents.iter().map(shop).collect();
        assert_eq!(read, [(text.to_owned(), n, 1)], "{text:?}");
    }
    let (read, _) = pages(&mut cache, query("sums", 7)).await;
    assert_eq!(read.iter().map(shop).collect::<Vec<_>>(), found);

    // No text is null.
    let none = Entry { key: named(vec![("shop", Value::Null)]), values: named(vec![("orders", 1.into())]) };
    cache.replace(&replacement("sums", hour(1), 1, vec![none.clone()])).await.unwrap();
    let by_null = CacheQuery { key: none.key.clone(), ..query("sums", 10) };
    let read = cache.read(&by_null).await.unwrap().documents;
    assert_eq!(read.iter().map(|d| (d.bucket, &d.key)).collect::<Vec<_>>(), [(hour(1), &none.key)]);
}

pub async fn columns_and_topics_of_any_name_read_back(open: OpenCache) {
    let names = ["a.b", ".", "$a", "a$", "%2E", "\"", "'", "\\", "ü 😀", "key", "_id", "version", "a|b", "a'b\"c"];
    let mut cache = open().await.unwrap();
    cache.prepare(&[aggregate("named", &names, None)]).await.unwrap();
    let fields: Fields = names.iter().enumerate().map(|(n, name)| ((*name).to_owned(), (n as i64).into())).collect();
    let entry = Entry { key: fields.clone(), values: fields.clone() };
    let offsets: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), BTreeMap::from([(3, 4)]))).collect();
    let put = Replacement { offsets: offsets.clone(), ..replacement("named", hour(0), 1, vec![entry]) };
    cache.replace(&put).await.unwrap();
    for field in &fields {
        let by_one = CacheQuery { key: vec![field.clone()], ..query("named", 10) };
        let found = cache.read(&by_one).await.unwrap().documents;
        assert_eq!(found.len(), 1, "{field:?}");
        assert_eq!((&found[0].key, &found[0].values, &found[0].offsets), (&fields, &fields, &offsets));
        let by_another = CacheQuery { key: vec![(field.0.clone(), 99.into())], ..query("named", 10) };
        assert_eq!(cache.read(&by_another).await.unwrap().documents, [], "{field:?}");
    }
}

pub async fn a_key_that_is_given_twice_is_refused_and_nothing_is_written(open: OpenCache) {
    let mut cache = ready(&open).await;
    cache.replace(&sums(hour(0), 1, &[("a", 1)])).await.unwrap();
    let refused = cache.replace(&sums(hour(0), 2, &[("a", 2), ("b", 2), ("a", 3)])).await;
    assert!(matches!(&refused, Err(CacheError::Fatal { what }) if what.contains("twice")), "{refused:?}");
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 1, 1)]);
}

pub async fn a_bucket_of_thousands_is_replaced_as_a_whole(open: OpenCache) {
    const MANY: i64 = 3500;
    let mut cache = open().await.unwrap();
    cache.prepare(&[aggregate("large", &["n"], None)]).await.unwrap();
    // More than one command holds, in number and in bytes.
    let filling = "x".repeat(2000);
    let entry = |n: i64, version: i64| Entry {
        key: named(vec![("n", n.into())]),
        values: named(vec![("filling", filling.as_str().into()), ("version", version.into())]),
    };
    let all = (0..MANY).map(|n| entry(n, 1)).collect();
    assert_eq!(cache.replace(&replacement("large", hour(0), 1, all)).await, Ok(written(MANY as u64, 0)));
    let every_third = (0..MANY).filter(|n| n % 3 == 0).map(|n| entry(n, 2)).collect::<Vec<_>>();
    let kept = every_third.len() as u64;
    let replaced = cache.replace(&replacement("large", hour(0), 2, every_third)).await;
    assert_eq!(replaced, Ok(written(kept, MANY as u64 - kept)));
    let found = cache.bucket("large", hour(0).start()).await.unwrap();
    assert_eq!(found.len() as u64, kept);
    assert!(found.iter().all(|d| d.values[1].1 == 2.into()));
    let (read, lengths) = pages(&mut cache, query("large", 500)).await;
    assert_eq!((read, lengths.len()), (found, kept.div_ceil(500) as usize));
}
