//! The transcript: a text that grows. Owns its form and the few abbreviations; not what is told.

use std::fmt::Write as _;

/// What was told so far.
#[derive(Default)]
pub struct Tale {
    pub text: String,
}

impl Tale {
    /// Begins one row of ARCHITECTURE.md's table.
    pub fn step(&mut self, number: &str, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        writeln!(self.text, "{gap}{number}. {title}").unwrap();
    }

    /// One line or several, indented.
    pub fn say(&mut self, words: impl AsRef<str>) {
        for line in words.as_ref().lines() {
            writeln!(self.text, "{}", format!("   {}", short(line)).trim_end()).unwrap();
        }
    }

    /// `label: a, b, c`, broken before it gets too wide.
    pub fn list(&mut self, label: &str, words: &[String]) {
        const WIDTH: usize = 108;
        let mut line = format!("{label}:");
        for (n, word) in words.iter().enumerate() {
            if line.len() + word.len() > WIDTH {
                self.say(&line);
                " ".clone_into(&mut line);
            }
            line += &format!(" {word}{}", if n + 1 < words.len() { "," } else { "" });
        }
        self.say(line);
    }
}

/// Digests and uids are long and all look alike: their first eight digits do.
fn short(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let hex = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let taken = if hex == 64 { hex } else { hex.max(first.len_utf8()) };
        out += if hex == 64 { &rest[..8] } else { &rest[..taken] };
        if hex == 64 {
            out.push('…');
        }
        rest = &rest[taken..];
    }
    out
}
