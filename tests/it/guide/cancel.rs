//! The section "Cancelling and deadlines" of docs/GUIDE.md.
