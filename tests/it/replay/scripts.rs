//! The driver's own recorded sessions: what is asked, and when the answers are waited for.

use chopin_pg::{Delivery, ExecutionMode, Request, Submit};

use super::client::Client;

/// A session of the driver's.
pub(crate) struct Session {
    /// The transcript's file name without its ending.
    pub(crate) name: &'static str,
    pub(crate) role: &'static str,
    pub(crate) script: fn(&mut dyn Client),
}

/// All of them. The last time that a script waits for answers is the exchange that the sweeps cut.
pub(crate) const SESSIONS: &[Session] = &[
    login("driver_login_trust", "by_trust"),
    login("driver_login_cleartext", "by_password"),
    login("driver_login_md5", "by_md5"),
    login("driver_login_scram", "by_scram"),
    session("driver_simple", simple),
    session("driver_empty_query", empty_query),
    session("driver_parameters", parameters),
    session("driver_cached", cached),
    session("driver_prepared", prepared),
    session("driver_modes", modes),
    session("driver_errors", errors),
    session("driver_deferred_constraint", deferred_constraint),
    session("driver_messages", messages),
    session("driver_big_rows", big_rows),
    session("driver_transaction", transaction),
    session("driver_pipeline", pipeline),
    session("driver_pipeline_error_first", |client| pipeline_with_error(client, 0)),
    session("driver_pipeline_error_in_the_middle", |client| pipeline_with_error(client, 1)),
    session("driver_pipeline_error_last", |client| pipeline_with_error(client, 2)),
    session("driver_pipeline_error_at_sync", pipeline_error_at_sync),
    session("driver_several_syncs", several_syncs),
    session("driver_batch", batch),
    session("driver_batch_unique_violation", batch_unique_violation),
    session("driver_stale", stale),
    session("driver_lost", lost),
    session("driver_text_output", text_output),
    session("driver_copy_in_refused", copy_in_refused),
    session("driver_copy_out_refused", copy_out_refused),
    session("driver_terminated", terminated),
];

const fn session(name: &'static str, script: fn(&mut dyn Client)) -> Session {
    Session { name, role: "postgres", script }
}

const fn login(name: &'static str, role: &'static str) -> Session {
    Session { name, role, script: |client| client.simple("select current_user") }
}

impl Session {
    /// The session with this name.
    #[track_caller]
    pub(crate) fn named(name: &str) -> &'static Self {
        SESSIONS.iter().find(|session| session.name == name).expect("a session with this name")
    }
}

fn simple(client: &mut dyn Client) {
    client.simple(
        "create temp table works (id int4, title text); \
         insert into works values (1, 'Nocturne'), (2, null); \
         select * from works order by id; delete from works; select 'é' as e where false",
    );
    client.simple("select 1; select 1 / 0; select 2");
    client.simple("select nme from works");
    client.simple("select 'last' as word; select 7 as number");
}

fn empty_query(client: &mut dyn Client) {
    client.simple("");
    client.ask("", &());
    client.ask("-- nothing", &());
}

fn parameters(client: &mut dyn Client) {
    let sql = "select $1::int4 + 1 as answer, $2::text as word, $3::bool as flag";
    client.ask(sql, &(41, "né", Some(true)));
    // Known now: Bind and Execute alone. Its type counts, so with a NULL it is the same.
    client.ask(sql, &(1, "", None::<bool>));
    // Another type is another statement.
    client.ask(sql, &(1_i64, "x", None::<bool>));
}

fn cached(client: &mut dyn Client) {
    let sql = "select n, n * n as square from generate_series(1, $1) n";
    // The second one goes out before it is known whether the server takes the first.
    client.query(sql, &(2,));
    client.query(sql, &(1,));
    client.settle();
    client.ask(sql, &(3,));
}

