//! runc's command line: `-x` and `--x` mean the same for every flag, values follow or are joined by `=`.
//!
//! Written by hand because callers send what urfave/cli accepts and GNU parsers refuse (`-no-subreaper`).

use crate::error::{Error, Result};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true`, `=false`.
    Nothing,
    /// One value; the last wins.
    Value,
    /// One value each time.
    Values,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Long name.
    pub name: &'static str,
    /// One letter.
    pub short: Option<&'static str>,
    /// What follows it.
    pub takes: Takes,
    /// For help.
    pub help: &'static str,
}

/// A flag without a value.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Nothing, help }
}

/// A flag with one.
pub const fn value(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Value, help }
}

/// A flag that may be repeated.
pub const fn values(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Values, help }
}

impl Flag {
    /// With a letter.
    pub const fn or(self, short: &'static str) -> Flag {
        Flag { short: Some(short), ..self }
    }
}

/// Where flags end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Flags may follow arguments.
    Mixed,
    /// The first argument ends them: the rest is another program's.
    FlagsFirst,
}

/// A command line, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    flags: Vec<(&'static str, String)>,
    /// What is no flag.
    pub rest: Vec<String>,
}

impl Parsed {
    /// Whether a switch is on.
    pub fn has(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// A flag's last value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// A flag's value as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_not_a_number| Error::Usage(format!("invalid value {text:?} for flag -{name}: parse error")))
        };
        self.get(name).map(parse).transpose()
    }
}

/// Sorts `args` by `flags`.
pub fn parse(args: &[String], flags: &[Flag], order: Order) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.rest.extend(args.cloned());
            break;
        }
        if arg == "-" || !arg.starts_with('-') {
            parsed.rest.push(arg.clone());
            if order == Order::FlagsFirst {
                parsed.rest.extend(args.cloned());
                break;
            }
            continue;
        }
        let bare = arg.trim_start_matches('-');
        let (name, joined) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value.to_owned())));
        let flag = flags.iter().find(|flag| flag.name == name || flag.short == Some(name));
        let flag = flag.ok_or_else(|| Error::Usage(format!("flag provided but not defined: -{name}")))?;
        let value = match (flag.takes, joined) {
            (_, Some(value)) => value,
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Value | Takes::Values, None) => {
                args.next().cloned().ok_or_else(|| Error::Usage(format!("flag needs an argument: -{name}")))?
            }
        };
        parsed.flags.push((flag.name, value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const FLAGS: &[Flag] = &[switch("detach", "").or("d"), value("pid-file", ""), values("env", "").or("e")];

    fn sorted(args: &[&str], order: Order) -> Result<Parsed> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), FLAGS, order)
    }

    #[test]
    fn one_dash_and_two_mean_the_same() {
        for args in [["-detach", "--pid-file", "x", "id"], ["-d", "-pid-file=x", "id", "--"]] {
            let parsed = sorted(&args, Order::Mixed).unwrap();
            assert!(parsed.has("detach"));
            assert_eq!((parsed.get("pid-file"), &parsed.rest[..]), (Some("x"), &["id".to_owned()][..]));
        }
    }

    #[test]
    fn another_programs_flags_are_left_alone() {
        let parsed = sorted(&["-e", "A=1", "--env=B=2", "id", "ls", "-d"], Order::FlagsFirst).unwrap();
        assert!(!parsed.has("detach"));
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(parsed.rest, ["id", "ls", "-d"]);
    }

    #[test]
    fn unknown_flags_and_missing_values_are_errors() {
        assert_eq!(sorted(&["--nope"], Order::Mixed).unwrap_err().to_string(), "flag provided but not defined: -nope");
        assert_eq!(sorted(&["-pid-file"], Order::Mixed).unwrap_err().to_string(), "flag needs an argument: -pid-file");
        assert!(!sorted(&["-d=false"], Order::Mixed).unwrap().has("detach"));
    }
}
