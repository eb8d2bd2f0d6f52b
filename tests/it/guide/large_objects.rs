//! The section "Large objects" of docs/GUIDE.md.

use std::io::{Read, Seek, SeekFrom, Write};

use chopin_pg::{LargeObjectMode, Oid, PgConnection, PgResult};

use crate::support::*;

fn store(connection: &mut PgConnection, recording: impl Read) -> PgResult<Oid> {
    // If the source fails, no half object is committed.
    connection.transaction(|tx| tx.import_large_object(recording))
}

fn fetch(connection: &mut PgConnection, oid: Oid, target: impl Write) -> PgResult<u64> {
    connection.transaction(|tx| tx.export_large_object(oid, target))
}

fn change_the_title(connection: &mut PgConnection, oid: Oid, title: &[u8; 4]) -> PgResult<u8> {
    connection.transaction(|tx| {
        let mut object = tx.open_large_object(oid, LargeObjectMode::ReadWrite)?;
        object.seek(SeekFrom::Start(8))?;
        object.write_all(title)?;
        let mut year = [0];
        object.read_exact(&mut year)?;
        // Waits for the write too, and tells if it has failed.
        object.close()?;
        Ok(year[0])
    })
}

#[test]
fn a_recording_is_stored_changed_and_fetched() {
    let mut connection = connect();
    let oid = store(&mut connection, &b"RIFFxxxxname\x42 and the music"[..]).unwrap();
    assert_eq!(change_the_title(&mut connection, oid, b"Etud").unwrap(), 0x42);
    let mut fetched = Vec::new();
    assert_eq!(fetch(&mut connection, oid, &mut fetched).unwrap(), 27);
    assert_eq!(fetched, b"RIFFxxxxEtud\x42 and the music");
    connection.unlink_large_object(oid).unwrap();
    assert_usable(&mut connection);
}
