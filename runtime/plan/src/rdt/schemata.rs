//! Comparing what a configuration asks of a class with what the class has.

use std::collections::BTreeMap;
use std::fmt;

/// The first value that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// E.g. `L3:0=7f0`, as asked for.
    asked: String,
    /// What the class has there.
    found: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "{} is asked for, it has {found}", self.asked),
            None => write!(f, "{} is asked for, it has none", self.asked),
        }
    }
}

/// Resource and domain, e.g. (`L3`, `0`), and the value.
type Values = BTreeMap<(String, String), String>;

/// Every value that is asked for must be the class's. Values of other domains and resources may be anything: nobody asked.
pub(super) fn compare(asked: &str, existing: &str) -> Result<(), Mismatch> {
    let existing = parse(existing);
    for ((resource, domain), value) in parse(asked) {
        let found = existing.get(&(resource.clone(), domain.clone()));
        if found != Some(&value) {
            let words = |value: &str| format!("{resource}:{domain}={value}");
            return Err(Mismatch { asked: words(&value), found: found.map(|value| words(value)) });
        }
    }
    Ok(())
}

/// Lines `  L3:0=fffff;1=0f` and `MB:0= 100;1= 100` (the kernel pads for people).
fn parse(text: &str) -> Values {
    let mut values = Values::new();
    for line in text.lines() {
        let Some((resource, rest)) = line.split_once(':') else { continue };
        let resource = resource.trim();
        for (domain, value) in rest.split(';').filter_map(|pair| pair.split_once('=')) {
            values.insert((resource.to_owned(), domain.trim().to_owned()), plain(resource, value.trim()));
        }
    }
    values
}

/// Bit masks are hexadecimal and may have leading zeros; bandwidths are decimal.
fn plain(resource: &str, value: &str) -> String {
    let radix = if matches!(resource, "MB" | "SMBA") { 10 } else { 16 };
    match u64::from_str_radix(value.trim_start_matches("0x"), radix) {
        Ok(number) if radix == 16 => format!("{number:x}"),
        Ok(number) => number.to_string(),
        Err(_) => value.to_owned(),
    }
}
