//! Wire traces of pipelines, statements and batches against golden files in tests/traces.
//!
//! What differs from run to run is masked: the number in the names of statements, object ids that
//! were given out by this server, and where in the server's source code an error arose.

use std::time::Duration;

use chopin_pg::{
    CopyIn, CopyOptions, CopyOut, Delivery, ExecutionMode, PgConnection, PgError, Request, SqlState,
};

use super::golden;
use crate::support::{assert_usable, connect, run_events, traced};

/// The first object id that is given to what users create (`FirstNormalObjectId`).
const FIRST_OF_USERS: u32 = 16_384;

/// Runs `work` behind `set_up`, and compares its trace with a file.
#[track_caller]
fn trace(name: &str, set_up: &str, work: impl FnOnce(&mut PgConnection)) {
    let mut db = connect();
    db.execute_batch(set_up).unwrap();
    let lines = traced(&mut db, work);
    assert_usable(&mut db);
    let text: String = lines.iter().map(|line| mask(line) + "\n").collect();
    golden::check(&format!("traces/{name}.trace"), &text);
}

/// A line of a trace without what differs from run to run.
fn mask(line: &str) -> String {
    let line = mask_behind("pg_temp_", &mask_behind("chopin_", line));
    match line.splitn(4, '\t').collect::<Vec<_>>().as_slice() {
        [sender, _, name @ ("ErrorResponse" | "NoticeResponse"), text] => {
            let said = text.split(" F \"").next().unwrap_or_default();
            let place = r#"F "SSSS" L "SSSS" R "SSSS" \x00"#;
            format!("{sender}\tNN\t{name}\t{said} {place}")
        }
        [sender, length, name @ "CancelRequest", text] => {
            let mut words: Vec<_> = text.split(' ').collect();
            // The version, a process id, and the key, which is masked anyway.
            if let [_, _, _, process_id, _] = words.as_mut_slice() {
                *process_id = "NNNN";
            }
            format!("{sender}\t{length}\t{name}\t{}", words.join(" "))
        }
        [sender, length, name @ "RowDescription", text] => {
            let words: Vec<_> = text.split(' ').map(mask_object_id).collect();
            format!("{sender}\t{length}\t{name}\t{}", words.join(" "))
        }
        _ => line,
    }
}

/// The line with the same number behind each `prefix`.
fn mask_behind(prefix: &str, line: &str) -> String {
    let mut parts = line.split(prefix);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |masked, part| {
        masked + prefix + "NNNN" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit())
    })
}

fn mask_object_id(word: &str) -> &str {
    // The type length -1 is no object's number.
    let is_of_users = |id: u32| id >= FIRST_OF_USERS && id != 65_535;
    if word.parse().is_ok_and(is_of_users) { "NNNN" } else { word }
}

#[test]
fn what_differs_from_run_to_run_is_masked() {
    assert_eq!(
        mask("F\t42\tBind\t \"\" \"chopin_0123abcd_1\" \"chopin_ffffffff_22\""),
        "F\t42\tBind\t \"\" \"chopin_NNNN_1\" \"chopin_NNNN_22\""
    );
    assert_eq!(
        mask("B\t99\tErrorResponse\t S \"ERROR\" s \"pg_temp_12\" F \"a.c\" L \"7\" R \"f\" \\x00"),
        "B\tNN\tErrorResponse\t S \"ERROR\" s \"pg_temp_NNNN\" F \"SSSS\" L \"SSSS\" R \"SSSS\" \\x00"
    );
    assert_eq!(
        mask("F\t16\tCancelRequest\t 1234 5678 28744 <masked>"),
        "F\t16\tCancelRequest\t 1234 5678 NNNN <masked>"
    );
    assert_eq!(
        mask("B\t30\tRowDescription\t 1 \"x\" 16385 1 25 65535 -1 0"),
        "B\t30\tRowDescription\t 1 \"x\" NNNN 1 25 65535 -1 0"
    );
}

