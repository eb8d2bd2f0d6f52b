//! No allocation in the steady state: what a program does a million times costs no memory
//! management. A test binary of its own, because it counts the allocations of the whole process.

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use chopin_pg::{
    CopyIn, CopyOptions, CopyOut, Delivery, Drive, Event, PgConfig, PgConnection, Request,
    Statement, Submit,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test counts at a time.
static COUNTING: Mutex<()> = Mutex::new(());

/// How often everything is done while it is counted.
const TIMES: i32 = 500;

const SQL: &str = "select $1::int4 as id, $1::int4 * 2 as double";

/// A connection to the shared server, and the right to count.
fn connect() -> (PgConnection, std::sync::MutexGuard<'static, ()>) {
    let guard = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let server = testkit::shared();
    let config = PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres");
    (PgConnection::connect(&config).expect("the shared server takes connections"), guard)
}

/// How many allocations and reallocations `work` makes for the second half of the times that it is
/// done; the first half brings every buffer to its size.
fn allocations(mut work: impl FnMut(i32)) -> usize {
    (0..TIMES).for_each(&mut work);
    let region = Region::new(COUNTED);
    (0..TIMES).for_each(&mut work);
    let change = region.change();
    change.allocations + change.reallocations
}

/// Moves bytes and takes events until `count` requests are complete; the sum of the first column.
fn drive_to_end(db: &mut PgConnection, mut count: usize) -> i64 {
    let mut sum = 0;
    db.flush();
    while count > 0 {
        let drive = db.drive();
        let mut idle = drive == Drive::Idle;
        while let Some(event) = db.next_event().expect("the connection holds") {
            idle = false;
            match event {
                Event::Row { row, .. } => sum += i64::from(row.get::<i32>("id").expect("an int4")),
                Event::Complete { .. } => count -= 1,
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        if idle && count > 0 {
            std::thread::yield_now();
        }
    }
    sum
}

#[test]
fn h45_a_cached_query_through_submit_and_next_event_allocates_nothing() {
    let (mut db, _counting) = connect();
    for delivery in [Delivery::Events, Delivery::Rows] {
        let count = allocations(|i| {
            let ticket = db.submit(Request::Query { sql: SQL, params: &(i,) }, delivery);
            let _ = ticket.expect("it is queued");
            assert_eq!(drive_to_end(&mut db, 1), i64::from(i));
        });
        assert_eq!(count, 0, "{delivery:?}");
    }
}

#[test]
fn h45_a_streamed_query_allocates_nothing() {
    let (mut db, _counting) = connect();
    let count = allocations(|i| {
        let mut rows = db.stream(SQL, (i,)).expect("it is queued");
        while let Some(row) = rows.next().expect("a row or the end") {
            assert_eq!(row.to::<(i32, i32)>().expect("two int4"), (i, 2 * i));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn h45_a_streamed_row_allocates_nothing() {
    let (mut db, _counting) = connect();
    let sql = "select i, i::text, repeat('x', 100) from generate_series(1, $1) i";
    let count = allocations(|_| {
        let mut rows = db.stream(sql, (200,)).expect("it is queued");
        let mut sum = 0;
        while let Some(row) = rows.next().expect("a row or the end") {
            let (id, text, long): (i32, &str, &str) = row.to().expect("the columns");
            sum += id + i32::try_from(text.len() + long.len()).expect("short texts");
        }
        assert_eq!(sum, 200 * 201 / 2 + 200 * 100 + 9 + 180 + 303);
    });
    assert_eq!(count, 0);
}

#[test]
fn h45_pipelines_of_cached_statements_allocate_nothing() {
    let (mut db, _counting) = connect();
    let statement: Statement = db.prepare(SQL).expect("a right statement");
    for in_one_group in [true, false] {
        let count = allocations(|i| {
            for k in 0..20 {
                let submit = Submit::new(Delivery::Rows);
                let submit = if in_one_group && k < 19 { submit.no_sync() } else { submit };
                let request = Request::Execute { statement: &statement, params: &(i + k,) };
                let _ticket = db.submit_with(request, submit).expect("it is queued");
            }
            assert_eq!(drive_to_end(&mut db, 20), i64::from(20 * i + 190));
        });
        assert_eq!(count, 0, "in one group: {in_one_group}");
    }
}

#[test]
fn h45_a_collected_query_allocates_its_rows_and_no_more() {
    let (mut db, _counting) = connect();
    let count = allocations(|i| {
        let rows = db.query(SQL, &[&i]).expect("it runs");
        assert_eq!(rows[0].to::<(i32, i32)>().expect("two int4"), (i, 2 * i));
    });
    let per_query = count / usize::try_from(TIMES).expect("a small number");
    assert!(per_query <= 4, "{per_query} allocations for each query");

    // Of many rows: the arena doubles, so the allocations grow with the logarithm.
    let sql = "select i from generate_series(1, $1) i";
    let of = |db: &mut PgConnection, rows: i32| {
        db.query(sql, &[&rows]).expect("it runs");
        let region = Region::new(COUNTED);
        let found = db.query(sql, &[&rows]).expect("it runs");
        assert_eq!(found.len(), usize::try_from(rows).expect("a small number"));
        let change = region.change();
        change.allocations + change.reallocations
    };
    let (few, many) = (of(&mut db, 1_000), of(&mut db, 64_000));
    assert!(many <= few + 2 * 7, "{few} allocations for 1,000 rows, {many} for 64,000");
}

/// How many rows are written or read while allocations are counted; more than any buffer holds.
const ROWS: i32 = 50_000;

fn counted(work: impl FnOnce()) -> (usize, usize) {
    let region = Region::new(COUNTED);
    work();
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

#[test]
fn h45_a_row_of_a_typed_copy_in_allocates_nothing() {
    let (mut db, _counting) = connect();
    db.execute_batch("create temp table t (a int4, b text, c float8, d int8, e numeric)")
        .expect("a table");
    let word = "x".repeat(32);
    let copy = CopyIn::table("t").options(CopyOptions::binary());
    let mut writer = db.copy_in(copy).expect("it begins");
    // The last three are converted.
    let mut write = |i: i32| writer.write_row((i, word.as_str(), i, i, i)).expect("a row");
    (0..ROWS).for_each(&mut write);
    let (count, _) = counted(|| (0..ROWS).for_each(&mut write));
    // The queue for what the socket does not take at once may get its size only now.
    assert!(count <= 3, "{count} allocations for {ROWS} rows");
    assert_eq!(writer.finish().expect("it ends"), 2 * u64::from(ROWS.unsigned_abs()));
}

#[test]
fn h45_a_row_of_a_typed_copy_out_allocates_nothing() {
    let (mut db, _counting) = connect();
    let query =
        format!("select i, repeat('x', 32), i::float8 from generate_series(1, {}) i", 2 * ROWS);
    let copy = CopyOut::query(&query).options(CopyOptions::binary());
    let mut reader = db.copy_out(copy).expect("it begins");
    let mut read = |i: i32| {
        let row = reader.next_row().expect("a row or the end").expect("a row");
        let (id, word, float): (i32, &str, f64) = row.to().expect("the columns");
        assert_eq!((id, word.len(), float), (i + 1, 32, f64::from(i + 1)));
    };
    (0..ROWS).for_each(&mut read);
    let (count, _) = counted(|| (ROWS..2 * ROWS).for_each(&mut read));
    assert_eq!(count, 0);
    assert!(reader.next_row().expect("the end").is_none());
}

#[test]
fn s10_11_s10_10_data_of_a_copy_are_sent_from_where_they_are() {
    let (mut db, _counting) = connect();
    db.execute_batch("create temp table t (a text)").expect("a table");
    let mut data = b"0123456789abcde\n".repeat(1 << 20);
    data.truncate(data.len() - 1);
    let mut writer = db.copy_in("copy t from stdin").expect("it begins");
    writer.write_data(&data).expect("it takes data");
    let (_, bytes) = counted(|| {
        writer.write_data(b"\n").expect("it takes data");
        writer.write_data(&data).expect("it takes data");
    });
    // What the socket did not take at once is queued, one piece at a time.
    assert!(bytes < 1 << 20, "{bytes} bytes allocated for {} bytes of data", data.len());
    assert_eq!(writer.finish().expect("it ends"), 2 << 20);
}
