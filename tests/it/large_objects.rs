//! Large objects.
