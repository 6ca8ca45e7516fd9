//! Files for tests.

use std::{io::Write, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
    builder::{Int32Builder, ListBuilder},
};
use arrow_schema::{DataType, Field};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::properties::{WriterProperties, WriterVersion},
};

/// Numbers that do not compress and are the same each time.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// CSV with quotes, line breaks in quotes, nulls and a bad record now and then.
pub fn csv(rows: usize) -> Vec<u8> {
    let mut noise = Noise(7);
    let mut text = "id,name,amount,seen\n".to_owned();
    for n in 0..rows {
        let (a, b) = (noise.next(), noise.next());
        match n % 1_000 {
            500 => text.push_str(&format!("{n},too,many,fields,here\r\n")),
            700 => text.push_str(&format!("{n},\"two\nlines, \"\"quoted\"\" {a:x}\",,2024-01-31 10:00:00\r\n")),
            _ => text.push_str(&format!("{n},Zoë {a:x},{}.25,2024-01-{:02} 10:00:00\n", b % 10_000, b % 28 + 1)),
        }
    }
    text.into_bytes()
}

fn json_record(n: usize, noise: &mut Noise) -> String {
    let (a, b) = (noise.next(), noise.next());
    format!("{{\"id\": {n}, \"text\": \"{a:x} ]}},{{[ \\\" \\\\\", \"nested\": {{\"list\": [{b}, null, {{}}]}}}}")
}

pub fn jsonl(rows: usize) -> Vec<u8> {
    let mut noise = Noise(11);
    let mut text = String::new();
    for n in 0..rows {
        let bad = if n % 900 == 450 { "{\"broken\": \n" } else { "" };
        text.push_str(&format!("{bad}{}\n", json_record(n, &mut noise)));
    }
    text.into_bytes()
}

/// An array below `data.items`, with another value before and behind it.
pub fn json(rows: usize) -> Vec<u8> {
    let mut noise = Noise(13);
    let records: Vec<String> = (0..rows).map(|n| json_record(n, &mut noise)).collect();
    let items = records.join(" ,\n  ");
    format!("{{\"meta\": {{\"items\": [1]}}, \"data\": {{\"n\": 1, \"items\": [\n  {items}\n]}}, \"next\": null}}")
        .into_bytes()
}

fn parquet_batch(from: usize, rows: usize) -> RecordBatch {
    let mut noise = Noise(17 + from as u64);
    let ids = Int64Array::from_iter_values((from..from + rows).map(|n| n as i64));
    let amounts: Float64Array = (0..rows).map(|n| (n % 5 > 0).then_some(noise.next() as f64)).collect();
    let names: StringArray = (0..rows).map(|n| (n % 7 > 0).then(|| format!("{:x}", noise.next()))).collect();
    let few: StringArray = (0..rows).map(|n| Some(["red", "green", "blue"][n % 3])).collect();
    let bytes = BinaryArray::from_iter_values((0..rows).map(|_| noise.next().to_le_bytes()));
    let mut lists = ListBuilder::new(Int32Builder::new());
    for n in 0..rows {
        (0..n % 4).for_each(|i| lists.values().append_option((i != 1).then_some(i as i32)));
        lists.append(n % 11 > 0);
    }
    let inner: ArrayRef = Arc::new(ids.clone());
    let structs = StructArray::from(vec![(Arc::new(Field::new("id", DataType::Int64, true)), inner)]);
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(ids), false),
        ("amount", Arc::new(amounts), true),
        ("name", Arc::new(names), true),
        ("few", Arc::new(few), true),
        ("bytes", Arc::new(bytes), true),
        ("list", Arc::new(lists.finish()), true),
        ("pair", Arc::new(structs), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Parquet of `groups` row groups with lists, structs, dictionaries and nulls.
pub fn parquet(groups: usize, rows: usize, compression: Compression, version: WriterVersion) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_data_page_size_limit(64 * 1024)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), parquet_batch(0, 0).schema(), Some(properties)).unwrap();
    for group in 0..groups {
        writer.write(&parquet_batch(group * rows, rows)).unwrap();
        writer.flush().unwrap();
    }
    writer.into_inner().unwrap()
}
