//! What comes back is clean, as the policy says.

use chopin_pg::{Delivery, PgConnection, Request, ResetPolicy};

use super::*;

/// What a user leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    OpenTransaction,
    FailedTransaction,
    Setting,
    TempTable,
    AdvisoryLock,
    Listen,
    HalfReadResult,
    UnsentRequests,
    HeldCursor,
    Panic,
}

const ALL: [Left; 10] = [
    Left::OpenTransaction,
    Left::FailedTransaction,
    Left::Setting,
    Left::TempTable,
    Left::AdvisoryLock,
    Left::Listen,
    Left::HalfReadResult,
    Left::UnsentRequests,
    Left::HeldCursor,
    Left::Panic,
];

/// An advisory lock that no other test takes.
const LOCK: i64 = 5_724_024_001;

impl Left {
    /// Leaves it.
    fn leave(self, guard: &mut ConnectionGuard) {
        let batch = |guard: &mut ConnectionGuard, sql: &str| guard.execute_batch(sql).unwrap();
        match self {
            Self::OpenTransaction => batch(guard, "begin; create table left_by_reset (n int)"),
            Self::FailedTransaction => {
                guard.begin().unwrap();
                guard.execute("select 1 / 0", &[]).unwrap_err();
            }
            Self::Setting => batch(guard, "set statement_timeout = '12345ms'"),
            Self::TempTable => batch(guard, "create temp table left_here (n int)"),
            Self::AdvisoryLock => batch(guard, &format!("select pg_advisory_lock({LOCK})")),
            Self::Listen => batch(guard, "listen left_here"),
            Self::HalfReadResult => {
                let sql = "select n, repeat('x', 1000) from generate_series(1, 20000) n";
                let request = Request::Query { sql, params: &() };
                let _ticket = guard.submit(request, Delivery::Events).unwrap();
                guard.flush();
                let _ = guard.drive();
                let _row = guard.next_event().unwrap();
            }
            Self::UnsentRequests => {
                let request = Request::Simple { sql: "create table never_sent (n int)" };
                let _ticket = guard.submit(request, Delivery::Collect).unwrap();
            }
            Self::HeldCursor => {
                batch(guard, "declare left_here cursor with hold for select generate_series(1, 9)")
            }
            // Handled by the caller.
            Self::Panic => batch(guard, "begin; create table left_by_panic (n int)"),
        }
    }

    /// Whether it is still there.
    fn is_there(self, db: &mut PgConnection) -> bool {
        let mut count =
            |sql: &str| db.query_one(sql, &[]).unwrap().get::<i64>(0).expect("a count") > 0;
        match self {
            Self::OpenTransaction => {
                count("select count(*) from pg_class where relname = 'left_by_reset'")
            }
            Self::FailedTransaction => db.transaction_status() != TransactionStatus::Idle,
            Self::Setting => count(
                "select count(*) from pg_settings where name = 'statement_timeout' and setting = '12345'",
            ),
            Self::TempTable => count("select count(*) from pg_class where relname = 'left_here'"),
            Self::AdvisoryLock => count(
                "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            ),
            Self::Listen => count("select count(*) from pg_listening_channels()"),
            Self::HalfReadResult => false,
            Self::UnsentRequests => {
                count("select count(*) from pg_class where relname = 'never_sent'")
            }
            Self::HeldCursor => count("select count(*) from pg_cursors where name = 'left_here'"),
            Self::Panic => count("select count(*) from pg_class where relname = 'left_by_panic'"),
        }
    }

    /// Whether the policy leaves it.
    fn stays(self, policy: &ResetPolicy) -> bool {
        match self {
            // What was not sent, and what was not read, is never left; nor is a panic.
            Self::HalfReadResult | Self::UnsentRequests | Self::Panic => false,
            Self::OpenTransaction | Self::FailedTransaction => *policy == ResetPolicy::None,
            _ => {
                matches!(policy, ResetPolicy::None | ResetPolicy::Rollback | ResetPolicy::Custom(_))
            }
        }
    }
}

/// Leaves it on the one connection of a pool, and looks what the next user finds.
fn check(policy: &ResetPolicy, left: Left, is_loop: bool) {
    let pool = pool(PgPoolConfig::new().max_size(1).reset_policy(policy.clone()));
    let mut event_loop = Loop::new(&pool);
    let mut guard = if is_loop { event_loop.acquire() } else { pool.get().unwrap() };
    let before = pid(&mut guard);
    left.leave(&mut guard);
    if left == Left::Panic {
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = guard;
            std::panic::resume_unwind(Box::new("a panic under a guard"));
        }));
        assert!(unwound.is_err());
    } else {
        drop(guard);
    }
    let mut next = if is_loop { event_loop.acquire() } else { pool.get().unwrap() };
    let case = format!("{policy:?}, {left:?}");
    if left == Left::FailedTransaction && *policy == ResetPolicy::None {
        assert_eq!(next.transaction_status(), TransactionStatus::Failed, "{case}");
        next.rollback().unwrap();
    } else {
        assert_eq!(left.is_there(&mut next), left.stays(policy), "{case}");
    }
    let is_same = pid(&mut next) == before;
    assert_eq!(
        is_same,
        left != Left::Panic || *policy != ResetPolicy::None,
        "{case}: same session"
    );
    if next.transaction_status() != TransactionStatus::Idle {
        next.rollback().unwrap();
    }
    assert_usable(&mut next);
}