#[test]
fn b11_trace_of_a_simple_pipeline() {
    trace("simple_pipeline", "", |db| {
        let mut pipeline = db.pipeline();
        pipeline.query("select $1::int4 + 1 as answer", (41,)).unwrap();
        pipeline.query("select 'two' as word", ()).unwrap();
        let results = pipeline.finish().unwrap();
        let answer: i32 = results[0].as_ref().unwrap().rows()[0].get(0).unwrap();
        assert_eq!((answer, results.len()), (42, 2));
    });
}

#[test]
fn h29_trace_of_an_error_in_the_middle() {
    trace("error_in_the_middle", "create temp table t (x int4)", |db| {
        let mut pipeline = db.pipeline();
        pipeline.query("insert into t values ($1)", (1,)).unwrap();
        pipeline.query("select nme from t", ()).unwrap();
        pipeline.query("insert into t values ($1)", (2,)).unwrap();
        let results = pipeline.finish().unwrap();
        assert!(matches!(results[0], Err(PgError::RolledBack)));
        assert_eq!(results[1].as_ref().unwrap_err().sql_state(), Some(SqlState::UNDEFINED_COLUMN));
        assert!(matches!(results[2], Err(PgError::NotRun(_))));
    });
}

#[test]
fn b11_trace_of_several_syncs() {
    trace("several_syncs", "create temp table t (x int4)", |db| {
        let mut pipeline = db.pipeline();
        pipeline.query("insert into t values ($1)", (1,)).unwrap();
        pipeline.sync().unwrap();
        pipeline.query("select 1 / $1::int4", (0,)).unwrap();
        pipeline.sync().unwrap();
        // Known by now, but not yet known to be known: it carries a Parse of its own.
        pipeline.query("insert into t values ($1)", (2,)).unwrap();
        pipeline.query("select x from t", ()).unwrap();
        let results = pipeline.finish().unwrap();
        assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok());
        assert_eq!(results[3].as_ref().unwrap().rows().len(), 2);
    });
}

#[test]
fn b8_trace_of_prepared_statements_created_and_closed() {
    trace("prepared", "", |db| {
        let first = db.prepare("select $1::int4 as number").unwrap();
        let second = db.prepare("select 'word' as word").unwrap();
        db.query_prepared(&first, (7,)).unwrap();
        db.close_statement(&first).unwrap();
        // Prepared again, under another name.
        db.query_prepared(&first, (8,)).unwrap();
        // Each is closed with the next request.
        drop(first);
        db.query("select 'next' as word", &[]).unwrap();
        drop(second);
        db.query("select 'next' as word", &[]).unwrap();
    });
}

#[test]
fn h29_trace_of_a_unique_violation_in_a_batch() {
    trace("batch_unique_violation", "create temp table t (x int4 primary key)", |db| {
        let sets = [(1,), (2,), (1,), (3,)];
        let error = db.execute_many("insert into t values ($1)", sets).unwrap_err();
        let server = error.as_server().unwrap();
        assert_eq!((server.code, server.parameter_set), (SqlState::UNIQUE_VIOLATION, Some(2)));
        assert_eq!(
            db.execute_many("insert into t values ($1)", sets[..2].to_vec()).unwrap(),
            [1, 1]
        );
    });
}

#[test]
fn h47_trace_of_an_error_at_sync() {
    let set_up = "create temp table parent (id int4 primary key); \
        create temp table child (id int4 references parent deferrable initially deferred)";
    trace("error_at_sync", set_up, |db| {
        let mut pipeline = db.pipeline();
        pipeline.query("insert into child values ($1)", (1,)).unwrap();
        pipeline.query("select count(*) from child", ()).unwrap();
        let results = pipeline.finish().unwrap();
        assert!(matches!(results[0], Err(PgError::RolledBack)));
        let error = results[1].as_ref().unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::FOREIGN_KEY_VIOLATION));
        assert_eq!(error.as_server().unwrap().parameter_set, None, "no batch, no parameter set");
    });
}

#[test]
fn b9_h14_trace_of_a_stale_statement() {
    trace("stale_statement", "create temp table t (x int4)", |db| {
        db.query("select * from t", &[]).unwrap();
        db.execute_batch("alter table t add y text").unwrap();
        db.query("select * from t", &[]).unwrap();
        db.query("select * from t", &[]).unwrap();
    });
}

