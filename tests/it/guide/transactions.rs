//! The section "Transactions" of docs/GUIDE.md.
