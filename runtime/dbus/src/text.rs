//! Values written as text, as annotations of containers have them (GLib, "GVariant Text Format").
//!
//! Owns: reading the text and giving each value the type it says, or the one it must have beside its neighbours, or the
//! format's default. Does not own: what D-Bus lacks: maybe types, empty tuples and handles are refused.

use crate::signature::{DEPTH_MAX, first, split};
use crate::{NotAValue, Value};

/// So deep may values lie in each other, which leaves room for those around them in a message.
const NESTED_MAX: usize = 30;

type Result<T> = std::result::Result<T, NotAValue>;

/// Reads one value that takes all of the text.
pub fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { text, at: 0 };
    let node = parser.node(0)?;
    parser.space();
    if parser.at != text.len() {
        return Err(parser.error("more than one value"));
    }
    let value = node.resolve(None)?;
    value.check(NESTED_MAX).map_err(|why| node.error(why))?;
    Ok(value)
}

/// A value whose type is not yet settled.
struct Node {
    at: usize,
    form: Form,
}

enum Form {
    Number(String),
    Bool(bool),
    Str(String),
    Bytes(Vec<u8>),
    Array(Vec<Node>),
    Tuple(Vec<Node>),
    Dictionary(Vec<(Node, Node)>),
    Variant(Box<Node>),
    Typed(String, Box<Node>),
}

impl Node {
    fn error(&self, why: &'static str) -> NotAValue {
        NotAValue { at: self.at, why }
    }

    /// The type it has by itself, and whether it could have no other.
    fn natural(&self) -> Result<(String, bool)> {
        let sure = |kind: &str| Ok((kind.to_owned(), true));
        let default = |kind: &str| Ok((kind.to_owned(), false));
        match &self.form {
            Form::Number(text) if is_float(text) => default("d"),
            Form::Number(_) => default("i"),
            Form::Bool(_) => sure("b"),
            Form::Str(_) => default("s"),
            Form::Bytes(_) => sure("ay"),
            Form::Variant(_) => sure("v"),
            Form::Typed(kind, _) => sure(kind),
            Form::Array(elements) => {
                let (kind, sure) = self.common(elements.iter())?;
                Ok((format!("a{kind}"), sure))
            }
            Form::Tuple(fields) => {
                let fields = fields.iter().map(Node::natural).collect::<Result<Vec<_>>>()?;
                let kinds: String = fields.iter().map(|(kind, _)| kind.as_str()).collect();
                Ok((format!("({kinds})"), fields.iter().all(|(_, sure)| *sure)))
            }
            Form::Dictionary(entries) => {
                let (key, _) = self.common(entries.iter().map(|(key, _)| key))?;
                let (value, sure) = self.common(entries.iter().map(|(_, value)| value))?;
                Ok((format!("a{{{key}{value}}}"), sure))
            }
        }
    }

    /// The type that all of these share: one that says its own, else the first that is no plain integer.
    fn common<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> Result<(String, bool)> {
        let kinds = nodes.map(Node::natural).collect::<Result<Vec<_>>>()?;
        let chosen = kinds.iter().find(|(_, sure)| *sure);
        let chosen = chosen.or_else(|| kinds.iter().find(|(kind, _)| kind != "i")).or(kinds.first());
        chosen.cloned().ok_or_else(|| self.error("an empty array has no type; write @as [] or the like"))
    }

