//! The section "Pool sizing" of docs/GUIDE.md.

use chopin_pg::{PgConnection, PgResult};

use crate::support::*;

/// How many connections each pool may have, if so many are left to everybody else.
fn pool_size(db: &mut PgConnection, pools: i32, others: i32) -> PgResult<i32> {
    let sql = "select sum(case name when 'max_connections' then 1 else -1 end * setting::int4)::int4 \
         from pg_settings where name in ('max_connections', 'superuser_reserved_connections', \
         'reserved_connections')";
    let usable: i32 = db.query_one(sql, &[])?.get(0)?;
    Ok((usable - others) / pools)
}

#[test]
fn the_size_of_a_pool_is_a_matter_of_arithmetic() {
    let mut db = connect();
    let setting = |db: &mut PgConnection, name: &str| -> i32 {
        let row = db.query_opt("select setting from pg_settings where name = $1", &[&name]);
        row.unwrap().map_or(0, |row| row.get::<&str>(0).unwrap().parse().unwrap())
    };
    let usable = setting(&mut db, "max_connections")
        - setting(&mut db, "superuser_reserved_connections")
        - setting(&mut db, "reserved_connections");
    assert_eq!(pool_size(&mut db, 1, 0).unwrap(), usable);
    assert_eq!(pool_size(&mut db, 3, 10).unwrap(), (usable - 10) / 3);
}
