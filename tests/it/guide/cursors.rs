//! The section "Cursors" of docs/GUIDE.md.
