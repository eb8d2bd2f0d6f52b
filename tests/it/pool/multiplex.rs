//! Requests of many tasks on few connections.

use std::collections::HashMap;

use chopin_pg::PgError;

use super::*;

#[test]
fn b24_requests_of_many_share_connections_and_get_their_own_answers() {
    let pool = pool(PgPoolConfig::new().max_size(3).multiplex_window(8));
    let mut event_loop = Loop::new(&pool);
    let (mut expected, mut next, mut done) = (HashMap::new(), 0, 0);
    while done < 3_000 {
        while next < 3_000 && expected.len() < 100 {
            let ticket = match next % 3 {
                0 => pool.submit("select $1 || '!'", (next.to_string(),)).unwrap(),
                1 => pool.submit("select ($1 + 0)::text || '!'", (next,)).unwrap(),
                _ => pool.submit("select 1 / ($1 - $1)", (next,)).unwrap(),
            };
            expected.insert(ticket, next);
            next += 1;
        }
        for event in event_loop.turn() {
            match event {
                PoolEvent::Complete { ticket, outcome } => {
                    let number = expected.remove(&ticket).expect("its own ticket");
                    let text: String = outcome.into_rows()[0].get(0).unwrap();
                    assert_eq!(text, format!("{number}!"));
                }
                PoolEvent::Failed { ticket, error } => {
                    let number = expected.remove(&ticket).expect("its own ticket");
                    assert_eq!(number % 3, 2, "{error}");
                    assert_eq!(error.sql_state(), Some(chopin_pg::SqlState::DIVISION_BY_ZERO));
                }
                other => panic!("{other:?}"),
            }
            done += 1;
        }
        event_loop.wait();
    }
    let stats = pool.stats();
    assert_eq!((stats.size, stats.requests), (3, 3_000));
    assert!(stats.most_queued_requests >= 100 - 3 * 8, "{stats:?}");
    event_loop.until(|stats| stats.idle == 3);
}

#[test]
fn b24_what_changes_the_session_is_refused() {
    let pool = pool(PgPoolConfig::new());
    for sql in [
        "begin",
        " start transaction",
        "COMMIT",
        "end",
        "rollback",
        "abort",
        "savepoint a",
        "release a",
        "prepare p as select 1",
        "execute p",
        "declare c cursor for select 1",
        "listen c",
        "unlisten c",
        "set a = b",
        "reset all",
        "copy t from stdin",
        "discard all",
        "deallocate all",
        "load 'x'",
        "/* a /* b */ */ -- c\n (; set x to y",
    ] {
        let error = pool.submit(sql, ()).unwrap_err();
        assert!(matches!(error, PgError::Usage(_)), "{sql}: {error}");
        assert!(error.to_string().contains("acquire() or get()"), "{error}");
    }
    let mut event_loop = Loop::new(&pool);
    let ticket = pool.submit("(select 'settled' as setting)", ()).unwrap();
    let event = event_loop.event();
    assert!(matches!(event, PoolEvent::Complete { ticket: own, .. } if own == ticket));
}
