//! Batches go between processes without a copy, and live as long as the last array of theirs.
#![allow(missing_docs)]

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, ListArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use atomic_matrix::uuid::Uuid;
use atomic_matrix::{Handler, Options};
use atomic_matrix_arrow::{Builder, Error, batch, copied, sampled};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const ROWS: usize = 100_000;

/// A segment that is gone after the test.
struct Scratch(Handler);

impl Scratch {
    fn new() -> Self {
        Self(Options::new().size(32 << 20).create().expect("there is room"))
    }
}
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.unlink();
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("price", DataType::Float64, true),
        Field::new("name", DataType::Utf8, false),
    ]))
}

/// `ROWS` rows: every third price is null.
fn built(handler: &Handler) -> atomic_matrix::ipc::Message<'_, [u8]> {
    let mut builder = Builder::with_text(handler, schema(), ROWS, &[(2, 9 * ROWS)]).expect("there is room");
    let keys = builder.values::<Int64Type>(0).expect("it is such a column");
    keys.iter_mut().enumerate().for_each(|(row, key)| *key = row as i64);
    let prices = builder.values::<Float64Type>(1).expect("it is such a column");
    prices.iter_mut().enumerate().for_each(|(row, price)| *price = row as f64 / 2.0);
    let there = builder.validity(1).expect("it may be null");
    (0..ROWS).step_by(3).for_each(|row| there[row / 8] &= !(1 << (row % 8)));
    let names: Vec<String> = (0..ROWS).map(|row| format!("row {row}")).collect();
    builder.text(2, names.iter().map(|name| name.as_bytes())).expect("there are so many");
    builder.finish()
}

fn check(batch: &RecordBatch) {
    assert_eq!((batch.schema(), batch.num_rows()), (schema(), ROWS));
    let (keys, prices) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Float64Type>());
    assert_eq!(prices.null_count(), ROWS.div_ceil(3));
    for row in 0..ROWS {
        assert_eq!((keys.value(row), prices.is_null(row)), (row as i64, row % 3 == 0));
        assert!(prices.is_null(row) || prices.value(row) == row as f64 / 2.0);
    }
    assert_eq!(batch.column(2).as_string::<i32>().value(ROWS - 1), format!("row {}", ROWS - 1));
}

/// Every buffer of every column.
fn addresses(batch: &RecordBatch) -> Vec<Range<usize>> {
    fn of(data: &arrow_data::ArrayData, into: &mut Vec<Range<usize>>) {
        let nulls = data.nulls().map(|nulls| nulls.buffer());
        let ranges = data.buffers().iter().chain(nulls).map(|buffer| {
            let first = buffer.as_ptr().addr();
            first..first + buffer.len()
        });
        into.extend(ranges);
        data.child_data().iter().for_each(|child| of(child, into));
    }
    let mut ranges = vec![];
    batch.columns().iter().for_each(|column| of(&column.to_data(), &mut ranges));
    ranges
}

fn lies_in(handler: &Handler, ranges: &[Range<usize>]) {
    let segment = handler.matrix().segment();
    let first = segment.base().as_ptr().addr();
    let mapping = first..first + segment.len();
    assert!(!ranges.is_empty());
    for range in ranges {
        assert!(mapping.contains(&range.start) && range.end <= mapping.end, "{range:?} is not in {mapping:?}");
    }
}

fn other(role: &str, handler: &Handler) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "other_process", "--nocapture"]).stdout(Stdio::null());
    command.env("ROLE", role).env("SEGMENT", handler.id().to_string()).spawn().expect("it starts")
}

/// What the other tests start as a process of its own.
#[test]
fn other_process() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let id = Uuid::try_parse(&std::env::var("SEGMENT").expect("it is given")).expect("it is an id");
    let handler = Options::new().id(id).attach().expect("it is there");
    let receiver = handler.channel::<[u8]>("there").open().expect("it is there").receiver().expect("there is a place");
    let sender = handler.channel::<[u8]>("back").open().expect("it is there").sender().expect("there is a place");
    let received = batch(receiver.recv_timeout(LONG).expect("one was sent")).expect("it is a batch");
    if role == "reads" {
        check(&received);
        lies_in(&handler, &addresses(&received));
        let back = built(&handler);
        sender.send_timeout(back, LONG).map_err(|no| no.why).expect("there is room");
    } else {
        let here = handler.message_from(b"received").expect("there is room");
        sender.send_timeout(here, LONG).map_err(|no| no.why).expect("there is room");
        std::thread::sleep(LONG);
    }
}

#[test]
fn a_batch_is_read_where_another_process_has_built_it() {
    let scratch = Scratch::new();
    let handler = &scratch.0;
    let there = handler.channel::<[u8]>("there").create().expect("there is room");
    let back = handler.channel::<[u8]>("back").create().expect("there is room").receiver().expect("there is a place");
    let mut child = other("reads", handler);
    let sender = there.sender().expect("there is a place");
    sender.send_timeout(built(handler), LONG).map_err(|no| no.why).expect("there is room");
    let received = batch(back.recv_timeout(LONG).expect("it answers")).expect("it is a batch");
    assert!(child.wait().expect("it ends").success());
    check(&received);
    lies_in(handler, &addresses(&received));
    assert!(addresses(&received).iter().all(|range| range.start % 64 == 0), "columns begin at lines");
}

