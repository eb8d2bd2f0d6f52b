//! Statements that may return something else each time they are run: no description outlives a run.

use chopin_pg::{PgConnection, Statement};

use crate::support::*;

on_both_faces! {
    h46_columns_of_utility_statements_are_described_every_time,
}

/// What a cursor, a statement of SQL's own PREPARE, a procedure and a setting are for a while,
/// always under the same names.
struct Shape {
    select: &'static str,
    row: &'static str,
    plan: &'static str,
    parameters: &'static str,
    results: &'static str,
    called: &'static str,
    setting: &'static str,
}

const SHAPES: [Shape; 3] = [
    Shape {
        select: "select 1 as n",
        row: "1",
        plan: "Result\n  Output: 1",
        parameters: "inout a int4, inout b int4",
        results: "1, 2",
        called: "1|2",
        setting: "one",
    },
    Shape {
        select: "select 'x'::text, 2.5::float8",
        row: "x|2.5",
        plan: "Result\n  Output: 'x'::text, '2.5'::double precision",
        parameters: "inout a text, inout b bool",
        results: "''y'', true",
        called: "y|t",
        setting: "",
    },
    Shape {
        select: "select 1::int8, null::int4, true",
        row: "1|NULL|t",
        plan: "Result\n  Output: '1'::bigint, NULL::integer, true",
        parameters: "inout a int8, inout b text",
        results: "3, ''z''",
        called: "3|z",
        setting: "another, longer one",
    },
];

impl Shape {
    fn take_on(&self, db: &mut PgConnection, procedure: &str) {
        let Self { select, parameters, results, setting, .. } = self;
        db.execute_batch(&format!(
            "drop procedure if exists {procedure}; \
             create procedure {procedure} ({parameters}) language sql as 'select {results}'; \
             prepare p as {select}; set h46.setting to '{setting}'; \
             declare c scroll cursor with hold for {select}"
        ))
        .unwrap();
    }
}

fn h46_columns_of_utility_statements_are_described_every_time(face: Face) {
    let mut db = connect();
    db.execute_batch("set client_min_messages to warning").unwrap();
    let procedure = testkit::unique("h46");
    let call = format!("call {procedure}(null, null)");
    let mut handles: Vec<Statement> = Vec::new();
    for shape in &SHAPES {
        shape.take_on(&mut db, &procedure);
        let expected = [
            ("fetch absolute 1 from c", shape.row),
            ("execute p", shape.row),
            (&call, shape.called),
            ("show h46.setting", shape.setting),
            ("explain (costs off, verbose) execute p", shape.plan),
        ];
        if handles.is_empty() {
            handles.extend(expected.map(|(sql, _)| face.prepare(&mut db, sql).unwrap()));
        }
        for ((sql, expected), handle) in expected.into_iter().zip(&handles) {
            for _ in 0..2 {
                assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), expected, "{sql}");
                let rows = face.query_prepared(&mut db, handle, ()).unwrap();
                assert_eq!(printed(&rows), expected, "{sql} through a handle");
            }
        }
        db.execute_batch("close c; deallocate p").unwrap();
    }
    db.execute_batch(&format!("drop procedure {procedure}")).unwrap();
}
