//! The tables that the routes read and write.

use chopin_pg::{PgConfig, PgConnection, PgResult};

/// How many rows `world` has; their keys begin with 1.
pub(crate) const WORLDS: i32 = 10_000;

/// What `fortune` has.
const FORTUNES: [&str; 6] = [
    "Simplicity is the highest goal.",
    "A pianist with three hands still needs the pedal.",
    "Fifth time's the charm, said the arpeggio.",
    "<script>alert(\"This should not be shown in a browser alert box.\");</script>",
    "フレームワークのベンチマーク",
    "Practise & be patient.",
];

/// Makes the tables, and fills those that are new.
///
/// # Errors
///
/// What the server says.
pub(crate) fn set_up(config: &PgConfig) -> PgResult<()> {
    let mut db = PgConnection::connect(config)?;
    db.transaction(|tx| {
        tx.execute_batch(
            "create table if not exists world (id int4 primary key, randomnumber int4 not null); \
             create table if not exists fortune (id int4 primary key, message text not null)",
        )?;
        tx.execute(
            "insert into world select id, 1 + floor(random() * $1)::int4 \
             from generate_series(1, $1::int4) id on conflict do nothing",
            &[&WORLDS],
        )?;
        let insert = "insert into fortune values ($1, $2) on conflict do nothing";
        for (id, message) in (1_i32..).zip(FORTUNES) {
            tx.execute(insert, &[&id, &message])?;
        }
        Ok(())
    })
}
