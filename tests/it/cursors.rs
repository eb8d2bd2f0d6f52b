//! Cursors: portals that are fetched from in pieces.
