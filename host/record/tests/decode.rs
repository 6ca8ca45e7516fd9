//! Contracts, flattening, ordinals and bad data, through the decoder: every record is accounted for.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray,
    cast::AsArray,
    types::{Float64Type, Int64Type, TimestampMicrosecondType},
};
use arrow_ipc::writer::StreamWriter;
use thimble_record::{
    Contract, DataType, ErrorKind, Field, Nesting, StreamSchema,
    decode::{
        ChildRows, DecodeOptions, Decoded, Decoder, MAX_BATCH_CELLS, MAX_CHILD_ROWS, MAX_COLUMNS, MAX_FLATTEN_DEPTH,
        MAX_RECORD_BYTES, MAX_SUBTABLES, row_json,
    },
};

fn schema(fields: &[(&str, DataType)]) -> StreamSchema {
    StreamSchema::new(fields.iter().map(|(n, t)| Field { name: (*n).into(), data_type: *t, nullable: true }).collect())
}

fn decoder(fields: &[(&str, DataType)], options: DecodeOptions) -> Decoder {
    Decoder::new("s", schema(fields), options)
}

fn contract(contract: Contract) -> DecodeOptions {
    DecodeOptions { contract, ..DecodeOptions::default() }
}

fn flatten() -> DecodeOptions {
    DecodeOptions { nesting: Nesting::Flatten, ..DecodeOptions::default() }
}

fn names(decoder: &Decoder) -> Vec<&str> {
    decoder.schema().fields.iter().map(|field| field.name.as_str()).collect()
}

/// The rows as JSON lines.
fn rows(batch: &RecordBatch) -> Vec<String> {
    (0..batch.num_rows()).map(|row| row_json(batch, row)).collect()
}

fn all_rows(decoded: &Decoded) -> Vec<String> {
    decoded.batches.iter().flat_map(rows).collect()
}

/// Checks the law, for the stream and its subtables, and that places are all different.
fn accounted(decoded: &Decoded) {
    assert_eq!(decoded.emitted, decoded.rows() + decoded.rejected.len() as u64 + decoded.filtered);
    places(decoded.emitted, decoded.rows(), &decoded.ordinals, &decoded.rejected);
    for child in &decoded.children {
        let ChildRows { rows, roots, levels, rejected, emitted, filtered, ordinals, .. } = child;
        assert_eq!(*emitted, rows.num_rows() as u64 + rejected.len() as u64 + filtered);
        assert_eq!(rows.num_rows(), roots.len());
        assert!(levels.iter().all(|level| level.len() == roots.len()) && !levels.is_empty());
        assert!(roots.iter().all(|root| u64::from(*root) < decoded.rows()));
        places(*emitted, roots.len() as u64, ordinals, rejected);
    }
}

fn places(emitted: u64, rows: u64, ordinals: &Option<Vec<u64>>, rejected: &[thimble_record::Rejected]) {
    let mut seen: Vec<u64> = ordinals.clone().unwrap_or_else(|| (0..rows).collect());
    assert_eq!(seen.len() as u64, rows);
    assert!(seen.is_sorted());
    seen.extend(rejected.iter().map(|rejected| rejected.ordinal.unwrap()));
    let different: BTreeSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len());
    assert!(seen.iter().all(|place| *place < emitted));
}

fn reasons(decoded: &Decoded) -> Vec<&str> {
    decoded.rejected.iter().map(|rejected| rejected.reason.as_str()).collect()
}

fn json(decoder: &mut Decoder, text: &str) -> Decoded {
    let decoded = decoder.json(text.as_bytes()).unwrap();
    accounted(&decoded);
    decoded
}

fn child<'a>(decoded: &'a Decoded, path: &str) -> &'a ChildRows {
    decoded.children.iter().find(|child| child.path == path).unwrap()
}

fn ipc(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values.iter().copied()))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.iter().copied()))
}