fn check_all(policy: &ResetPolicy) {
    for left in ALL {
        check(policy, left, false);
        check(policy, left, true);
    }
}

#[test]
fn h7_reset_policy_none() {
    check_all(&ResetPolicy::None);
}

#[test]
fn h7_reset_policy_rollback() {
    check_all(&ResetPolicy::Rollback);
}

#[test]
fn h7_s10_3_reset_policy_session() {
    check_all(&ResetPolicy::Session);
}

#[test]
fn h7_s10_3_reset_policy_discard_all() {
    check_all(&ResetPolicy::DiscardAll);
}

#[test]
fn h7_reset_policy_custom() {
    check_all(&ResetPolicy::Custom("select 1".to_owned()));
}

#[test]
fn h7_session_keeps_prepared_statements_and_discard_all_does_not() {
    for (policy, kept) in [(ResetPolicy::Session, true), (ResetPolicy::DiscardAll, false)] {
        let pool = pool(PgPoolConfig::new().max_size(1).reset_policy(policy.clone()));
        let mut guard = pool.get().unwrap();
        guard.query("select 'kept', $1::int4", &[&1]).unwrap();
        drop(guard);
        let mut guard = pool.get().unwrap();
        let names = server_statements(&mut guard);
        assert_eq!(names.iter().any(|sql| sql.contains("'kept'")), kept, "{policy:?}: {names:?}");
        let row = guard.query_one("select 'kept', $1::int4", &[&2]).unwrap();
        assert_eq!(row.to::<(String, i32)>().unwrap(), ("kept".to_owned(), 2));
    }
}

#[test]
fn h7_what_the_driver_keeps_is_forgotten() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let mut guard = pool.get().unwrap();
    let default = guard.io_timeout();
    guard.set_io_timeout(Duration::from_millis(1));
    guard.set_notice_handler(|_| panic!("the notice of somebody else"));
    guard.set_tracer(|_| panic!("the message of somebody else"));
    drop(guard);
    let mut guard = pool.get().unwrap();
    assert_eq!(guard.io_timeout(), default);
    guard.execute_batch("do $$ begin raise notice 'mine'; end $$").unwrap();
    let notices: Vec<String> = guard.drain_notices().map(|notice| notice.message).collect();
    assert_eq!(notices, ["mine"]);
    assert_eq!(pool.stats().resets, 0, "nothing of it costs a round trip");
}

#[test]
fn h7_what_is_not_clean_in_time_is_closed() {
    let config = PgPoolConfig::new().max_size(1).reset_timeout(Duration::from_millis(40));
    let slow = config.reset_policy(ResetPolicy::Custom("select pg_sleep(20)".to_owned()));
    let pool = pool(slow);
    let first = pid(&mut pool.get().unwrap());
    let mut guard = pool.get().unwrap();
    assert_ne!(pid(&mut guard), first);
    assert_usable(&mut guard);
    assert_eq!(pool.stats().failed_resets, 1);
    // So is one whose reset fails.
    let failing = ResetPolicy::Custom("select no_such_column".to_owned());
    let pool = super::pool(PgPoolConfig::new().max_size(1).reset_policy(failing));
    let first = pid(&mut pool.get().unwrap());
    assert_ne!(pid(&mut pool.get().unwrap()), first);
    assert!(pool.stats().failed_resets >= 1);
}

