//! The section "LISTEN and NOTIFY" of docs/GUIDE.md.
