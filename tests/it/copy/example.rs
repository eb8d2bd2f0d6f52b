//! examples/copy_csv.rs, run with its own command line.

#[path = "../../../examples/copy_csv.rs"]
#[allow(dead_code, reason = "the program's own main is not called")]
mod copy_csv;

use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};

use self::copy_csv::Cli;
use crate::support::*;

/// Exit code and output of the program.
fn run(arguments: &[&str]) -> Result<(u8, String), String> {
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "postgres");
    let all = ["copy_csv", "--url", &url].into_iter().chain(arguments.iter().copied());
    let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let code = copy_csv::run(&cli, &mut out).map_err(|error| error.to_string())?;
    Ok((code, String::from_utf8(out).unwrap()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn b12_the_example_loads_the_good_rows_and_reports_the_others() {
    let (mut db, table) = (connect(), testkit::unique("Works"));
    db.execute_batch(&format!(
        "create table \"{table}\" (id int4 primary key, title text not null, year int2, \
         check (year <> 1999))"
    ))
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, rejects) = (folder.path().join("works.csv"), folder.path().join("rejects.csv"));
    let mut lines = vec!["id,title,year".to_owned()];
    lines.extend(
        (1..=30_000).map(|id| format!("{id},\"Opus {id}, \"\"with\nlines\"\"\",{}", id % 1900)),
    );
    lines[5] = "five,Opus 5,1".to_owned();
    lines[100] = "100,,1".to_owned();
    lines[101] = "101,Opus 101,1,and more".to_owned();
    lines[20_000] = "7,twice,".to_owned();
    lines[25_000] = "25000,of that year,1999".to_owned();
    fs::write(&file, lines.join("\n")).unwrap();

    let arguments = ["load", "--table", &table, "--rejects", text(&rejects), text(&file)];
    let (code, out) = run(&arguments).unwrap();
    assert_eq!(code, 3, "{out}");
    let reports: Vec<&str> = out.lines().collect();
    // Every record but the rejected ones takes two lines.
    assert_eq!(reports.len(), 6, "{out}");
    assert_eq!(reports[0], "rejected line 10: invalid input syntax for type integer: \"five\"");
    assert!(reports[1].starts_with("rejected line 199: null value in column \"title\""), "{out}");
    assert_eq!(reports[2], "rejected line 200: 4 fields instead of 3");
    assert!(
        reports[3].starts_with("rejected line 39997: duplicate key value")
            && reports[3].ends_with("(Key (id)=(7) already exists.)"),
        "{out}"
    );
    assert!(reports[4].contains("violates check constraint"), "{out}");
    assert_eq!(reports[5], format!("29995 rows loaded into \"{table}\", 5 rejected"));
    let rejected = fs::read_to_string(&rejects).unwrap();
    assert!(rejected.starts_with("line,reason,id,title,year\n10,"), "{rejected}");
    assert!(
        rejected.contains("\n200,4 fields instead of 3,101,Opus 101,1,and more\n"),
        "{rejected}"
    );
    let sql = format!("select count(*), max(title) filter (where id = 6) from \"{table}\"");
    let row = db.query_one(&sql, &[]).unwrap();
    let found: (i64, &str) = row.to().unwrap();
    assert_eq!(found, (29_995, "Opus 6, \"with\nlines\""));

    // Out again, and in again.
    let out_file = folder.path().join("out.csv");
    let query =
        format!("select id + 100000 as id, title, year from \"{table}\" where id <= 3 order by id");
    let (code, out) = run(&["export", "--query", &query, text(&out_file)]).unwrap();
    let written = fs::read_to_string(&out_file).unwrap();
    assert_eq!(code, 0);
    assert_eq!(out, format!("3 rows, {} bytes written to {}\n", written.len(), text(&out_file)));
    assert!(
        written.starts_with("id,title,year\n100001,\"Opus 1, \"\"with\nlines\"\"\",1\n"),
        "{written}"
    );
    let (code, out) = run(&["load", "--table", &table, text(&out_file)]).unwrap();
    assert_eq!((code, out), (0, format!("3 rows loaded into \"{table}\", 0 rejected\n")));
    db.execute_batch(&format!("drop table \"{table}\"")).unwrap();
}

#[test]
fn b12_the_example_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("some.csv");
    fs::write(&file, "a,b\n1,2\n").unwrap();
    let error = run(&["load", "--table", "no such table", text(&file)]).unwrap_err();
    assert!(error.contains("relation \"no such table\" does not exist"), "{error}");
    let error = run(&["load", "--table", "t", text(&folder.path().join("none.csv"))]).unwrap_err();
    assert!(error.contains("none.csv: "), "{error}");
    let error = run(&["export", "--query", "selec 1", text(&file)]).unwrap_err();
    assert!(error.contains("syntax error"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "a,b\n1,2\n", "the file is as it was");
    let error = run(&["load", "--delimiter", "ab", "--table", "t", text(&file)]).unwrap_err();
    assert!(error.contains("one ASCII character"), "{error}");
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes: 0 all rows"), "{help}");
}
