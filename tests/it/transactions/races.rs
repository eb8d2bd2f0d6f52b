//! Cancels and late answers that hit what begins, ends and cleans up.

use super::*;

/// The end of a simple query that fails.
fn refuse(conn: &mut FakeConn, sql: &str, code: &str, status: u8) -> Result<(), FakeError> {
    conn.expect_query(sql)?;
    fail(conn, code, status)
}

fn fail(conn: &mut FakeConn, code: &str, status: u8) -> Result<(), FakeError> {
    let error = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', code), (b'M', "no")];
    conn.send_frames(&[frames::error_response(&error), frames::ready_for_query(status)])
}

/// Waits for the query, and until the client has given it up.
fn let_time_out(
    conn: &mut FakeConn,
    sql: &str,
    gone: &Mutex<std::sync::mpsc::Receiver<()>>,
) -> Result<(), FakeError> {
    conn.expect_query(sql)?;
    let gone = gone.lock().unwrap().recv_timeout(LONG);
    Ok(gone.map_err(|_| "the client waits for ever")?)
}

#[test]
fn h13_s7_3_a_rollback_that_a_cancel_hits_is_written_again() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        answer(conn, "SLOW", b'T')?;
        // The server had begun with it when the cancel came, and twice so.
        refuse(conn, "ROLLBACK", "57014", b'E')?;
        refuse(conn, "ROLLBACK", "57014", b'E')?;
        answer(conn, "ROLLBACK", b'I')?;
        answer_mine(conn)
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let tx = {
        let mut tx = db.begin_transaction().unwrap();
        let _ticket = tx.submit(Request::Simple { sql: "SLOW" }, Delivery::Discard).unwrap();
        tx
    };
    drop(tx);
    end_with_mine(db, server);
}

#[test]
fn h13_s7_3_what_cleans_up_behind_it_is_written_again_too_and_only_then() {
    let nested = "ROLLBACK TO SAVEPOINT \"chopin_1\"; RELEASE SAVEPOINT \"chopin_1\"";
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        answer(conn, "SAVEPOINT \"chopin_1\"", b'T')?;
        refuse(conn, nested, "57014", b'E')?;
        refuse(conn, "ROLLBACK", "25P02", b'E')?;
        refuse(conn, nested, "25P02", b'E')?;
        answer(conn, "ROLLBACK", b'I')?;
        answer_mine(conn)
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let mut tx = db.begin_transaction().unwrap();
    drop(tx.begin_transaction().unwrap());
    drop(tx);
    end_with_mine(db, server);
}

#[test]
fn h13_b14_s7_3_a_commit_that_is_cancelled_late_leaves_nothing_open() {
    for end in ["COMMIT", "ROLLBACK"] {
        let (go, gone) = channel::<()>();
        let gone = Mutex::new(gone);
        let server = FakeServer::start(move |conn| {
            conn.login()?;
            answer(conn, "BEGIN", b'T')?;
            let_time_out(conn, end, &gone)?;
            fail(conn, "57014", b'E')?;
            answer(conn, "ROLLBACK", b'I')?;
            answer_mine(conn)
        });
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        let mut tx = db.begin_transaction().unwrap();
        tx.set_io_timeout(SHORT);
        let result = if end == "COMMIT" { tx.commit() } else { tx.rollback() };
        assert!(matches!(result, Err(PgError::Timeout(_))), "{result:?}");
        go.send(()).unwrap();
        db.set_io_timeout(LONG);
        end_with_mine(db, server);
    }
}

#[test]
fn h10_h13_a_savepoint_that_was_cancelled_revives_no_failed_transaction() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        answer(conn, "SAVEPOINT \"a\"", b'T')?;
        answer(conn, "WORK", b'T')?;
        let_time_out(conn, "SAVEPOINT \"a\"", &gone)?;
        fail(conn, "57014", b'E')?;
        // No ROLLBACK TO, which would find the outer one and undo the work.
        refuse(conn, "RELEASE SAVEPOINT \"a\"", "25P02", b'E')?;
        conn.expect_query("COMMIT")?;
        let tag = frames::command_complete("ROLLBACK");
        conn.send_frames(&[tag, frames::ready_for_query(b'I')])?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let mut tx = db.begin_transaction().unwrap();
    tx.savepoint("a").unwrap();
    tx.execute_batch("WORK").unwrap();
    tx.set_io_timeout(SHORT);
    assert!(matches!(tx.begin_savepoint("a"), Err(PgError::Timeout(_))));
    go.send(()).unwrap();
    tx.set_io_timeout(LONG);
    assert!(matches!(tx.commit(), Err(PgError::RolledBack)));
    drop(db);
    server.join();
}

#[test]
fn b17_h13_a_lock_that_was_cancelled_is_unlocked_as_it_may_have_been_given() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        refuse(conn, "SELECT pg_advisory_lock(7)", "57014", b'I')?;
        answer(conn, "SELECT pg_advisory_unlock(7)", b'I')?;
        conn.expect(b'S')?;
        conn.send_frames(&[frames::ready_for_query(b'I')])?;
        // Refused for another reason: it was not given.
        refuse(conn, "SELECT pg_advisory_lock(8)", "53200", b'I')?;
        answer_mine(conn)
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    for (key, code) in [(7, "57014"), (8, "53200")] {
        let error = db.advisory_lock(key).unwrap_err();
        assert_eq!(error.sql_state().unwrap().as_str(), code);
    }
    end_with_mine(db, server);
}

#[test]
fn b14_what_failed_before_the_transaction_is_no_reason_to_do_it_again() {
    let mut db = connect();
    let sql = "do $$ begin raise exception sqlstate '40001'; end $$";
    let _ticket = db.submit(Request::Simple { sql }, Delivery::Discard).unwrap();
    let mut attempts = 0;
    let result: PgResult<()> = db.run_serializable(3, |_| {
        attempts += 1;
        Err(PgError::Usage("mine".to_owned()))
    });
    assert!(matches!(result, Err(PgError::Usage(_))));
    assert_eq!(attempts, 1);
    assert_idle(&mut db);
}
