//! The main job in one page: connect, create, insert, query, a transaction, an error, a prepared
//! statement.
//!
//! `cargo xtask demo` runs it against a throwaway server; otherwise set DATABASE_URL.

use chopin_pg::{PgConfig, PgConnection, PgResult, SqlState};

fn main() -> PgResult<()> {
    let url = std::env::var("DATABASE_URL").unwrap_or("postgres://localhost/postgres".into());
    let mut db = PgConnection::connect(&PgConfig::from_url(&url)?)?;
    println!("connected to PostgreSQL {}", db.server_param("server_version").unwrap_or("?"));

    db.execute_batch(
        "create temp table works (id serial primary key, title text unique, year int4)",
    )?;
    let insert = "insert into works (title, year) values ($1, $2)";
    for (title, year) in [("Ballade No. 1", 1835), ("Nocturnes, Op. 9", 1832), ("Barcarolle", 1845)]
    {
        db.execute(insert, &[&title, &year])?;
    }

    println!("\nafter 1833, as tuples:");
    for row in db.query("select title, year from works where year > $1 order by year", &[&1833])? {
        let (title, year): (String, i32) = row.to()?;
        println!("  {year}  {title}");
    }

    println!("\nby column name:");
    let row = db.query_one("select count(*) as works, min(year) as first from works", &[])?;
    println!("  {} works since {}", row.get::<i64>("works")?, row.get::<i32>("first")?);

    db.begin()?;
    let moved = db.execute("update works set year = year + $1", &[&100])?;
    db.rollback()?;
    println!("\n{moved} rows changed in a transaction, and rolled back");

    println!("\nan error of the server, with SQLSTATE, detail and hint:");
    match db.execute(insert, &[&"Barcarolle", &1846]) {
        Err(error) if error.sql_state() == Some(SqlState::UNIQUE_VIOLATION) => println!("{error}"),
        other => println!("unexpected: {other:?}"),
    }
    println!("\nand with the place in the query:");
    if let Err(error) = db.query("select title, yaer from works", &[]) {
        println!("{error:#}");
    }

    let by_title = db.prepare("select year from works where title = $1")?;
    println!("\nthe same connection, a prepared statement:");
    for title in ["Barcarolle", "Mazurka"] {
        match db.query_prepared(&by_title, (title,))?.first() {
            Some(row) => println!("  {title}: {}", row.get::<i32>("year")?),
            None => println!("  {title}: not found"),
        }
    }
    Ok(())
}
