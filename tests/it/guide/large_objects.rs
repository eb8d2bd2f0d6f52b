//! The section "Large objects" of docs/GUIDE.md.
