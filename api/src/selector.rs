//! Label and field selectors.
//!
//! Owns: the string form (query parameters, `kubectl -l`), the object form (metav1.LabelSelector), and matching. Does not
//! own: which fields a kind offers.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::name;

/// Labels as metadata holds them.
pub type Labels = BTreeMap<String, String>;

/// What a label must satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values; an absent label satisfies it.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// An integer above the value.
    Gt,
    /// An integer below the value.
    Lt,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label.
    pub key: String,
    /// Condition.
    pub operator: Operator,
    /// Sorted values.
    pub values: Vec<String>,
}

/// A label selector: all requirements must hold. [`Selector::nothing`] matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All of these; none at all matches everything.
    All(Vec<Requirement>),
    /// Nothing matches (an absent metav1.LabelSelector).
    Nothing,
}

/// Why a selector is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Not the grammar of selectors.
    #[error("unable to parse requirement: found '{found}', expected: {expected}")]
    Syntax {
        /// The offending text.
        found: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A key that is no qualified name.
    #[error("unable to parse requirement: {key}: Invalid value: {key:?}: {why}")]
    Key {
        /// The key.
        key: String,
        /// The rule.
        why: String,
    },
    /// A value that is no label value.
    #[error("unable to parse requirement: values[0][{key}]: Invalid value: {value:?}: {why}")]
    Value {
        /// Of which key.
        key: String,
        /// The value.
        value: String,
        /// The rule.
        why: String,
    },
    /// An operator of metav1.LabelSelector that does not exist.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// A field selector without `=`.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    FieldTerm {
        /// The whole.
        selector: String,
        /// The part.
        term: String,
    },
    /// A backslash before something that needs none.
    #[error("invalid field selector: invalid escape sequence: \\{0}")]
    FieldEscape(char),
}

