//! The server as the judge of a codec: the same values in every format, both ways, must stay the
//! same.

use std::fmt::{Debug, Display};
use std::time::Duration;

use chopin_pg::PgConnection;
use chopin_pg::types::{FromSql, StaticType, ToSql};

/// Hands `values` to the server as `sql_type` and looks at what it makes of them:
///
/// - sent in binary, they come back in binary as they were,
/// - the text that the server prints for them is their `Display`,
/// - in the text format of the simple protocol they come back as they were,
/// - sent as that text, they come back in binary as they were.
///
/// Values are compared by their `Debug`, which tells -0 from 0 and takes NaN for NaN.
#[track_caller]
pub(crate) fn assert_agrees<T>(db: &mut PgConnection, sql_type: &str, values: &[T])
where
    T: ToSql + StaticType + for<'a> FromSql<'a> + Display + Debug,
{
    db.set_io_timeout(Duration::from_secs(60));
    db.execute_batch(&format!(
        "drop table if exists judged; create temp table judged (n serial, v {sql_type})"
    ))
    .expect("the temporary table");
    let sent =
        db.execute("insert into judged (v) select unnest($1)", &[&values]).expect("the values");
    assert_eq!(sent, u64::try_from(values.len()).expect("a count"));

    // `format`, since a cast to text is not the type's output function everywhere: inet adds a /32.
    let rows =
        db.query("select v, format('%s', v) from judged order by n", &[]).expect("in binary");
    assert_eq!(rows.len(), values.len());
    for (row, value) in rows.iter().zip(values) {
        let (read, text): (T, &str) = row.to().expect("a value and its text");
        assert_same(&read, value, "read in binary", text);
        assert_eq!(value.to_string(), text, "{sql_type} {value:?}");
    }

    let rows = db.query_simple("select v from judged order by n").expect("in text");
    assert_eq!(rows.len(), values.len());
    for (row, value) in rows.iter().zip(values) {
        let read: T = row.get(0).expect("a value in text");
        assert_same(&read, value, "read as text", sql_type);
    }

    let texts: Vec<String> = values.iter().map(T::to_string).collect();
    let sql =
        format!("select t::{sql_type} from unnest($1) with ordinality as u (t, n) order by n");
    let rows = db.query(&sql, &[&texts]).expect("the texts as values");
    assert_eq!(rows.len(), values.len());
    for (row, value) in rows.iter().zip(values) {
        let read: T = row.get(0).expect("a value in binary");
        assert_same(&read, value, "sent as text", sql_type);
    }
}

#[track_caller]
fn assert_same<T: Debug>(read: &T, sent: &T, how: &str, what: &str) {
    assert_eq!(format!("{read:?}"), format!("{sent:?}"), "{how}: {what}");
}

/// The values alone, as parameters and results of their own: not as elements of a list.
#[track_caller]
pub(crate) fn assert_each_agrees<T>(db: &mut PgConnection, sql_type: &str, values: &[T])
where
    T: ToSql + StaticType + for<'a> FromSql<'a> + Display + Debug,
{
    let sql = "select $1, format('%s', $1), pg_typeof($1)::text, $2 is null";
    for value in values {
        let row = db.query_one(sql, &[value, &None::<T>]).expect("a value");
        let (read, text, type_name, none): (T, &str, &str, bool) = row.to().expect("its echo");
        assert_same(&read, value, "echoed", text);
        assert_eq!((value.to_string().as_str(), type_name, none), (text, sql_type, true));
    }
}
