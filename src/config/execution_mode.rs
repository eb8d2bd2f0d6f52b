//! How queries travel to the server, as a setting.

/// How queries are executed: what is asked of the server, and what stays there.
///
/// ```
/// use chopin_pg::{ExecutionMode, PgConfig};
///
/// assert_eq!(ExecutionMode::default(), ExecutionMode::Cached);
/// let pooler = PgConfig::new("localhost", 6432, "ada", "", "shop");
/// let config = pooler.execution_mode(ExecutionMode::Unnamed);
/// assert_eq!(config.get_execution_mode(), ExecutionMode::Unnamed);
/// ```
///
/// Source: PostgreSQL documentation, "Message Flow", "Simple Query" and "Extended Query".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecutionMode {
    /// Statements are prepared once and kept in a cache by their whole SQL text and the declared
    /// types of their parameters: the fastest mode for whoever repeats statements.
    ///
    /// The cache holds as many as [`statement_cache_capacity`] says; what it drops is closed on
    /// the server too.
    ///
    /// [`statement_cache_capacity`]: crate::PgConfig::statement_cache_capacity
    #[default]
    Cached,
    /// Every query uses the unnamed statement: parsed, described, bound and executed in one round
    /// trip. Nothing stays on the server, so this works behind transaction poolers such as
    /// PgBouncer, which may give every transaction another server connection.
    Unnamed,
    /// Every query uses the simple protocol: no parameters are possible, and values come as text.
    /// It is for poolers and proxies that know nothing else.
    Simple,
}