fn prepared(client: &mut dyn Client) {
    let statement = client.prepare("select $1::text || '!' as shout");
    for word in ["forte", "piano"] {
        let request = Request::Execute { statement: &statement, params: &(word,) };
        client.submit(request, Submit::new(client.delivery()));
        client.settle();
    }
    // Closed with the next group.
    drop(statement);
    client.ask("select 1 as after", &());
    let statement = client.prepare("create temp table closed (x int4)");
    client.submit(Request::Close { statement: &statement }, Submit::new(client.delivery()));
    client.settle();
    let request = Request::Prepare { sql: "select 1 as one, 'zwei' as two", types: &[] };
    client.submit(request, Submit::new(Delivery::Collect));
    client.settle();
}

fn modes(client: &mut dyn Client) {
    let sql = "select 'mode' as word, 7 as number";
    for mode in [ExecutionMode::Unnamed, ExecutionMode::Simple, ExecutionMode::Unnamed] {
        let request = Request::Query { sql, params: &() };
        client.submit(request, Submit::new(client.delivery()).mode(mode));
        client.settle();
    }
}

fn errors(client: &mut dyn Client) {
    client.ask("selec 1", &());
    client.ask("select nme from pg_class where oid = $1", &(1,));
    // Only running it shows the error, after a row.
    client.ask("select 10 / n as tenth from generate_series(1, 0, -1) n", &());
    client.ask("select 1 as after", &());
    client.ask("select 1 / $1::int4 as quotient", &(0,));
}

/// Two tables, of which one refers to the other; that is checked at the end of a transaction.
const DEFERRED: &str = "create temp table parent (id int4 primary key); \
     create temp table child (id int4 references parent deferrable initially deferred)";

fn deferred_constraint(client: &mut dyn Client) {
    client.simple(DEFERRED);
    client.simple("begin");
    client.ask("insert into child values ($1)", &(1,));
    client.ask("commit", &());
    client.ask("select count(*) from child", &());
    // The command is complete, and then the Sync fails.
    client.ask("insert into child values ($1)", &(2,));
}

fn messages(client: &mut dyn Client) {
    client.simple("listen etude");
    client.ask("set application_name = 'etude'", &());
    client.ask("select pg_notify('etude', $1)", &("op. 10",));
    client.ask(
        "do $$ begin raise notice 'one'; raise notice 'two' using detail = 'more', hint = 'less'; \
         notify etude, 'op. 25'; raise exception 'three'; end $$",
        &(),
    );
    client.simple(
        "do $$ begin raise notice 'four'; end $$; notify etude; set timezone = 'Europe/Warsaw'; \
         select 5 as five",
    );
}

fn big_rows(client: &mut dyn Client) {
    // Larger than any buffer that is kept.
    client.ask("select repeat('x', $1) as big, null as none, 'tail' as tail", &(66_000,));
    client.ask("select n, repeat('y', 50) as y from generate_series(1, 20) n", &());
    client.ask("select 'small' as word", &());
}

fn transaction(client: &mut dyn Client) {
    client.simple("create temp table t (x int4)");
    client.simple("begin");
    client.ask("insert into t values ($1)", &(1,));
    client.simple("rollback");
    client.simple("begin");
    client.ask("select 1 / $1::int4", &(0,));
    client.ask("select 1 as one", &());
    client.simple("commit");
    client.simple("begin; insert into t values (2)");
    client.add("insert into t values ($1)", &(3,));
    client.add("commit", &());
    client.add("select count(*) from t", &());
    client.end_group();
    client.settle();
}

fn pipeline(client: &mut dyn Client) {
    client.simple("create temp table t (x int4, y text)");
    let in_group = Submit::new(client.delivery()).no_sync();
    client.add("insert into t values ($1, $2) returning x", &(1, "a"));
    client.add("select x, y from t", &());
    client.add("show transaction_isolation", &());
    let request =
        Request::Batch { sql: "insert into t values ($1, $2)", sets: &[(2, "b"), (3, "c")] };
    client.submit(request, in_group);
    client.add("select x, y from t", &());
    client.end_group();
    client.settle();
}

