//! Logging: to standard error, one line an event, at a level that CONFIG SET can change.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;

/// How much is logged, under Redis's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything, for development.
    Debug,
    /// Much that is seldom useful.
    Verbose,
    /// What an operator wants to know.
    Notice,
    /// Only what needs attention.
    Warning,
    /// Nothing at all.
    Nothing,
}

impl LogLevel {
    /// All levels with their names.
    pub const NAMES: [(&'static str, LogLevel); 5] = [
        ("debug", LogLevel::Debug),
        ("verbose", LogLevel::Verbose),
        ("notice", LogLevel::Notice),
        ("warning", LogLevel::Warning),
        ("nothing", LogLevel::Nothing),
    ];

    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Debug => LevelFilter::TRACE,
            LogLevel::Verbose => LevelFilter::DEBUG,
            LogLevel::Notice => LevelFilter::INFO,
            LogLevel::Warning => LevelFilter::WARN,
            LogLevel::Nothing => LevelFilter::OFF,
        }
    }
}

/// Changes the level of the running log.
pub struct LogControl {
    reload: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogControl")
    }
}

impl LogControl {
    /// Logs at `level` from now on.
    pub fn set(&self, level: LogLevel) {
        (self.reload)(level);
    }

    /// A control of nothing, where the embedding program does its own logging.
    pub fn none() -> LogControl {
        LogControl { reload: Box::new(|_| {}) }
    }
}

/// What is logged at `level`. What libraries tell at INFO and DEBUG, a thousand lines a second of an
/// idle member and some for each commit, is of use to whoever works on them: that is Redis's "debug".
/// Most of their warnings are for "verbose": each attempt to reach a member that is away is one, and
/// there are ten a second, of which the transport tells the first.
fn filter(level: LogLevel) -> EnvFilter {
    let (libraries, ours) = match level {
        LogLevel::Notice => (LevelFilter::ERROR, "cairn=info"),
        LogLevel::Verbose => (LevelFilter::WARN, "cairn=debug"),
        level => return EnvFilter::default().add_directive(level.filter().into()),
    };
    let filter = EnvFilter::default().add_directive(libraries.into());
    match ours.parse() {
        Ok(ours) => filter.add_directive(ours),
        Err(_) => filter,
    }
}

/// Starts logging to standard error. A second call leaves the first one's log in place.
pub fn start(level: LogLevel) -> LogControl {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(filter(level))
        .with_filter_reloading();
    let handle = builder.reload_handle();
    if builder.try_init().is_err() {
        return LogControl::none();
    }
    LogControl {
        reload: Box::new(move |level| {
            // Fails only when the subscriber is gone, and then there is nobody to tell.
            let _ = handle.reload(filter(level));
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libraries_tell_of_themselves_is_for_debug() {
        let text = |level| filter(level).to_string();
        assert_eq!(text(LogLevel::Debug), "trace");
        let verbose = text(LogLevel::Verbose);
        assert!(verbose.contains("cairn=debug") && verbose.contains("warn"), "{verbose}");
        let notice = text(LogLevel::Notice);
        assert!(notice.contains("cairn=info") && notice.contains("error"), "{notice}");
    }
}
