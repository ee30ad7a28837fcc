//! A log line as Kubernetes' components write it with `--logging-format=json`: an object with `ts` (milliseconds since
//! the epoch), `caller`, `msg`, the event's fields, and `v` (verbosity) but for warnings and errors, which have `err`
//! where an error is told.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// See the module's description.
pub struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let metadata = event.metadata();
        let caller = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => metadata.target().to_owned(),
        };
        let mut line = Map::new();
        line.insert("ts".into(), (now.as_secs_f64() * 1e3).into());
        line.insert("caller".into(), caller.into());
        if let Some(v) = verbosity(*metadata.level()) {
            line.insert("v".into(), v.into());
        }
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// At which verbosity a line appears; warnings and errors have none.
fn verbosity(level: Level) -> Option<u32> {
    match level {
        Level::ERROR | Level::WARN => None,
        Level::INFO => Some(2),
        Level::DEBUG => Some(4),
        Level::TRACE => Some(6),
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = match field.name() {
            "message" => "msg",
            "error" => "err",
            name => name,
        };
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_an_object_with_kubernetes_keys() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(Lines).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(ops = 3, mode = "iptables", "rules \"installed\"");
            tracing::warn!(error = %"no way", "cannot");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["msg"], &lines[0]["v"], &lines[0]["ops"], &lines[0]["mode"]),
            (&"rules \"installed\"".into(), &2.into(), &3.into(), &"iptables".into())
        );
        assert!(lines[0]["ts"].is_f64() && lines[0]["caller"].as_str().unwrap().contains("json.rs:"));
        assert_eq!(
            (&lines[1]["msg"], &lines[1]["err"], &lines[1]["v"]),
            (&"cannot".into(), &"no way".into(), &Value::Null)
        );
    }
}