#[test]
fn a_killed_readers_batch_is_freed() {
    let scratch = Scratch::new();
    let handler = &scratch.0;
    let there = handler.channel::<[u8]>("there").create().expect("there is room");
    let back = handler.channel::<[u8]>("back").create().expect("there is room").receiver().expect("there is a place");
    let before = handler.stats().expect("they tile").live_blocks;
    let mut child = other("keeps", handler);
    let sender = there.sender().expect("there is a place");
    sender.send_timeout(built(handler), LONG).map_err(|no| no.why).expect("there is room");
    drop(back.recv_timeout(LONG).expect("it has received it"));
    assert_eq!(handler.stats().expect("they tile").live_blocks, before + 1);
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    handler.reap().expect("it is recovered");
    assert_eq!(handler.stats().expect("they tile").live_blocks, before, "its batch is freed");
}

#[test]
fn the_last_array_has_the_message() {
    let handler = Options::new().memfd().size(32 << 20).create().expect("a memory file");
    let live = |handler: &Handler| handler.stats().expect("they tile").live_blocks;
    let whole = batch(built(&handler)).expect("it is a batch");
    let slice = whole.column(1).slice(10, 5);
    drop(whole);
    assert_eq!(live(&handler), 1, "the slice has it");
    let others: Vec<_> = (0..4).map(|_| built(&handler)).collect();
    assert_eq!(slice.as_primitive::<Float64Type>().value(1), 5.5);
    drop(others);
    let again = handler.clone();
    drop(handler);
    assert_eq!(slice.as_primitive::<Float64Type>().value(0), 5.0);
    drop(slice);
    assert_eq!(live(&again), 0);
}

#[test]
fn samples_are_read_by_all_subscribers() {
    let handler = Options::new().memfd().size(32 << 20).create().expect("a memory file");
    let topic = handler.topic::<[u8]>("batches").cells(2).open_or_create().expect("there is room");
    let subscribers = [(); 2].map(|()| topic.subscribe(0).expect("there are places").into_samples());
    topic.try_publish(built(&handler)).map_err(|no| no.why).expect("there is room");
    let read = || {
        subscribers.each_ref().map(|samples| {
            let sample = samples.next_timeout(LONG).expect("it is open").expect("it was published");
            sampled(sample).expect("it is a batch")
        })
    };
    let batches = read();
    check(&batches[0]);
    assert_eq!(addresses(&batches[0]), addresses(&batches[1]), "one and the same");
    lies_in(&handler, &addresses(&batches[0]));
    topic.try_publish(built(&handler)).map_err(|no| no.why).expect("there is room");
    assert!(topic.try_publish(built(&handler)).is_err(), "the first is still read");
    drop(batches);
    topic.try_publish(built(&handler)).map_err(|no| no.why).expect("both have passed it");
}

#[test]
fn batches_of_any_types_are_copied_once() {
    let handler = Options::new().memfd().size(32 << 20).create().expect("a memory file");
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..100).map(|row| Some((0..row).map(Some))));
    let words: DictionaryArray<arrow_array::types::Int32Type> = (0..100).map(|row| ["a", "b", "c"][row % 3]).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("lists", Arc::new(lists)),
        ("words", Arc::new(words)),
        ("texts", Arc::new(StringArray::from_iter((0..100).map(|row| (row % 2 == 0).then(|| row.to_string()))))),
    ];
    let made = RecordBatch::try_from_iter(columns).expect("they are as long");
    let read = batch(copied(&handler, &made).expect("there is room")).expect("it is a batch");
    assert_eq!(read, made);
    lies_in(&handler, &addresses(&read));
}

#[test]
fn rows_of_all_numbers() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    for rows in [0, 1, 7, 8, 9, 63, 64, 65] {
        let mut builder = Builder::with_text(&handler, schema(), rows, &[(2, rows)]).expect("there is room");
        assert_eq!(builder.rows(), rows);
        builder.values::<Int64Type>(0).expect("it is such a column").fill(7);
        builder.values::<Float64Type>(1).expect("it is such a column").fill(0.5);
        builder.text(2, vec![&b"x"[..]; rows]).expect("there are so many");
        let read = batch(builder.finish()).expect("it is a batch");
        assert_eq!((read.num_rows(), read.column(1).null_count()), (rows, 0), "no row is null unless it is said");
        assert!(read.column(2).as_string::<i32>().iter().all(|text| text == Some("x")));
    }
}

#[test]
fn what_is_wrong_is_told() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let lists = Field::new("lists", DataType::new_list(DataType::Int64, false), false);
    let refused = Builder::new(&handler, Arc::new(Schema::new(vec![lists])), 1).err().expect("it has no fixed size");
    assert!(refused.to_string().contains("use `copied`"), "{refused}");
    assert!(matches!(Builder::new(&handler, schema(), 1 << 20), Err(Error::Matrix(_))), "there is no room");
    assert!(matches!(Builder::new(&handler, schema(), usize::MAX), Err(Error::Column { column: 0, .. })));
    let mut builder = Builder::with_text(&handler, schema(), 2, &[(2, 3)]).expect("there is room");
    let wrong = [
        builder.values::<Float64Type>(0).err(),
        builder.values::<Float64Type>(9).err(),
        builder.validity(0).err(),
        builder.text(0, []).err(),
        builder.text(2, [&b"a"[..]]).err(),
        builder.text(2, [&b"a"[..], b"b", b"c"]).err(),
        builder.text(2, [&b"ab"[..], b"cd"]).err(),
    ];
    assert!(wrong.iter().all(|error| matches!(error, Some(Error::Column { .. }))), "{wrong:?}");
    builder.text(2, [&b"\xFF"[..], b""]).expect("bytes are not looked at");
    assert!(matches!(batch(builder.finish()), Err(Error::Arrow(_))), "whoever reads them does");
    for bytes in [&b""[..], b"none", &[0xFF; 100], &[0; 100]] {
        assert!(matches!(batch(handler.message_from(bytes).expect("there is room")), Err(Error::Arrow(_))));
    }
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "what was refused is freed");
}