    fn resolve(&self, expected: Option<&str>) -> Result<Value> {
        let kind = match expected {
            Some(kind) => kind.to_owned(),
            None => self.natural()?.0,
        };
        let wrong = || self.error("it is not of the type it should have");
        match &self.form {
            Form::Typed(own, node) if *own == kind => node.resolve(Some(own)),
            Form::Number(text) => number(text, &kind).ok_or_else(|| self.error("not a number of its type")),
            Form::Bool(yes) if kind == "b" => Ok(Value::Bool(*yes)),
            Form::Str(text) => self.string(text, &kind),
            Form::Bytes(bytes) if kind == "ay" => Ok(Value::bytes(bytes)),
            Form::Variant(node) if kind == "v" => Ok(Value::Variant(Box::new(node.resolve(None)?))),
            Form::Array(elements) => {
                let element = kind.strip_prefix('a').filter(|element| !element.starts_with('{')).ok_or_else(wrong)?;
                let values = elements.iter().map(|one| one.resolve(Some(element))).collect::<Result<_>>()?;
                Ok(Value::Array(element.to_owned(), values))
            }
            Form::Tuple(fields) => {
                let inner = kind.strip_prefix('(').and_then(|kind| kind.strip_suffix(')')).ok_or_else(wrong)?;
                let kinds = split(inner).map_err(|error| self.error(error.0))?;
                if kinds.len() != fields.len() {
                    return Err(wrong());
                }
                let values = fields.iter().zip(kinds).map(|(field, kind)| field.resolve(Some(kind)));
                Ok(Value::Struct(values.collect::<Result<_>>()?))
            }
            Form::Dictionary(entries) => {
                let element = kind.strip_prefix('a').ok_or_else(wrong)?;
                let pair = element.strip_prefix('{').and_then(|pair| pair.strip_suffix('}')).ok_or_else(wrong)?;
                let (of_key, of_value) = first(pair).map_err(|error| self.error(error.0))?;
                let entry = |(key, value): &(Node, Node)| {
                    let (key, value) = (key.resolve(Some(of_key))?, value.resolve(Some(of_value))?);
                    Ok(Value::Entry(Box::new(key), Box::new(value)))
                };
                Ok(Value::Array(element.to_owned(), entries.iter().map(entry).collect::<Result<_>>()?))
            }
            Form::Typed(..) | Form::Bool(_) | Form::Bytes(_) | Form::Variant(_) => Err(wrong()),
        }
    }

    fn string(&self, text: &str, kind: &str) -> Result<Value> {
        match kind {
            "s" => Ok(Value::str(text)),
            "o" if is_path(text) => Ok(Value::Path(text.to_owned())),
            "g" if text.len() < 256 && split(text).is_ok() => Ok(Value::Signature(text.to_owned())),
            _ => Err(self.error("a string is not of the type it should have")),
        }
    }
}

/// Specification, "Valid Object Paths".
fn is_path(text: &str) -> bool {
    let element = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(element))
}

fn is_float(text: &str) -> bool {
    let bare = text.trim_start_matches(['+', '-']);
    matches!(bare, "inf" | "nan") || !bare.starts_with("0x") && bare.contains(['.', 'e', 'E'])
}

