//! COPY in and out: text, csv and binary; errors and drops at every point.
