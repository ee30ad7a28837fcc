//! Container logs in the CRI format, line by line.
//!
//! Owns: reading lines (`<RFC 3339 time> <stdout|stderr> <F|P> <text>`), what a reader's options keep, where log
//! files lie. Does not own: files, following.

use jiff::{SignedDuration, Timestamp};

/// One line of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'l> {
    /// As written.
    pub time: &'l [u8],
    /// `stdout` or `stderr`.
    pub stream: &'l [u8],
    /// The text goes on in the next line of the same stream.
    pub partial: bool,
    /// The text, without its newline.
    pub text: &'l [u8],
}

/// What a reader asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on as the log grows.
    pub follow: bool,
    /// Of the attempt before.
    pub previous: bool,
    /// Prefix each line with its time.
    pub timestamps: bool,
    /// Nothing before.
    pub since: Option<Timestamp>,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// At most this many bytes.
    pub bytes_max: Option<u64>,
    /// Only this stream: `stdout` or `stderr`.
    pub stream: Option<String>,
}

/// What is wrong with a reader's options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value \"{value}\" of {name}")]
pub struct OptionError {
    /// The query parameter.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl LogOptions {
    /// Reads the query parameters of `/containerLogs`.
    pub fn from_query(pairs: &[(String, String)], now: Timestamp) -> Result<LogOptions, OptionError> {
        let mut out = LogOptions::default();
        for (name, value) in pairs {
            let invalid = || OptionError { name: name.clone(), value: value.clone() };
            let number = || value.parse::<u64>().map_err(|_| invalid());
            match name.as_str() {
                "follow" => out.follow = truth(value),
                "previous" => out.previous = truth(value),
                "timestamps" => out.timestamps = truth(value),
                "tailLines" => out.tail_lines = Some(number()?),
                "limitBytes" => out.bytes_max = Some(number()?),
                "sinceTime" => out.since = Some(value.parse().map_err(|_| invalid())?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).map_err(|_| invalid())?;
                    out.since = Some(now - SignedDuration::from_secs(seconds));
                }
                "stream" => out.stream = stream(value),
                _ => {}
            }
        }
        Ok(out)
    }

    /// The line as the reader gets it, or `None` if it is left out.
    pub fn render(&self, line: &Line<'_>) -> Option<Vec<u8>> {
        if self.stream.as_ref().is_some_and(|s| s.as_bytes() != line.stream) {
            return None;
        }
        if let Some(since) = self.since {
            let time: Timestamp = std::str::from_utf8(line.time).ok()?.parse().ok()?;
            if time < since {
                return None;
            }
        }
        let mut out = Vec::with_capacity(line.text.len() + 40);
        if self.timestamps {
            out.extend_from_slice(line.time);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        Some(out)
    }
}

impl<'l> Line<'l> {
    /// Reads one line without its newline; `None` if it is not in the format.
    pub fn parse(line: &'l [u8]) -> Option<Line<'l>> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let text = parts.next().unwrap_or_default();
        Some(Line { time, stream, partial: tag.first() == Some(&b'P'), text })
    }
}

/// Directory of a pod's logs below the log directory.
pub fn pod_dir(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}_{name}_{uid}")
}

fn truth(value: &str) -> bool {
    matches!(value, "true" | "1" | "")
}

fn stream(value: &str) -> Option<String> {
    match value {
        "Stdout" | "stdout" => Some("stdout".to_owned()),
        "Stderr" | "stderr" => Some("stderr".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_filtered_and_rendered() {
        let early = Line::parse(b"2026-01-01T00:00:00.000000001Z stdout F one two").unwrap();
        let late = Line::parse(b"2026-01-01T00:00:10Z stderr P part").unwrap();
        let now: Timestamp = "2026-01-01T00:00:12Z".parse().unwrap();
        let options = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            LogOptions::from_query(&pairs, now).unwrap()
        };
        let show = |o: &LogOptions, l: &Line<'_>| o.render(l).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(show(&options(&[]), &early).unwrap(), "one two\n");
        assert_eq!(show(&options(&[]), &late).unwrap(), "part");
        assert_eq!(show(&options(&[("sinceSeconds", "5")]), &early), None);
        assert_eq!(show(&options(&[("sinceSeconds", "5")]), &late).unwrap(), "part");
        let stamped = show(&options(&[("timestamps", "true")]), &early).unwrap();
        assert_eq!(stamped, "2026-01-01T00:00:00.000000001Z one two\n");
        assert_eq!(show(&options(&[("stream", "Stdout")]), &late), None);
        assert!(LogOptions::from_query(&[("tailLines".to_owned(), "x".to_owned())], now).is_err());
    }
}
