//! The log: text for people or one JSON object a line, on standard error.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::config::{Log, LogFormat};

/// The variable that wins over `[log] level`.
const VARIABLE: &str = "TANDEM_LOG";

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `TANDEM_LOG` is not a filter.
    #[error("{VARIABLE}: {what}; write for example \"debug\" or \"info,tandem::pipeline=trace\"")]
    Filter {
        /// What is wrong with it.
        what: String,
    },
    /// It was set up already.
    #[error("the log is set up already")]
    Twice,
}

/// Sets the log up for the whole process.
///
/// # Errors
/// When `TANDEM_LOG` cannot be understood, or a log is set up already.
pub fn init(log: &Log) -> Result<(), LogError> {
    let wanted = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = filter(log, wanted.as_deref())?;
    tracing::subscriber::set_global_default(subscriber(log.format, filter, std::io::stderr))
        .map_err(|_| LogError::Twice)
}

fn filter(log: &Log, wanted: Option<&str>) -> Result<EnvFilter, LogError> {
    match wanted {
        Some(text) => EnvFilter::try_new(text).map_err(|error| LogError::Filter { what: error.to_string() }),
        None => Ok(EnvFilter::new(log.level.name())),
    }
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(false).with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    Registry::default().with(layer.with_filter(filter_fn(speaks).and(filter)))
}

/// Libraries speak only of trouble, whatever the level: below that some of them show headers and bodies.
fn speaks(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target == "tandem"
        || target.starts_with("tandem::")
        || target.starts_with("tandem_")
        || *metadata.level() <= Level::WARN
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::config::LogLevel;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, level: LogLevel, wanted: Option<&str>, speak: impl FnOnce()) -> String {
        let page = Page::default();
        let pen = page.clone();
        let filter = filter(&Log { format, level }, wanted).expect("a filter");
        tracing::subscriber::with_default(subscriber(format, filter, move || pen.clone()), speak);
        let bytes = page.0.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn libraries_speak_only_of_trouble_even_at_trace() {
        let text = written(LogFormat::Text, LogLevel::Trace, None, || {
            tracing::trace!(target: "hyper::proto", "authorization: Bearer marker");
            tracing::info!(target: "reqwest::connect", "connecting");
            tracing::warn!(target: "hyper::server", "trouble");
            tracing::trace!(target: "tandem::pipeline", "taken");
        });
        assert!(!text.contains("marker") && !text.contains("connecting"), "{text}");
        assert!(text.contains("trouble") && text.contains("taken"), "{text}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written(LogFormat::Json, LogLevel::Info, None, || {
            tracing::info!(target: "tandem::app", connection = "acme", "ready\nnow");
        });
        let lines: Vec<_> = text.lines().collect();
        let [line] = lines.as_slice() else { panic!("{text}") };
        let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(
            (&entry["level"], &entry["connection"], &entry["message"]),
            (&"INFO".into(), &"acme".into(), &"ready\nnow".into())
        );
    }

    #[test]
    fn the_variable_wins_over_the_configuration() {
        let speak = || tracing::debug!(target: "tandem::pipeline", "detail");
        assert_eq!(written(LogFormat::Text, LogLevel::Info, None, speak), "");
        assert!(
            written(LogFormat::Text, LogLevel::Info, Some("info,tandem::pipeline=debug"), speak)
                .contains("detail")
        );
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_an_example() {
        let log = Log { format: LogFormat::Text, level: LogLevel::Info };
        let error = filter(&log, Some("tandem=loud")).expect_err("not a filter").to_string();
        assert!(error.starts_with("TANDEM_LOG: ") && error.contains("write for example"), "{error}");
    }
}