#[test]
fn h7_a_transaction_that_somebody_has_left_is_not_joined_by_requests_of_others() {
    let pool = pool(PgPoolConfig::new().max_size(1).reset_policy(ResetPolicy::None));
    let mut event_loop = Loop::new(&pool);
    let mut guard = event_loop.acquire();
    let before = pid(&mut guard);
    guard.begin().unwrap();
    drop(guard);
    let asked = pool.submit("select pg_backend_pid()", ()).unwrap();
    match event_loop.event() {
        PoolEvent::Complete { ticket, outcome } => {
            assert_eq!(ticket, asked);
            assert_ne!(outcome.into_rows()[0].get::<i32>(0).unwrap(), before, "another session");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn h7_a_forgotten_guard_takes_what_it_left_with_it() {
    for policy in [
        ResetPolicy::None,
        ResetPolicy::Rollback,
        ResetPolicy::Session,
        ResetPolicy::DiscardAll,
        ResetPolicy::Custom("select 1".to_owned()),
    ] {
        let pool = pool(PgPoolConfig::new().max_size(2).reset_policy(policy));
        let mut guard = pool.get().unwrap();
        let before = pid(&mut guard);
        guard.execute_batch("begin; set local work_mem = '77kB'").unwrap();
        std::mem::forget(guard);
        let mut other = pool.get().unwrap();
        assert_ne!(pid(&mut other), before);
        assert_eq!(other.transaction_status(), TransactionStatus::Idle);
        assert!(matches!(pool.get().unwrap_err(), chopin_pg::PgError::PoolExhausted(_)));
    }
}

#[test]
fn h7_session_resets_roles_and_sequences() {
    let pool = pool(PgPoolConfig::new().max_size(1).reset_policy(ResetPolicy::Session));
    let mut guard = pool.get().unwrap();
    let user = "select current_user::text = session_user::text";
    guard
        .execute_batch(
            "create sequence if not exists s_reset; select nextval('s_reset'); \
             set role pg_monitor",
        )
        .unwrap();
    assert!(!guard.query_one(user, &[]).unwrap().get::<bool>(0).unwrap());
    drop(guard);
    let mut guard = pool.get().unwrap();
    assert!(guard.query_one(user, &[]).unwrap().get::<bool>(0).unwrap());
    let error = guard.query("select currval('s_reset')", &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(chopin_pg::SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
}

#[test]
fn h1_a_late_answer_never_reaches_the_next_user() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let mut late_ones = 0;
    for round in 0..20 {
        let mut guard = pool.get().unwrap();
        guard.set_io_timeout(Duration::from_millis(round % 4));
        let late = guard.query("select pg_sleep(0.003), 'of somebody else'", &[]);
        late_ones += u32::from(matches!(late, Err(chopin_pg::PgError::Timeout(_))));
        drop(guard);
        let mut guard = pool.get().unwrap();
        let row = guard.query_one("select 'mine'", &[]).unwrap();
        assert_eq!(row.get::<&str>(0).unwrap(), "mine", "after {late:?}");
    }
    assert!(late_ones > 5, "{late_ones} were late");
}

#[test]
fn h17_a_message_over_the_limit_costs_the_connection_and_the_pool_replaces_it() {
    let target = unix_config().max_message_size(64 * 1024);
    let pool = PgPool::new(target, PgPoolConfig::new().max_size(1)).unwrap();
    let mut guard = pool.get().unwrap();
    let first = pid(&mut guard);
    let error = guard.query("select repeat('x', 100000)", &[]).unwrap_err();
    assert!(error.to_string().contains("max_message_size"), "{error}");
    drop(guard);
    let mut guard = pool.get().unwrap();
    assert_ne!(pid(&mut guard), first);
    assert_usable(&mut guard);
    drop(guard);
    // And on the way of many requests: one answer is an error, the others are right.
    let mut event_loop = Loop::new(&pool);
    let large = pool.submit("select repeat('x', 100000)", ()).unwrap();
    match event_loop.event() {
        PoolEvent::Failed { ticket, error } => {
            assert_eq!(ticket, large);
            assert!(error.to_string().contains("max_message_size"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let _small = pool.submit("select 'small'", ()).unwrap();
    assert!(matches!(event_loop.event(), PoolEvent::Complete { .. }));
}
