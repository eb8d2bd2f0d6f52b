//! Which transaction runs where.

use std::thread;

use testkit::frames::message;
use testkit::pooler::{Pooling, Switch};
use testkit::raw::RawClient;
use testkit::transport::Target;

use crate::support::*;

#[test]
fn transactions_take_turns_in_all_server_connections() {
    let pooler = pooler(Pooling::connections(3));
    let mut client = connect(&pooler);
    let backends: Vec<u32> = (0..7).map(|_| backend_of(&mut client)).collect();
    assert_eq!(distinct(&backends), 3);
    assert_eq!(backends[..3], backends[3..6]);
    assert_eq!(backends[0], backends[6]);
    assert_eq!(pooler.served_by(), backends);
    assert_eq!(pooler.switches(), 6);
    drop(client);

    // The turn goes on with the next client, which is served by the same connections.
    let target = Target::socket(pooler.socket_dir(), pooler.port());
    let mut client = RawClient::connect(&target, "postgres", "postgres", None).unwrap();
    assert_eq!(backend_of(&mut client), backends[1]);
    assert_eq!(pooler.switches(), 6, "it is another client's first transaction");
    assert_eq!(pooler.connections(), 2);
}

#[test]
fn a_transaction_stays_in_one_backend() {
    let pooler = pooler(Pooling::default());
    let mut client = connect(&pooler);
    client.simple("BEGIN").unwrap();
    assert_eq!(client.transaction_status(), b'T');
    let begun = backend_of(&mut client);
    for _ in 0..3 {
        assert_eq!(cell(&ask(&mut client, &unnamed(MY_PID))), begun.to_string());
    }
    client.simple("COMMIT").unwrap();
    assert_ne!(backend_of(&mut client), begun);
    assert_eq!(pooler.served_by().len(), 2);

    // Neither does a Flush end it.
    let flushed = [parse("", MY_PID), bind_and_execute(""), message(b'H', b"")].concat();
    client.write(&flushed).unwrap();
    let row = (0..3).map(|_| client.receive().unwrap()).last().unwrap();
    assert_eq!(cell(&[row]), begun.to_string());
    assert_eq!(client.receive().unwrap().tag, b'C');
    let rest = ask(&mut client, &[bind_and_execute(""), sync()].concat());
    assert_eq!((tags(&rest), cell(&rest)), ("2DCZ".to_owned(), begun.to_string()));
    assert_eq!(pooler.served_by().len(), 3);
}

#[test]
fn a_named_statement_is_gone_in_the_next_transaction_and_in_the_way_later() {
    let pooler = pooler(Pooling::default());
    let mut client = connect(&pooler);
    let prepare = [parse("s1", MY_PID), sync()].concat();
    let run = [bind_and_execute("s1"), sync()].concat();
    assert_eq!(tags(&ask(&mut client, &prepare)), "1Z");
    assert_eq!(error_code(&ask(&mut client, &run)).as_deref(), Some("26000"));
    assert_eq!(error_code(&ask(&mut client, &prepare)).as_deref(), Some("42P05"));
    assert_eq!(tags(&ask(&mut client, &prepare)), "1Z");

    // Another client meets what this one has left.
    drop(client);
    let mut client = connect(&pooler);
    assert_eq!(error_code(&ask(&mut client, &prepare)).as_deref(), Some("42P05"));
    assert_eq!(tags(&ask(&mut client, &run)), "2DCZ");
}

#[test]
fn an_unnamed_statement_in_one_round_trip_works_in_every_transaction() {
    let pooler = pooler(Pooling::connections(3));
    let mut client = connect(&pooler);
    let answers = [(); 9].map(|()| ask(&mut client, &unnamed(MY_PID)));
    assert!(answers.iter().all(|frames| tags(frames) == "12DCZ"));
    assert_eq!(distinct(answers.iter().map(|frames| cell(frames))), 3);
}

#[test]
fn pipelined_groups_are_answered_in_order_each_from_another_backend() {
    let pooler = pooler(Pooling::connections(3));
    let mut client = connect(&pooler);
    let select = |i: usize| format!("SELECT {i} || ' ' || pg_backend_pid()");
    let groups = (0..50).map(|i| match i % 3 {
        0 => query(&select(i)),
        1 => [parse("", "SELECT 1/0"), bind_and_execute(""), sync()].concat(),
        _ => unnamed(&select(i)),
    });
    client.write(&groups.collect::<Vec<_>>().concat()).unwrap();
    for i in 0..50 {
        let frames = answer(&mut client);
        if i % 3 == 1 {
            assert_eq!(error_code(&frames).as_deref(), Some("22012"));
            continue;
        }
        let cell = cell(&frames);
        let (number, backend) = cell.split_once(' ').unwrap();
        assert_eq!(number, i.to_string());
        assert_eq!(backend, pooler.served_by()[i].to_string());
    }
    assert_eq!(pooler.served_by().len(), 50);
    assert_eq!(pooler.switches(), 49);
}