/// A number as the letter says; out of its range is `None`. C's prefixes for hexadecimal and octal hold.
fn number(text: &str, kind: &str) -> Option<Value> {
    if kind == "d" {
        return if is_float(text) { text.parse().ok() } else { integer(text).map(|n| n as f64) }.map(Value::F64);
    }
    let whole = if is_float(text) { None } else { integer(text) }?;
    match kind {
        "y" => whole.try_into().ok().map(Value::Byte),
        "n" => whole.try_into().ok().map(Value::I16),
        "q" => whole.try_into().ok().map(Value::U16),
        "i" => whole.try_into().ok().map(Value::I32),
        "u" => whole.try_into().ok().map(Value::U32),
        "x" => whole.try_into().ok().map(Value::I64),
        "t" => whole.try_into().ok().map(Value::U64),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i128> {
    let (negative, bare) = match text.strip_prefix('-') {
        Some(bare) => (true, bare),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match (bare.strip_prefix("0x"), bare.strip_prefix('0')) {
        (Some(digits), _) => (16, digits),
        (None, Some(digits)) if !digits.is_empty() => (8, digits),
        _ => (10, bare),
    };
    // from_str_radix would take a second sign.
    let number = digits.bytes().next().filter(u8::is_ascii_alphanumeric);
    let number = number.and_then(|_| i128::from_str_radix(digits, radix).ok())?;
    Some(if negative { -number } else { number })
}

const KEYWORDS: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, why: &'static str) -> NotAValue {
        NotAValue { at: self.at, why }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        self.space();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += if there { wanted.len_utf8() } else { 0 };
        there
    }

    /// As many characters as belong to a word.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let word = rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())].to_owned();
        self.at += word.len();
        word
    }

    fn node(&mut self, depth: usize) -> Result<Node> {
        let next = self.peek();
        let at = self.at;
        if depth > DEPTH_MAX {
            return Err(self.error("values lie too deep in each other"));
        }
        let form = match next {
            Some('[') => Form::Array(self.list('[', ']', depth)?),
            Some('(') => self.tuple(depth)?,
            Some('{') => Form::Dictionary(self.dictionary(depth)?),
            Some('<') => {
                self.take('<');
                let inner = self.node(depth + 1)?;
                self.expect('>')?;
                Form::Variant(Box::new(inner))
            }
            Some('@') => {
                self.take('@');
                let kind = self.word(|c| !c.is_ascii_whitespace());
                match first(&kind) {
                    Ok((_, "")) => Form::Typed(kind, Box::new(self.node(depth + 1)?)),
                    _ => return Err(NotAValue { at, why: "@ is followed by one type, such as @t" }),
                }
            }
            Some('\'' | '"') => Form::Str(self.string()?),
            Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => {
                Form::Number(self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            }
            Some(c) if c.is_ascii_alphabetic() => self.named(depth)?,
            _ => return Err(self.error("a value is missing")),
        };
        Ok(Node { at, form })
    }

    fn named(&mut self, depth: usize) -> Result<Form> {
        let at = self.at;
        let word = self.word(|c| c.is_ascii_alphanumeric());
        Ok(match word.as_str() {
            "true" => Form::Bool(true),
            "false" => Form::Bool(false),
            "inf" | "nan" => Form::Number(word),
            "b" if self.rest().starts_with(['\'', '"']) => {
                // A string of bytes ends with a NUL, as C has it.
                let mut bytes = self.string()?.into_bytes();
                bytes.push(0);
                Form::Bytes(bytes)
            }
            _ => match KEYWORDS.iter().find(|(keyword, _)| *keyword == word) {
                Some((_, kind)) => Form::Typed((*kind).to_owned(), Box::new(self.node(depth + 1)?)),
                None => return Err(NotAValue { at, why: "not a type, true or false; strings are quoted" }),
            },
        })
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.error("a bracket or a comma is missing")) }
    }

    fn list(&mut self, open: char, close: char, depth: usize) -> Result<Vec<Node>> {
        self.expect(open)?;
        let mut nodes = Vec::new();
        while !self.take(close) {
            nodes.push(self.node(depth + 1)?);
            if !self.take(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(nodes)
    }

    fn tuple(&mut self, depth: usize) -> Result<Form> {
        let fields = self.list('(', ')', depth)?;
        if fields.is_empty() { Err(self.error("D-Bus has no empty tuple")) } else { Ok(Form::Tuple(fields)) }
    }

    fn dictionary(&mut self, depth: usize) -> Result<Vec<(Node, Node)>> {
        self.expect('{')?;
        let mut entries = Vec::new();
        while !self.take('}') {
            let key = self.node(depth + 1)?;
            self.expect(':')?;
            entries.push((key, self.node(depth + 1)?));
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(entries)
    }

    fn string(&mut self) -> Result<String> {
        let at = self.at;
        let unfinished = NotAValue { at, why: "a string does not end" };
        let mut chars = self.text[at..].char_indices();
        let Some((_, quote)) = chars.next() else { return Err(unfinished) };
        let mut string = String::new();
        while let Some((offset, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at = at + offset + 1;
                    return Ok(string);
                }
                '\0' => return Err(NotAValue { at: at + offset, why: "a string cannot hold NUL" }),
                '\\' => {
                    let (_, escaped) = chars.next().ok_or_else(|| unfinished.clone())?;
                    let digits = match escaped {
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let character = unescaped(escaped, &hex);
                    string.push(character.ok_or(NotAValue { at: at + offset, why: "no such character" })?);
                }
                _ => string.push(c),
            }
        }
        Err(unfinished)
    }
}

fn unescaped(letter: char, hex: &str) -> Option<char> {
    Some(match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '\0' => return None,
        'v' => '\x0b',
        'u' | 'U' => {
            let plain = hex.bytes().all(|b| b.is_ascii_hexdigit());
            let code = u32::from_str_radix(hex, 16).ok().filter(|code| plain && *code != 0)?;
            return char::from_u32(code);
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn text_has_the_type_it_says_or_the_default_one() {
        let ints = |values: &[i32]| Value::Array("i".to_owned(), values.iter().map(|n| Value::I32(*n)).collect());
        let table = [
            ("true", Value::Bool(true)),
            ("5", Value::I32(5)),
            ("-5", Value::I32(-5)),
            ("0x1F", Value::I32(31)),
            ("010", Value::I32(8)),
            ("1e3", Value::F64(1000.0)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("@t 7", Value::U64(7)),
            ("byte 0xff", Value::Byte(255)),
            ("double 2", Value::F64(2.0)),
            ("'it'", Value::str("it")),
            (r#""a\"b\n\u00e9""#, Value::str("a\"b\né")),
            ("objectpath '/a/b_1'", Value::Path("/a/b_1".to_owned())),
            ("signature 'a{sv}'", Value::Signature("a{sv}".to_owned())),
            ("b'ab'", Value::bytes(b"ab\0")),
            ("[1, 2]", ints(&[1, 2])),
            ("[1, uint16 2]", Value::Array("q".to_owned(), vec![Value::U16(1), Value::U16(2)])),
            ("[1, 2.5]", Value::Array("d".to_owned(), vec![Value::F64(1.0), Value::F64(2.5)])),
            ("@as []", Value::strings(&[])),
            ("@ai [1]", ints(&[1])),
            ("['a', 'b']", Value::strings(&["a", "b"])),
            ("<5>", Value::Variant(Box::new(Value::I32(5)))),
            ("('a', 5)", Value::Struct(vec![Value::str("a"), Value::I32(5)])),
            ("(5,)", Value::Struct(vec![Value::I32(5)])),
            (
                "[('/dev/null', uint64 5), ('x', 6)]",
                Value::Array(
                    "(st)".to_owned(),
                    vec![
                        Value::Struct(vec![Value::str("/dev/null"), Value::U64(5)]),
                        Value::Struct(vec![Value::str("x"), Value::U64(6)]),
                    ],
                ),
            ),
            (
                " { 'a' : <true> } ",
                Value::Array(
                    "{sv}".to_owned(),
                    vec![Value::Entry(
                        Box::new(Value::str("a")),
                        Box::new(Value::Variant(Box::new(Value::Bool(true)))),
                    )],
                ),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_where_it_goes_wrong() {
        let table = [
            ("", 0),
            ("mean", 0),
            ("5 6", 2),
            ("uint16 65536", 7),
            ("uint32 -1", 7),
            ("5x", 0),
            ("[1", 2),
            ("[1, 'a']", 1),
            ("[]", 0),
            ("()", 2),
            ("'open", 0),
            ("'\\u0000'", 1),
            ("@ 5", 0),
            ("@tt 5", 0),
            ("objectpath 'a'", 11),
            ("just 5", 0),
            ("--5", 0),
        ];
        for (text, at) in table {
            assert_eq!(parse(text).unwrap_err().at, at, "{text}");
        }
        let long = format!("({})", vec!["1"; 300].join(", "));
        for text in [&long, &format!("<{long}>"), &format!("{}1{}", "<".repeat(40), ">".repeat(40)), "'\\\0'"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse(&"<".repeat(10_000)).is_err());
    }
}