#[test]
fn freeze_fails_with_the_name_of_the_field() {
    let fields = [("id", DataType::Int64), ("at", DataType::Date)];
    for (text, says) in [
        (r#"[{"id":1},{"id":2,"new":true}]"#, ["`new`", "boolean"]),
        (r#"[{"id":"x"}]"#, ["`id`, found text", "integer"]),
        (r#"[{"at":"2024-13-01"}]"#, ["`at`", "date"]),
        (r#"[{"id":2.5}]"#, ["`id`, found double", "integer"]),
    ] {
        let failure = decoder(&fields, contract(Contract::Freeze)).json(text.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Config);
        for part in says.iter().chain(&["stream s", "freeze", "discard-row"]) {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
    }
    let array = ipc(vec![("new", ints(&[None]))]);
    let failure = decoder(&fields, contract(Contract::Freeze)).arrow(&array).unwrap_err();
    assert!(failure.kind == ErrorKind::Config && failure.message.contains("`new`"), "{failure}");
    let array = ipc(vec![("id", Arc::new(Float64Array::from(vec![1.0, 0.5])))]);
    let failure = decoder(&fields, contract(Contract::Freeze)).arrow(&array).unwrap_err();
    assert!(failure.message.contains("expected integer in the field `id`, found double"), "{failure}");
    let mut fitting = decoder(&fields, contract(Contract::Freeze));
    json(&mut fitting, r#"[{"id":1,"at":"2024-01-31","new":null}]"#);
    fitting.arrow(&ipc(vec![("id", Arc::new(Float64Array::from(vec![1.0])))])).unwrap();
    assert_eq!(fitting.schema(), &schema(&fields));
}

#[test]
fn discarded_rows_are_counted() {
    let mut decoder = decoder(&[("id", DataType::Int64)], contract(Contract::DiscardRow));
    let decoded = json(&mut decoder, r#"[{"id":1},{"id":2,"new":1},{"id":"x"},{"id":4,"new":null},7]"#);
    assert_eq!(all_rows(&decoded), [r#"{"id":1}"#, r#"{"id":4}"#]);
    assert_eq!((decoded.filtered, decoded.ordinals.as_deref()), (2, Some(&[0, 3][..])));
    let sent = ipc(vec![("id", ints(&[Some(1), Some(2)])), ("new", ints(&[None, Some(1)]))]);
    let decoded = decoder.arrow(&sent).unwrap();
    accounted(&decoded);
    assert_eq!((all_rows(&decoded).len(), decoded.filtered, decoded.emitted), (2, 2, 4));
    assert_eq!(decoded.ordinals.as_deref(), Some(&[0, 2][..]));
    let decoded = decoder.arrow(&ipc(vec![("id", texts(&[Some("7"), Some("seven"), None]))])).unwrap();
    accounted(&decoded);
    assert_eq!((decoded.rows(), decoded.filtered), (4, 2));
    assert_eq!(names(&decoder), ["id"]);
}

#[test]
fn discarded_values_become_null_and_variants_that_exist_are_used() {
    let mut decoder = decoder(
        &[("id", DataType::Int64), ("v", DataType::Int64), ("v__text", DataType::Text)],
        contract(Contract::DiscardValue),
    );
    let decoded = json(&mut decoder, r#"[{"id":"x","v":1},{"id":2,"new":{"a":1},"v":"text"},{"v":0.5}]"#);
    assert_eq!(all_rows(&decoded), [r#"{"v":1}"#, r#"{"id":2,"v__text":"text"}"#, r#"{"v__text":"0.5"}"#]);
    let sent = ipc(vec![
        ("id", texts(&[Some("1"), Some("x")])),
        ("v", texts(&[Some("y"), Some("2")])),
        ("new", ints(&[Some(1), None])),
    ]);
    let decoded = decoder.arrow(&sent).unwrap();
    accounted(&decoded);
    assert_eq!(all_rows(&decoded)[..2], [r#"{"id":1,"v__text":"y"}"#, r#"{"v":2}"#]);
    assert_eq!(names(&decoder), ["id", "v", "v__text"]);
}

#[test]
fn a_rejected_record_leaves_no_column() {
    let wide: Vec<_> = (0..1_601).map(|i| format!("\"k{i}\":1")).collect();
    let options = DecodeOptions { max_columns: 1_600, taken: ["other".into()].into(), ..DecodeOptions::default() };
    let mut decoder = decoder(&[("id", DataType::Int64)], options);
    let text = format!(
        r#"[{{"id":1}},{{{}}},{{"id":2,"late":1,"late2":1,"id":3}},{{"new":1,"other":2}},{{"id":4,"kept":1}}]"#,
        wide.join(",")
    );
    let decoded = json(&mut decoder, &text);
    assert_eq!(reasons(&decoded), ["too-many-columns", "duplicate-field", "name-collision"]);
    assert!(decoded.rejected[0].message.contains("1600"));
    assert_eq!(names(&decoder), ["id", "kept"]);
    assert_eq!(decoded.ordinals.as_deref(), Some(&[0, 4][..]));
    assert_eq!(all_rows(&decoded), [r#"{"id":1}"#, r#"{"id":4,"kept":1}"#]);
    // The names can come again.
    assert_eq!(all_rows(&json(&mut decoder, r#"{"late":1}"#)), [r#"{"late":1}"#]);
}

#[test]
fn places_are_those_among_all_records() {
    let mut decoder = decoder(&[], DecodeOptions::default());
    assert_eq!(json(&mut decoder, "{\"a\":1}\n{\"a\":2}").ordinals, None);
    assert_eq!(json(&mut decoder, "{\"a\":1}\nnonsense").ordinals, None);
    let decoded = json(&mut decoder, "nonsense\n{\"a\":1}\n[]\n{\"_thimble_x\":1}\n{\"a\":2}");
    assert_eq!(decoded.ordinals.as_deref(), Some(&[1, 4][..]));
    assert_eq!(decoded.rejected.iter().map(|r| r.ordinal.unwrap()).collect::<Vec<_>>(), [0, 2, 3]);
    let sent = ipc(vec![("a", ints(&[Some(1), Some(2)])), ("_thimble_x", ints(&[Some(1), None]))]);
    let decoded = decoder.arrow(&sent).unwrap();
    accounted(&decoded);
    assert_eq!(decoded.ordinals.as_deref(), Some(&[1, 3][..]));
    assert_eq!(decoded.rejected[1].raw, r#"{"a":1,"_thimble_x":1}"#);
    assert_eq!((reasons(&decoded)[0], decoded.rejected[1].ordinal), ("reserved-name", Some(2)));
}

#[test]
fn the_mark_of_a_deletion_is_a_timestamp_whatever_the_contract_says() {
    for contract in [Contract::Evolve, Contract::Freeze, Contract::DiscardRow, Contract::DiscardValue] {
        let options = DecodeOptions {
            contract,
            selected: Some(["id".to_owned()].into()),
            max_columns: 1,
            ..DecodeOptions::default()
        };
        let mut decoder = decoder(&[("id", DataType::Int64)], options);
        let decoded = json(
            &mut decoder,
            r#"[{"id":1,"_thimble_deleted_at":"1970-01-01T00:00:01Z"},{"id":2,"_thimble_deleted_at":"yesterday"},
                {"id":3,"_thimble_deleted_at":null},{"id":4,"_thimble_deleted_at":5},{"id":5,"_thimble_deleted_at":"1970-01-01 00:00:02"}]"#,
        );
        assert_eq!(reasons(&decoded), ["invalid-deletion-time"; 2]);
        let at = decoded.batches[0].column(1).as_primitive::<TimestampMicrosecondType>();
        assert_eq!((at.value(0), at.is_null(1), at.value(2)), (1_000_000, true, 2_000_000));
        assert_eq!(decoder.schema().fields[1].data_type, DataType::TimestampTz);
        let sent = ipc(vec![
            ("_thimble_deleted_at", texts(&[Some("1970-01-01T00:00:01Z"), None, Some("x")])),
            ("id", ints(&[Some(1), Some(2), Some(3)])),
        ]);
        let decoded = decoder.arrow(&sent).unwrap();
        accounted(&decoded);
        assert_eq!((decoded.rows(), reasons(&decoded)), (4, vec!["invalid-deletion-time"; 2]));
    }
    let mut plain = decoder(&[], flatten());
    let decoded = json(
        &mut plain,
        r#"[{"_sdc_x":1,"_thimble":{"x":1}},{"_thimble_batch":1},{"_sdc_x":2,"c":[{"_thimble_deleted_at":"2024-01-01T00:00:00Z"}]}]"#,
    );
    assert_eq!(reasons(&decoded), ["reserved-name"; 2]);
    assert_eq!((child(&decoded, "c").rejected[0].reason.as_str(), decoded.rows()), ("reserved-name", 1));
}

#[test]
fn objects_become_columns() {
    let mut decoder = decoder(&[("old", DataType::Json), ("n", DataType::Int64)], flatten());
    let decoded = json(
        &mut decoder,
        r#"[{"a":{"b":1,"c":{"d":"x"}},"e":{},"old":{"k":[1]},"n":{"m":2}},{"a":5,"n":6},{"a":{"b":null}},{"a":{"b":1},"a__b":2}]"#,
    );
    assert_eq!(names(&decoder), ["old", "n", "a__b", "a__c__d", "n__m", "a"]);
    assert_eq!(all_rows(&decoded), [r#"{"old":{"k":[1]},"a__b":1,"a__c__d":"x","n__m":2}"#, r#"{"n":6,"a":5}"#, "{}"]);
    assert_eq!(reasons(&decoded), ["duplicate-field"]);
    assert!(decoded.children.is_empty());
}

#[test]
fn deeper_than_the_limit_stays_json_and_20_000_levels_do_no_harm() {
    let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let mut decoder = decoder(&[], flatten());
    let decoded = json(&mut decoder, &nested(MAX_FLATTEN_DEPTH + 1));
    assert_eq!(names(&decoder), [["a"; MAX_FLATTEN_DEPTH + 1].join("__")]);
    assert_eq!(decoder.schema().fields[0].data_type, DataType::Int64);
    accounted(&decoded);
    let mut decoder = self::decoder(&[], flatten());
    json(&mut decoder, &nested(MAX_FLATTEN_DEPTH + 2));
    assert_eq!(decoder.schema().fields[0].data_type, DataType::Json);
    json(&mut decoder, &nested(20_000));
    let arrays = format!("{{\"x\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let decoded = json(&mut decoder, &arrays);
    assert_eq!(decoded.children.len(), MAX_FLATTEN_DEPTH);
    let deepest = decoded.children.last().unwrap();
    assert_eq!(deepest.rows.column(0).as_string::<i32>().value(0).len(), 2 * (20_000 - MAX_FLATTEN_DEPTH));
}

#[test]
fn arrays_become_subtables() {
    let mut decoder = decoder(&[], flatten());
    let decoded = json(
        &mut decoder,
        r#"[{"id":1,"items":[{"sku":"a","dim":{"w":1},"parts":[{"p":1},{"p":2}]},{"sku":"b"},null],"tags":["x",7]},
            {"id":1,"id":2,"items":[{"sku":"lost","new":1}],"gone":[1]},
            {"id":3,"items":[],"tags":null},
            {"id":4,"items":[{"sku":"c","parts":[{"p":3},{"p":4,"p":5}]},{"sku":"d","sku":"e"}],"o":{"grid":[[1,2],[3]]}}]"#,
    );
    assert_eq!((decoded.rows(), reasons(&decoded)), (3, vec!["duplicate-field"]));
    let paths: Vec<_> = decoded.children.iter().map(|child| child.path.as_str()).collect();
    assert_eq!(paths, ["items", "items__parts", "o__grid", "o__grid__value", "tags"]);
    let items = child(&decoded, "items");
    assert_eq!(rows(&items.rows), [r#"{"sku":"a","dim__w":1}"#, r#"{"sku":"b"}"#, "{}", r#"{"sku":"c"}"#]);
    assert_eq!((&items.roots[..], &items.levels[..]), (&[0, 0, 0, 2][..], &[vec![0, 1, 2, 0]][..]));
    assert_eq!((items.emitted, items.rejected[0].stream.as_str(), items.rejected[0].ordinal), (5, "s__items", Some(4)));
    assert_eq!(items.rejected[0].raw, r#"{"sku":"d","sku":"e"}"#);
    let parts = child(&decoded, "items__parts");
    assert_eq!(rows(&parts.rows), [r#"{"p":1}"#, r#"{"p":2}"#, r#"{"p":3}"#]);
    assert_eq!((&parts.roots[..], &parts.levels[..]), (&[0, 0, 2][..], &[vec![0, 0, 0], vec![0, 1, 0]][..]));
    assert_eq!(parts.rejected[0].stream, "s__items__parts");
    let grid = child(&decoded, "o__grid__value");
    assert_eq!(rows(&grid.rows), [r#"{"value":1}"#, r#"{"value":2}"#, r#"{"value":3}"#]);
    assert_eq!(grid.levels, [vec![0, 0, 1], vec![0, 1, 0]]);
    assert_eq!(rows(&child(&decoded, "tags").rows), [r#"{"value":"x"}"#, r#"{"value":"7"}"#]);
    let children = &decoder.schema().children;
    assert_eq!(children.keys().collect::<Vec<_>>(), ["items", "items__parts", "o__grid", "o__grid__value", "tags"]);
    assert!(children["items"].field("new").is_none() && children["items"].field("dim__w").is_some());
    for found in &decoded.children {
        assert_eq!(children[&found.path].to_arrow(), found.rows.schema());
    }
    // A decoder that starts from the stored schema goes on with it.
    let mut next = Decoder::new("s", decoder.schema().clone(), flatten());
    let decoded = json(&mut next, r#"{"items":[{"sku":1.5,"more":true}]}"#);
    assert_eq!(rows(&child(&decoded, "items").rows), [r#"{"sku":"1.5","more":true}"#]);
    assert_eq!(decoded.children.len(), 1);
}

#[test]
fn an_element_that_is_rejected_takes_what_lies_in_it_along() {
    let mut decoder = decoder(&[], flatten());
    let decoded = json(
        &mut decoder,
        r#"[{"items":[{"x":1,"parts":[1,2],"new":1,"x":2},{"x":3,"parts":[3]}]},{"items":[{"parts":[1],"parts":[2]}]}]"#,
    );
    assert_eq!((decoded.rows(), child(&decoded, "items").rejected.len()), (2, 2));
    let parts = child(&decoded, "items__parts");
    assert_eq!((rows(&parts.rows), parts.emitted), (vec![r#"{"value":3}"#.to_owned()], 1));
    assert_eq!(parts.levels, [vec![1], vec![0]]);
    assert!(decoder.schema().children["items"].field("new").is_none());
    let decoded = json(&mut decoder, r#"{"bad":[{"a":1,"a":2}],"only":[1],"x":1,"x":2}"#);
    assert_eq!((decoded.rejected.len(), decoded.children.len()), (1, 0));
    assert!(!decoder.schema().children.contains_key("only"));
}

#[test]
fn one_path_may_lie_in_one_array_or_in_two() {
    let mut decoder = decoder(&[], flatten());
    let decoded = json(&mut decoder, r#"[{"items":{"parts":[1]}},{"items":[{"parts":[2]}]},{"items":{"parts":[3]}}]"#);
    assert_eq!(child(&decoded, "items__parts").levels, [vec![0, 0, 0], vec![-1, 0, -1]]);
}

#[test]
fn contracts_hold_in_subtables() {
    let text = r#"{"id":1,"items":[{"a":1},{"a":2,"b":3},{"a":"x"}],"new":[1]}"#;
    let mut stored = schema(&[("id", DataType::Int64)]);
    stored.children.insert("items".into(), schema(&[("a", DataType::Int64)]));
    let with = |contract| Decoder::new("s", stored.clone(), DecodeOptions { contract, ..flatten() });
    let failure = with(Contract::Freeze).json(text.as_bytes()).unwrap_err();
    assert!(failure.message.contains("stream s__items") && failure.message.contains("`b`"), "{failure}");
    let failure = with(Contract::Freeze).json(br#"{"new":[1]}"#).unwrap_err();
    assert!(failure.message.contains("array `new`"), "{failure}");
    let decoded = json(&mut with(Contract::DiscardRow), &text.replace(",\"new\":[1]", ""));
    let items = child(&decoded, "items");
    assert_eq!((items.rows.num_rows(), items.filtered, decoded.rows()), (1, 2, 1));
    let decoded = json(&mut with(Contract::DiscardRow), text);
    assert_eq!((decoded.filtered, decoded.rows(), decoded.children.len()), (1, 0, 0));
    let mut lenient = with(Contract::DiscardValue);
    let decoded = json(&mut lenient, text);
    assert_eq!(rows(&child(&decoded, "items").rows), [r#"{"a":1}"#, r#"{"a":2}"#, "{}"]);
    assert_eq!(lenient.schema(), &stored);
}

#[test]
fn names_of_subtables_meet_no_stream() {
    let reserved = |names: &[&str]| {
        let reserved_streams = names.iter().map(|name| (*name).to_owned()).collect();
        decoder(&[], DecodeOptions { reserved_streams, ..flatten() })
    };
    assert_eq!(reserved(&["s", "other"]).child_stream("array"), "s__array");
    assert_eq!(reserved(&["s__a"]).child_stream("a"), "s__a__array");
    assert_eq!(reserved(&["s__a"]).child_stream("a__array"), "s__a__array__array");
    assert_eq!(reserved(&["s__a", "s__a__array"]).child_stream("a"), "s__a__array__array");
    let mut decoder = reserved(&["s__a"]);
    let decoded = json(&mut decoder, r#"{"a":[{"x":1,"x":2}]}"#);
    assert_eq!(child(&decoded, "a").rejected[0].stream, "s__a__array");
}

#[test]
fn selections_reach_into_objects() {
    let selected = Some(["a".to_owned(), "o__x".to_owned(), "o__list".to_owned()].into());
    let mut decoder = decoder(&[("stored", DataType::Int64)], DecodeOptions { selected, ..flatten() });
    let decoded =
        json(&mut decoder, r#"{"a":{"b":1},"o":{"x":2,"y":3,"list":[1],"not":[2]},"b":4,"list":[5],"stored":6}"#);
    assert_eq!(all_rows(&decoded), [r#"{"a__b":1,"o__x":2}"#]);
    assert_eq!(decoded.children.len(), 1);
    assert_eq!(decoded.children[0].path, "o__list");
}

#[test]
fn every_limit_of_flattening_is_named() {
    let mut limited = decoder(&[], DecodeOptions { max_columns: 3, ..flatten() });
    let decoded = json(&mut limited, r#"{"items":[{"a":1,"b":2,"c":3},{"a":1,"d":2,"e":3},{"e":1,"f":2}]}"#);
    assert_eq!(child(&decoded, "items").rejected.len(), 2);
    assert_eq!(child(&decoded, "items").rejected[0].reason, "too-many-columns");

    let many: Vec<_> = (0..=MAX_SUBTABLES).map(|n| format!("\"a{n}\":[1]")).collect();
    let mut decoder = decoder(&[], flatten());
    let decoded = json(&mut decoder, &format!("{{{}}}\n{{\"b\":[1]}}", many.join(",")));
    assert_eq!((reasons(&decoded), decoded.children.len()), (vec!["too-many-subtables"], 1));

    let long = format!("{{\"{0}\":[{{\"{0}\":[1]}}]}}", "k".repeat(130));
    assert_eq!(reasons(&json(&mut decoder, &long)), ["name-too-long"]);

    let half = format!("{{\"b\":[{}1]}}", "1,".repeat(MAX_CHILD_ROWS / 2 - 1));
    let decoded = json(&mut decoder, &format!("{half}\n{half}"));
    assert_eq!(child(&decoded, "b").rows.num_rows(), MAX_CHILD_ROWS);
    let decoded = json(&mut decoder, &format!("{half}\n{half}\n{{\"b\":[1]}}"));
    assert_eq!((reasons(&decoded), child(&decoded, "b").emitted), (vec!["too-many-elements"], MAX_CHILD_ROWS as u64));

    let wide: Vec<_> = (0..MAX_COLUMNS).map(|n| format!("k{n}")).collect();
    let fields: Vec<_> = wide.iter().map(|name| (name.as_str(), DataType::Int64)).collect();
    let records = "{}".repeat(MAX_BATCH_CELLS / MAX_COLUMNS + 2);
    let failure = self::decoder(&fields, DecodeOptions::default()).json(records.as_bytes()).unwrap_err();
    assert!(failure.message.contains("250000000"), "{failure}");
}

#[test]
fn bad_text() {
    for options in [DecodeOptions::default(), flatten()] {
        let mut decoder = decoder(&[("id", DataType::Int64)], options);
        let decoded = json(
            &mut decoder,
            concat!(
                "{\"id\":1,\"t\":\"a\\u0000b\"}\n",
                "{\"id\":2,\"t\":\"raw \0 nul\"}\n",
                "{\"id\":3,\"t\":\"\\ud800\"}\n",
                "{\"id\":4,\"\\udc00\":1}\n",
                "{\"id\":5,\"n\":{\"x\":\"\\ud800\"}}\n",
                "{\"id\":6,\"n\":{\"\\ud800\":1}}\n",
                "{\"id\":7,\"t\":\"\\ud83d\\ude00\"}\n",
                "{\"id\":8,\"v\":NaN}\n",
                "{\"id\":9,\"q\\\"\\n'\":1,\"ID\":2}\n",
            ),
        );
        assert_eq!((decoded.emitted, reasons(&decoded)[..2].to_vec()), (9, vec!["invalid-json", "invalid-text"]));
        assert!(reasons(&decoded).iter().all(|reason| ["invalid-json", "invalid-text"].contains(reason)));
        let batch = &decoded.batches[0];
        assert_eq!(batch.column_by_name("t").unwrap().as_string::<i32>().value(0), "a\0b");
        assert!(batch.column_by_name("q\"\n'").is_some() && batch.column_by_name("ID").is_some());
        let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
        assert!(ids.starts_with(&[1]) && ids.ends_with(&[7, 9]), "{ids:?}");
    }
    assert!(decoder(&[], flatten()).json(b"{\"a\":\"\xff\"}").unwrap_err().message.contains("UTF-8"));
}

#[test]
fn bad_numbers_and_times() {
    let fields = [("at", DataType::TimestampTz), ("f", DataType::Float64), ("i", DataType::Int64)];
    let mut decoder = decoder(&fields, DecodeOptions::default());
    let decoded = json(
        &mut decoder,
        r#"[{"i":9223372036854775808,"f":0.1,"at":"0000-01-01T00:00:00Z"},{"i":-9223372036854775808,"f":1e400},
            {"f":"NaN","at":"294277-01-01T00:00:00Z"},{"f":"-Infinity","at":"+294247-01-10T04:00:54.775807Z"},
            {"f":"nan","at":"+294277-01-01T00:00:00Z"},{"f":123456789012345678901234567890123456789012}]"#,
    );
    assert_eq!((decoded.rows(), decoded.emitted), (6, 6));
    let batch = &decoded.batches[0];
    let at = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(
        (at.value(0), at.is_null(2), at.value(3), at.is_null(4)),
        (-62_167_219_200_000_000, true, i64::MAX, true)
    );
    let f = batch.column(1).as_primitive::<Float64Type>();
    assert!(
        f.value(0) == 0.1 && f.is_null(1) && f.value(2).is_nan() && f.value(3) == f64::NEG_INFINITY && f.is_null(4)
    );
    let text = |name: &str, row| batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
    assert_eq!(text("f__text", 1), "1e400");
    assert_eq!(text("at__text", 2), "294277-01-01T00:00:00Z");
    assert_eq!(text("f__text", 5), "123456789012345678901234567890123456789012");
    assert_eq!(decoder.schema().field("i").unwrap().data_type, DataType::Decimal(38, 0));
}

#[test]
fn large_records_null_keys_and_keys_that_change_their_type() {
    let mut decoder = decoder(&[], DecodeOptions::default());
    let large = format!("{{\"id\":1,\"t\":\"{}\"}}\n{{\"id\":2}}", "x".repeat(20_000_000));
    let decoded = json(&mut decoder, &large);
    assert_eq!((reasons(&decoded), decoded.rows()), (vec!["record-too-large"], 1));
    assert!(decoded.rejected[0].truncated && large.len() > MAX_RECORD_BYTES);
    let decoded = json(&mut decoder, r#"[{"id":null},{},{"id":"seven"},{"id":true},{"id":7},{"id":{"a":1}}]"#);
    let id = decoded.batches[0].column_by_name("id").unwrap().as_primitive::<Int64Type>();
    assert_eq!((id.null_count(), id.value(4)), (5, 7));
    assert_eq!(names(&decoder), ["id", "id__text", "id__boolean", "id__json"]);
}

#[test]
fn arrow_values_out_of_range_and_columns_with_refused_names_reject_their_rows() {
    let mut decoder = decoder(&[], DecodeOptions { taken: ["t".into()].into(), ..DecodeOptions::default() });
    let seconds: ArrayRef = Arc::new(arrow_array::TimestampSecondArray::from(vec![Some(i64::MAX), Some(1), None]));
    let sent = ipc(vec![("at", seconds), ("t", ints(&[None, None, Some(1)])), ("", ints(&[None, None, None]))]);
    let decoded = decoder.arrow(&sent).unwrap();
    accounted(&decoded);
    assert_eq!(reasons(&decoded), ["out-of-range", "name-collision"].repeat(2));
    assert_eq!(decoded.rows(), 2);
    // A variant that the source sends too: both values where they do not meet, a rejection where they do.
    let mut decoder = self::decoder(&[("v", DataType::Int64)], DecodeOptions::default());
    let sent = ipc(vec![
        ("v", texts(&[Some("x"), Some("2"), Some("y")])),
        ("v__text", texts(&[None, Some("own"), Some("meets")])),
    ]);
    let decoded = decoder.arrow(&sent).unwrap();
    accounted(&decoded);
    assert_eq!(all_rows(&decoded)[..2], [r#"{"v__text":"x"}"#, r#"{"v":2,"v__text":"own"}"#]);
    assert_eq!(reasons(&decoded), ["duplicate-field"; 2]);
}