/// Three requests in a group, of which this one fails, and one behind it.
fn pipeline_with_error(client: &mut dyn Client, culprit: usize) {
    client.simple("create temp table t (x int4 primary key)");
    client.ask("insert into t values ($1)", &(0,));
    for place in 0..3 {
        let value = if place == culprit { 0 } else { 10 + i32::try_from(place).expect("small") };
        client.add("insert into t values ($1) returning x", &(value,));
    }
    client.end_group();
    client.query("select count(*) from t", &());
    client.settle();
}

fn pipeline_error_at_sync(client: &mut dyn Client) {
    client.simple(DEFERRED);
    client.add("insert into child values ($1)", &(1,));
    client.add("select count(*) from child", &());
    client.end_group();
    client.query("select count(*) from child", &());
    client.settle();
}

fn several_syncs(client: &mut dyn Client) {
    client.simple("create temp table t (x int4)");
    client.add("insert into t values ($1)", &(1,));
    client.add("insert into t values ($1)", &(2,));
    client.end_group();
    client.add("insert into t values ($1)", &(3,));
    client.add("select nme from t", &());
    client.add("insert into t values ($1)", &(4,));
    client.end_group();
    client.query("select x from t order by x", &());
    client.submit(Request::Sync, Submit::new(client.delivery()));
    client
        .submit(Request::Simple { sql: "select 'simple' as word" }, Submit::new(client.delivery()));
    client.settle();
}

fn batch(client: &mut dyn Client) {
    client.simple("create temp table t (x int4, y text)");
    let sets = [(1, "a"), (2, "b"), (3, "c")];
    let sql = "insert into t values ($1, $2)";
    client.submit(Request::Batch { sql, sets: &sets }, Submit::new(client.delivery()));
    client.settle();
    let sql = "update t set y = y || $2 where x >= $1 returning x, y";
    client.submit(Request::Batch { sql, sets: &sets }, Submit::new(client.delivery()));
    client.settle();
}

fn batch_unique_violation(client: &mut dyn Client) {
    client.simple("create temp table t (x int4 primary key)");
    let sql = "insert into t values ($1) returning x";
    let request = Request::Batch { sql, sets: &[(1,), (2,), (1,), (3,)] };
    client.submit(request, Submit::new(client.delivery()));
    client.query("select count(*) from t", &());
    client.settle();
}

fn stale(client: &mut dyn Client) {
    client.simple("create temp table t (x int4); insert into t values (1)");
    let sql = "select * from t";
    client.ask(sql, &());
    client.simple("alter table t add y text default 'new'");
    // Something stands behind it, so it is not written again but fails as not run.
    client.query(sql, &());
    client.query("select 'behind' as word", &());
    client.settle();
    client.ask(sql, &());
    client.simple("alter table t drop x");
    // Nothing stands behind it: it is written again.
    client.ask(sql, &());
}

fn lost(client: &mut dyn Client) {
    let sql = "select 'lost' as word";
    client.ask(sql, &());
    client.simple("discard all");
    client.ask(sql, &());
    // The server forgets, and the driver does not see it.
    client.simple("do $$ begin execute 'deallocate all'; end $$");
    client.ask(sql, &());
}

fn text_output(client: &mut dyn Client) {
    let sql = "select 1 as one, makeaclitem(10, 10, 'SELECT', false) as acl";
    // A type without binary output is learned, and the query written again.
    client.ask(sql, &());
    client.ask(sql, &());
}

fn copy_in_refused(client: &mut dyn Client) {
    client.simple("create temp table t (x int4)");
    client.simple("select 1 as one; copy t from stdin; select 2 as two");
}

fn copy_out_refused(client: &mut dyn Client) {
    client.simple("select 1 as one; copy (select 7) to stdout; select 2 as two");
}

fn terminated(client: &mut dyn Client) {
    client.ask("select 1 as one", &());
    client.add("select 2 as two", &());
    client.add("select pg_terminate_backend(pg_backend_pid())", &());
    client.add("select 3 as three", &());
    client.end_group();
    client.query("select 4 as four", &());
    client.settle();
}
