//! The section `logging`: `LoggingConfiguration` of Kubernetes' component-base. Owns its fields, and what is wrong with
//! them; whoever starts the process's logging honours [`Logging::format`] and `verbosity`.
//!
//! Lines are written as they come, on standard error, so `flushFrequency` has nothing to flush.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ConfigError;
use super::feature_gates::{LOGGING_ALPHA, LOGGING_BETA, is_on};
use crate::duration::GoDuration;

section! {
    /// How log lines look and which there are.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    Logging {
        format: String = "text".to_owned(),
        flush_frequency: FlushFrequency = FlushFrequency::Text(GoDuration::from_secs(5)),
        verbosity: u32 = 0,
        vmodule: Vec<VModule> = Vec::new(),
        options: FormatOptions = FormatOptions::default(),
    }
}

section! {
    /// Another verbosity for some source files.
    VModule {
        file_pattern: String = String::new(),
        verbosity: u32 = 0,
    }
}

section! {
    /// Options of each format.
    FormatOptions {
        text: OutputRouting = OutputRouting::default(),
        json: OutputRouting = OutputRouting::default(),
    }
}

section! {
    /// Where lines go.
    OutputRouting {
        split_stream: bool = false,
        info_buffer_size: Value = Value::from("0"),
    }
}

/// A duration, or nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FlushFrequency {
    /// Nanoseconds.
    Nanoseconds(u64),
    /// As Go writes durations.
    Text(GoDuration),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl Logging {
    /// How log lines look.
    ///
    /// # Errors
    /// When the format is unknown, or not to be had by the feature gates.
    pub fn format(&self, gates: &BTreeMap<String, bool>) -> Result<LogFormat, ConfigError> {
        match self.format.as_str() {
            "" | "text" => Ok(LogFormat::Text),
            "json" if is_on(gates, LOGGING_BETA, true) => Ok(LogFormat::Json),
            "json" => Err(ConfigError::Field {
                field: "logging.format",
                why: format!("json needs feature gate {LOGGING_BETA}"),
            }),
            other => Err(ConfigError::Field {
                field: "logging.format",
                why: format!("\"{other}\" is no log format, which are text and json"),
            }),
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first field whose value makes no sense.
    pub fn validate(&self, gates: &BTreeMap<String, bool>) -> Result<(), ConfigError> {
        let format = self.format(gates)?;
        let field = |field, why: String| Err(ConfigError::Field { field, why });
        if format == LogFormat::Json && !self.vmodule.is_empty() {
            return field("logging.vmodule", "is for format text only".into());
        }
        if i32::try_from(self.verbosity).is_err() {
            return field("logging.verbosity", format!("{} is more than {}", self.verbosity, i32::MAX));
        }
        if self.vmodule.iter().any(|module| module.file_pattern.is_empty()) {
            return field("logging.vmodule", "a file pattern is empty".into());
        }
        for (name, options) in
            [("logging.options.text", &self.options.text), ("logging.options.json", &self.options.json)]
        {
            if options.is_set() && !is_on(gates, LOGGING_ALPHA, false) {
                return field(name, format!("needs feature gate {LOGGING_ALPHA}"));
            }
        }
        Ok(())
    }

    /// The fields that say something and change nothing.
    pub fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        let options = &self.options;
        [
            ("logging.vmodule", !self.vmodule.is_empty()),
            ("logging.options.text", options.text.is_set()),
            ("logging.options.json", options.json.is_set()),
        ]
        .into_iter()
        .filter_map(|(field, is_set)| is_set.then_some(field))
    }
}

impl OutputRouting {
    fn is_set(&self) -> bool {
        let is_zero = self.info_buffer_size.as_str().is_some_and(|size| size == "0" || size.is_empty());
        self.split_stream || !(is_zero || self.info_buffer_size.is_null() || self.info_buffer_size == 0)
    }
}
