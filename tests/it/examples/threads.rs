//! examples/worker_threads.rs and examples/mio_loop.rs.

#[path = "../../../examples/mio_loop.rs"]
#[allow(dead_code, reason = "the program's own main is not called")]
mod mio_loop;
#[path = "../../../examples/worker_threads.rs"]
#[allow(dead_code, reason = "the program's own main is not called")]
mod worker_threads;

use clap::{CommandFactory, Parser};

use self::worker_threads::Options;
use super::Database;

#[test]
fn b24_threads_with_pools_of_their_own_do_each_job_once() {
    let database = Database::new("threads");
    let all = ["worker_threads", "--url", &database.url, "--jobs", "400"];
    let run = |threads| {
        let options = Options::try_parse_from(all.iter().chain(&["--threads", threads])).unwrap();
        worker_threads::run(&options).unwrap()
    };
    // One after another, so that it is known which of them find enough.
    let mut balances = [100_i64; 10];
    let (mut done, mut refused) = (0, 0);
    for number in 0..400 {
        let amount = i64::try_from(number % 120).unwrap();
        match balances[number % 10] < amount {
            true => refused += 1,
            false => {
                balances[number % 10] -= amount;
                balances[number * 7 % 10] += amount;
                done += 1;
            }
        }
    }
    assert!(refused > 0);
    let one = run("1");
    assert_eq!((one.done, one.refused, one.balance), (done, refused, 1000));
    let several = run("4");
    assert_eq!((several.done + several.refused, several.balance), (400, 1000));
    assert!(several.refused > 0);
    let mut db = database.connect();
    let sql = "select count(*) from pg_class where relname = 'worker_threads'";
    assert_eq!(db.query_one(sql, &[]).unwrap().get::<i64>(0).unwrap(), 0, "it tidies up");
    Options::command().debug_assert();
}

#[test]
fn b23_b24_a_pool_in_a_loop_of_mio_answers_everything() {
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "postgres");
    let report = mio_loop::run(&url, 2000).unwrap();
    assert_eq!((report.answered, report.counted), (2000, 500));
    assert_eq!(report.sum, (0..2000).map(|n| n * n).sum::<i64>());
    assert!((2..=3).contains(&report.connections), "{report:?}");
    let error = mio_loop::run("postgres://frederic@127.0.0.1:1/none", 1).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