impl Requirement {
    /// Checks key and values.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Requirement, SelectorError> {
        if let Some(why) = name::qualified(key).into_iter().next() {
            return Err(SelectorError::Key { key: key.to_owned(), why });
        }
        for value in &values {
            let why = match operator {
                Operator::Gt | Operator::Lt if value.parse::<i64>().is_err() => {
                    Some("for 'Gt', 'Lt' operators, the value must be an integer".to_owned())
                }
                _ => name::label_value(value).into_iter().next(),
            };
            if let Some(why) = why {
                return Err(SelectorError::Value { key: key.to_owned(), value: value.clone(), why });
            }
        }
        values.sort();
        values.dedup();
        Ok(Requirement { key: key.to_owned(), operator, values })
    }

    /// Whether labels satisfy it.
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        let found = labels.and_then(|labels| labels.get(&self.key));
        let listed = || found.is_some_and(|value| self.values.contains(value));
        let compare = |wanted: std::cmp::Ordering| {
            let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
            match (number(found), number(self.values.first())) {
                (Some(is), Some(limit)) => is.cmp(&limit) == wanted,
                _ => false,
            }
        };
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::Gt => compare(std::cmp::Ordering::Greater),
            Operator::Lt => compare(std::cmp::Ordering::Less),
        }
    }
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Selector {
        Selector::All(Vec::new())
    }
    /// Matches nothing.
    pub fn nothing() -> Selector {
        Selector::Nothing
    }
    /// Whether it matches everything.
    pub fn is_everything(&self) -> bool {
        matches!(self, Selector::All(requirements) if requirements.is_empty())
    }

    /// The string form: `a=b,c in (d,e),!f,g`. Empty matches everything.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        if text.trim().is_empty() {
            return Ok(Selector::everything());
        }
        let mut requirements = split_terms(text).into_iter().map(parse_term).collect::<Result<Vec<_>, _>>()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Selector::All(requirements))
    }

    /// The object form. None matches nothing, an empty one everything.
    pub fn from_object(selector: Option<&LabelSelector>) -> Result<Selector, SelectorError> {
        let Some(selector) = selector else { return Ok(Selector::Nothing) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::In, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            requirements.push(Requirement::new(
                &expression.key,
                operator,
                expression.values.clone().unwrap_or_default(),
            )?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Selector::All(requirements))
    }

    /// Every pair must be there (Service.spec.selector, nodeSelector). Unchecked: stored objects have been validated.
    pub fn from_labels(labels: &Labels) -> Selector {
        let exact = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        Selector::All(labels.iter().map(exact).collect())
    }

    /// Whether labels satisfy it.
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        match self {
            Selector::All(requirements) => requirements.iter().all(|requirement| requirement.matches(labels)),
            Selector::Nothing => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match (self.operator, self.values.len()) {
            (Operator::In, 1) => write!(f, "{key}={values}"),
            (Operator::In, _) => write!(f, "{key} in ({values})"),
            (Operator::NotIn, 1) => write!(f, "{key}!={values}"),
            (Operator::NotIn, _) => write!(f, "{key} notin ({values})"),
            (Operator::Exists, _) => write!(f, "{key}"),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::Gt, _) => write!(f, "{key}>{values}"),
            (Operator::Lt, _) => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selector::All(requirements) = self else { return f.write_str("<nothing>") };
        for (index, requirement) in requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Splits at commas outside of parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(term: &str) -> Result<Requirement, SelectorError> {
    let term = term.trim();
    if let Some(key) = term.strip_prefix('!') {
        return Requirement::new(key.trim(), Operator::DoesNotExist, Vec::new());
    }
    if let Some(open) = term.find('(') {
        return parse_set(term, open);
    }
    for (sign, operator) in
        [("!=", Operator::NotIn), ("==", Operator::In), ("=", Operator::In), (">", Operator::Gt), ("<", Operator::Lt)]
    {
        if let Some((key, value)) = term.split_once(sign) {
            return Requirement::new(key.trim(), operator, vec![value.trim().to_owned()]);
        }
    }
    if let Some(at) = term.find(char::is_whitespace) {
        let found = term[at..].trim().to_owned();
        return Err(SelectorError::Syntax { found, expected: "in, notin, =, ==, !=, gt, lt" });
    }
    if term.is_empty() {
        return Err(SelectorError::Syntax { found: String::new(), expected: "!, identifier, or 'end of string'" });
    }
    Requirement::new(term, Operator::Exists, Vec::new())
}

/// `key in (a,b)` or `key notin (a)`.
fn parse_set(term: &str, open: usize) -> Result<Requirement, SelectorError> {
    let mut head = term[..open].split_whitespace();
    let (key, word) = (head.next().unwrap_or(""), head.next().unwrap_or(""));
    let operator = match word {
        "in" => Operator::In,
        "notin" => Operator::NotIn,
        other => {
            return Err(SelectorError::Syntax { found: other.to_owned(), expected: "in, notin, =, ==, !=, gt, lt" });
        }
    };
    let Some(inner) = term[open + 1..].trim_end().strip_suffix(')') else {
        return Err(SelectorError::Syntax { found: String::new(), expected: "',' or ')'" });
    };
    Requirement::new(key, operator, inner.split(',').map(|value| value.trim().to_owned()).collect())
}

/// A field selector: every term must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector(pub Vec<FieldTerm>);

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// `spec.nodeName`.
    pub field: String,
    /// The value to compare with.
    pub value: String,
    /// Whether the field must equal it, or must not.
    pub equal: bool,
}

impl FieldSelector {
    /// `a=b,c!=d`; `\,` `\=` and `\\` escape.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let (field, value, equal) = split_field_term(term)
                .ok_or_else(|| SelectorError::FieldTerm { selector: text.to_owned(), term: term.to_owned() })?;
            terms.push(FieldTerm { field: field.to_owned(), value: unescape(value)?, equal });
        }
        Ok(FieldSelector(terms))
    }
    /// Whether all terms hold; `value_of` gives a field's value, None for a field the kind does not have.
    pub fn matches(&self, mut value_of: impl FnMut(&str) -> Option<String>) -> bool {
        self.0.iter().all(|term| (value_of(&term.field).unwrap_or_default() == term.value) == term.equal)
    }
    /// The value a field must equal, if the selector says so (`metadata.name=x` turns a list into a get).
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
    /// The first field that is not among the known ones.
    pub fn unknown_field(&self, known: impl Fn(&str) -> bool) -> Option<&str> {
        self.0.iter().map(|term| term.field.as_str()).find(|field| !known(field))
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let (comma, sign) = (if index == 0 { "" } else { "," }, if term.equal { "=" } else { "!=" });
            write!(f, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_field_term(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find('=')?;
    if let Some(field) = term[..at].strip_suffix('!') {
        return Some((field, &term[at + 1..], false));
    }
    let value = &term[at + 1..];
    Some((&term[..at], value.strip_prefix('=').unwrap_or(value), true))
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => return Err(SelectorError::FieldEscape(other.unwrap_or(' '))),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn selectors_match_what_they_say() {
        let labels = labels(&[("app", "web"), ("tier", "front"), ("size", "12"), ("empty", "")]);
        let table = [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (api, web)", true),
            ("app notin (web)", false),
            ("absent notin (x)", true),
            ("absent!=x", true),
            ("app", true),
            ("!app", false),
            ("!absent", true),
            ("size>11", true),
            ("size<12", false),
            ("empty=", true),
            ("app in ()", false),
        ];
        for (text, expected) in table {
            assert_eq!(Selector::parse(text).unwrap().matches(Some(&labels)), expected, "{text}");
        }
        assert!(!Selector::from_object(None).unwrap().matches(Some(&labels)));
        assert!(Selector::from_object(Some(&LabelSelector::default())).unwrap().matches(None));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let texts: Vec<String> = ["a b", "a in b", "a in (b", ",", "-a=b", "a=b c", "a>b"]
            .iter()
            .map(|text| Selector::parse(text).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(texts.join("\n"), @r#"
        unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
        unable to parse requirement: found 'in b', expected: in, notin, =, ==, !=, gt, lt
        unable to parse requirement: found '', expected: ',' or ')'
        unable to parse requirement: found '', expected: !, identifier, or 'end of string'
        unable to parse requirement: -a: Invalid value: "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        unable to parse requirement: values[0][a]: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        unable to parse requirement: values[0][a]: Invalid value: "b": for 'Gt', 'Lt' operators, the value must be an integer
        "#);
    }

    #[test]
    fn field_selectors_unescape_and_match() {
        let selector = FieldSelector::parse(r"a=x\,y,b!=,metadata.name==n").unwrap();
        assert!(selector.matches(|field| Some(match field {
            "a" => "x,y".into(),
            "b" => "z".into(),
            _ => "n".into(),
        })));
        assert_eq!(selector.to_string(), r"a=x\,y,b!=,metadata.name=n");
        assert_eq!(selector.exact("metadata.name"), Some("n"));
        assert!(FieldSelector::parse("a").is_err());
        assert!(FieldSelector::parse(r"a=\x").is_err());
    }

    proptest! {
        #[test]
        fn what_a_selector_prints_parses_to_the_same(text in "[!a-c=,()><. in]{0,20}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
            }
            let _ = FieldSelector::parse(&text);
        }
    }
}
