//! The section "Cursors" of docs/GUIDE.md.

use chopin_pg::{PgConnection, PgResult};

use crate::support::*;

fn archive(connection: &mut PgConnection, before: i32) -> PgResult<u64> {
    connection.transaction(|tx| {
        let sql = "select id, title from works where year < $1";
        let mut works = tx.query_cursor(sql, (before,))?;
        let mut count = 0;
        while !works.is_done() {
            // A thousand rows are in memory, however many there are.
            for row in tx.fetch(&mut works, 1_000)? {
                let (id, title): (i32, &str) = row.to()?;
                count += tx.execute("insert into archive values ($1, $2)", &[&id, &title])?;
            }
        }
        Ok(count)
    })
}

#[test]
fn old_works_are_archived() {
    let mut db = connect();
    db.execute_batch(
        "create temp table works as
             select id, 'work ' || id as title, 1800 + id % 100 as year
             from generate_series(1, 5000) as id;
         create temp table archive (id int4, title text)",
    )
    .unwrap();
    assert_eq!(archive(&mut db, 1850).unwrap(), 2500);
    let sql = "select count(*) from archive a join works w using (id, title) where year < 1850";
    assert_eq!(db.query_one(sql, &[]).unwrap().get::<i64>(0).unwrap(), 2500);
    assert_usable(&mut db);
}
