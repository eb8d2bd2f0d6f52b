//! The section "COPY" of docs/GUIDE.md.