#[test]
fn b8_trace_of_the_other_modes() {
    trace("modes", "", |db| {
        for mode in [ExecutionMode::Unnamed, ExecutionMode::Simple] {
            let rows = db.query_in(mode, "select 7 as number", ()).unwrap();
            assert_eq!(rows[0].get::<i32>(0).unwrap(), 7);
        }
    });
}

#[test]
fn b7_b25_trace_of_a_cancel() {
    trace("cancel", "", |db| {
        let error = db.within(Duration::from_millis(50)).query("select pg_sleep(600)", &[]);
        assert!(matches!(error, Err(PgError::Timeout(_))));
        // Sent when the cancel and its target have ended.
        db.query("select 'next' as word", &[]).unwrap();
    });
}

#[test]
fn b12_trace_of_copies_in_and_out() {
    trace("copy", "create temp table t (x int4, y text)", |db| {
        let mut writer = db.copy_in("copy t from stdin").unwrap();
        writer.write_row((1, "one")).unwrap();
        writer.write_row((2, None::<&str>)).unwrap();
        assert_eq!(writer.finish().unwrap(), 2);
        let data = db.copy_out("copy t to stdout").unwrap().read_all().unwrap();
        assert_eq!(data, b"1\tone\n2\t\\N\n");
    });
}

#[test]
fn b10_portals_that_are_suspended_are_traced() {
    trace("portal_suspended", "begin", |db| {
        let mut cursor = db.query_cursor("select generate_series(1, $1::int4)", (3,)).unwrap();
        assert_eq!(db.fetch(&mut cursor, 2).unwrap().len(), 2);
        assert_eq!(db.query("select 'between'", &[]).unwrap().len(), 1);
        assert_eq!(db.fetch(&mut cursor, 2).unwrap().len(), 1);
        db.close_cursor(cursor).unwrap();
        db.commit().unwrap();
    });
}

#[test]
fn b12_trace_of_typed_copies() {
    trace("copy_binary", "create temp table t (x int4, y text)", |db| {
        let options = CopyOptions::binary;
        let mut writer = db.copy_in(CopyIn::table("t").options(options())).unwrap();
        writer.write_row((1, "one")).unwrap();
        assert_eq!(writer.finish().unwrap(), 1);
        let mut reader = db.copy_out(CopyOut::table("t").options(options())).unwrap();
        let row = reader.next_row().unwrap().unwrap();
        assert_eq!(row.to::<(i32, &str)>().unwrap(), (1, "one"));
        assert!(reader.next_row().unwrap().is_none());
    });
}

/// One that fails at its start, in its data, in its output; what stands around them succeeds.
#[test]
fn h6_trace_of_copies_that_fail() {
    trace("copy_errors", "create temp table t (x int4)", |db| {
        for sql in ["copy no_such from stdin", "copy t from stdin"] {
            let ticket = db.submit(Request::CopyIn { sql }, Delivery::Events).unwrap();
            db.copy_data(ticket, b"1\n").unwrap();
            db.copy_data(ticket, b"two\n").unwrap();
            db.copy_done(ticket).unwrap();
            run_events(db, 1, |_| {}).unwrap();
        }
        let sql = "copy (select 1 / (1 - i) from generate_series(0, 1) i) to stdout";
        let _ticket = db.submit(Request::CopyOut { sql }, Delivery::Events).unwrap();
        let _ticket = db.submit(Request::Sync, Delivery::Events).unwrap();
        run_events(db, 2, |_| {}).unwrap();
    });
}

#[test]
fn s9_19_trace_of_copies_that_are_given_up() {
    trace("copy_given_up", "create temp table t (x int4)", |db| {
        let ticket =
            db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
        db.copy_data(ticket, b"1\n").unwrap();
        db.copy_fail(ticket, "no more").unwrap();
        run_events(db, 1, |_| {}).unwrap();
        drop(db.copy_in("copy t from stdin").unwrap());
        let _ticket = db.submit(Request::Sync, Delivery::Events).unwrap();
        run_events(db, 1, |_| {}).unwrap();
    });
}
