use crate::support::*;

#[test]
fn smoke() {
    let mut db = connect();
    let rows = db.query("select $1::int4 as a, $2::text as b, now() as c, null::int4 as d", &[&1, &"x"]).unwrap();
    println!("{rows:?}");
    assert_usable(&mut db);
    let e = db.query("select foo from pg_class", &[]).unwrap_err();
    println!("{e:#}");
    assert_usable(&mut db);
}