#[test]
fn a_pipelined_transaction_stays_in_one_backend() {
    let pooler = pooler(Pooling::default());
    let mut client = connect(&pooler);
    let block = ["BEGIN", MY_PID, MY_PID, "COMMIT"].map(unnamed).concat();
    client.write(&[block.clone(), block].concat()).unwrap();
    let mut backends: Vec<u32> = Vec::new();
    for _ in 0..2 {
        let answers = [(); 4].map(|()| answer(&mut client));
        assert_eq!(cell(&answers[1]), cell(&answers[2]));
        backends.push(cell(&answers[1]).parse().unwrap());
    }
    assert_ne!(backends[0], backends[1]);
    assert_eq!(pooler.served_by(), backends);
}

#[test]
fn an_error_leaves_a_transaction_where_it_is_until_it_is_rolled_back() {
    let pooler = pooler(Pooling::default());
    let mut client = connect(&pooler);
    client.simple("BEGIN").unwrap();
    assert_eq!(client.simple("SELECT 1/0").unwrap_err().code(), Some("22012"));
    assert_eq!(client.transaction_status(), b'E');
    assert_eq!(client.value(MY_PID).unwrap_err().code(), Some("25P02"));
    assert_eq!(error_code(&ask(&mut client, &unnamed(MY_PID))).as_deref(), Some("25P02"));
    assert_eq!(pooler.served_by().len(), 1);
    client.simple("ROLLBACK").unwrap();
    assert_eq!(client.transaction_status(), b'I');
    let next = backend_of(&mut client);
    assert_eq!(pooler.served_by().len(), 2);
    assert_eq!(pooler.served_by()[1], next);
    assert_ne!(pooler.served_by()[0], next);
}

#[test]
fn two_clients_never_get_the_same_connection_twice_in_a_row() {
    let pooler = pooler(Pooling::default());
    let (mut one, mut two) = (connect(&pooler), connect(&pooler));
    for _ in 0..3 {
        backend_of(&mut one);
        backend_of(&mut two);
    }
    assert_eq!(pooler.switches(), 4);

    one.simple("BEGIN").unwrap();
    let held = backend_of(&mut one);
    two.write(&[query(MY_PID), query(MY_PID)].concat()).unwrap();
    assert_ne!(cell(&answer(&mut two)), held.to_string());
    // The free one is the one it had: it waits for the other.
    one.simple("COMMIT").unwrap();
    assert_eq!(cell(&answer(&mut two)), held.to_string());
}

#[test]
fn many_clients_share_few_connections() {
    const CLIENTS: usize = 12;
    const ROUNDS: usize = 20;
    let pooler = pooler(Pooling::connections(3));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = connect(&pooler);
            scope.spawn(move || {
                let mut previous = 0;
                for _ in 0..ROUNDS {
                    client.simple("BEGIN").unwrap();
                    let backend = backend_of(&mut client);
                    assert_ne!(backend, previous);
                    assert_eq!(backend_of(&mut client), backend);
                    client.simple("COMMIT").unwrap();
                    previous = backend;
                }
            });
        }
    });
    assert_eq!(pooler.served_by().len(), CLIENTS * ROUNDS);
    assert_eq!(distinct(pooler.served_by()), 3);
    assert_eq!(pooler.switches(), CLIENTS * (ROUNDS - 1));
}

#[test]
fn without_switching_a_client_keeps_its_connection() {
    let pooler = pooler(Pooling::default().switch(Switch::Never));
    let (mut one, mut two) = (connect(&pooler), connect(&pooler));
    let prepare = [parse("s1", MY_PID), sync()].concat();
    let run = [bind_and_execute("s1"), sync()].concat();
    for client in [&mut one, &mut two] {
        assert_eq!(tags(&ask(client, &prepare)), "1Z");
    }
    let backends = [(); 3].map(|()| (cell(&ask(&mut one, &run)), cell(&ask(&mut two, &run))));
    assert_eq!(distinct(&backends), 1);
    assert_ne!(backends[0].0, backends[0].1);
    assert_eq!((pooler.served_by().len(), pooler.switches()), (8, 0));
}

#[test]
#[should_panic(expected = "at least 2 connections")]
fn one_connection_is_too_few_to_switch() {
    let _never = pooler(Pooling::connections(1));
}
