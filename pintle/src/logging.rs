//! Log lines on standard error.

mod json;

use tracing::level_filters::LevelFilter;

/// How much is logged, and how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// As in Kubernetes components: 0 notable, 2 usual, 4 debug, 6 trace.
    pub verbosity: u32,
    /// What a line is.
    pub format: Format,
}

/// What a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A sentence with its fields.
    Text,
    /// An object, with the keys of Kubernetes' own components.
    Json,
}

/// The usual verbosity.
pub const USUAL: u32 = 2;

/// Starts logging for the process. Under systemd the journal stamps the time of a text itself.
pub fn start(settings: Settings) {
    let level = match settings.verbosity {
        0 => LevelFilter::WARN,
        1..=3 => LevelFilter::INFO,
        4 | 5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match settings.format {
        Format::Json => builder.event_format(json::Lines).init(),
        Format::Text if std::env::var_os("JOURNAL_STREAM").is_some() => builder.without_time().init(),
        Format::Text => builder.init(),
    }
}
