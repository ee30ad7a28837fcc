//! What names may look like: DNS labels and subdomains, qualified names, label values, keys.
//!
//! Owns: the rules and their sentences (apimachinery's util/validation, RFC 1123, RFC 1035). Each validator returns the
//! complaints, none if the text is fine. Does not own: which field obeys which rule.

/// Longest DNS-1123 and DNS-1035 label.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS-1123 subdomain.
pub const SUBDOMAIN_BYTES_MAX: usize = 253;

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const LABEL_1123_RE: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const SUBDOMAIN_RE: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const LABEL_1035_RE: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_RE: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_RE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const CONFIG_KEY_RE: &str = "[-._a-zA-Z0-9]+";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn regex_message(rule: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}'")).collect();
    let examples = examples.join(",  or ");
    format!("{rule} (e.g. {examples}, regex used for validation is '{regex}')")
}

fn is_label_1123(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_qualified_part(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// DNS-1123 label: `my-name`.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        out.push(too_long(LABEL_BYTES_MAX));
    }
    if !is_label_1123(text) {
        // A dotted name is a frequent slip, and deserves the shorter answer.
        out.push(if dns1123_subdomain(text).is_empty() {
            "must not contain dots".to_owned()
        } else {
            regex_message(LABEL_1123, LABEL_1123_RE, &["my-name", "123-abc"])
        });
    }
    out
}

/// DNS-1123 subdomain: `example.com`.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        out.push(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(is_label_1123) {
        out.push(regex_message(SUBDOMAIN, SUBDOMAIN_RE, &["example.com"]));
    }
    out
}

/// DNS-1035 label: `my-name`, not beginning with a digit.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        out.push(too_long(LABEL_BYTES_MAX));
    }
    if !is_label_1123(text) || text.starts_with(|c: char| c.is_ascii_digit()) {
        out.push(regex_message(LABEL_1035, LABEL_1035_RE, &["my-name", "abc-123"]));
    }
    out
}

/// `[prefix/]name`, as label and annotation keys, finalizers, condition types.
pub fn qualified(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            let message = regex_message(QUALIFIED, QUALIFIED_RE, &["MyName", "my.name", "123-abc"]);
            out.push(format!(
                "a qualified name {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return out;
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(dns1123_subdomain(prefix).into_iter().map(|message| format!("prefix part {message}")));
            }
            name
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        out.push(format!("name part {}", too_long(LABEL_BYTES_MAX)));
    }
    if !is_qualified_part(name) {
        out.push(format!("name part {}", regex_message(QUALIFIED, QUALIFIED_RE, &["MyName", "my.name", "123-abc"])));
    }
    out
}

/// A label's value: empty, or as the name part of a qualified name.
pub fn label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        out.push(too_long(LABEL_BYTES_MAX));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        out.push(regex_message(LABEL_VALUE, LABEL_VALUE_RE, &["MyValue", "my_value", "12345"]));
    }
    out
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        out.push(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        out.push(regex_message(CONFIG_KEY, CONFIG_KEY_RE, &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// The name of an environment variable.
pub fn env_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        return Vec::new();
    }
    vec![ENV_NAME.to_owned()]
}

/// The name of a port: `http`, at most 15 bytes, at least one letter.
pub fn port_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 15 {
        out.push("must be no more than 15 bytes".to_owned());
    }
    if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.chars().any(|c| c.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// A port number, 1 to 65535.
pub fn port_number(port: i32) -> Vec<String> {
    if (1..=65_535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// One path segment: neither `.` nor `..`, no `/`, no `%`.
pub fn path_segment(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text == "." || text == ".." {
        out.push(format!("may not be '{text}'"));
    }
    for forbidden in ['/', '%'] {
        if text.contains(forbidden) {
            out.push(format!("may not contain '{forbidden}'"));
        }
    }
    out
}

/// An IP address in canonical notation.
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> Vec<String>;

    #[test]
    fn good_names_pass() {
        let good: &[(Rule, &[&str])] = &[
            (dns1123_label, &["a", "a-b", "123"]),
            (dns1123_subdomain, &["a", "a.b", "1.2-c"]),
            (dns1035_label, &["a", "a1"]),
            (qualified, &["a", "example.com/A_b.c", "1"]),
            (label_value, &["", "A", "a_b.c-d"]),
            (config_key, &["a", ".bashrc", "A_b-c.d"]),
            (env_name, &["A", "a.b", "my var"]),
            (port_name, &["http", "a1", "1a-b"]),
            (path_segment, &["system:node", "a"]),
            (ip, &["10.0.0.1", "::1"]),
        ];
        for (rule, texts) in good {
            for text in *texts {
                assert_eq!(rule(text), Vec::<String>::new(), "{text}");
            }
        }
    }

    #[test]
    fn bad_names_get_the_sentences_people_know() {
        let long = "a".repeat(64);
        let bad: &[(Rule, &str)] = &[
            (dns1123_label, "A"),
            (dns1123_label, "a.b"),
            (dns1123_label, &long),
            (dns1123_subdomain, "a..b"),
            (dns1035_label, "1a"),
            (qualified, "a/b/c"),
            (qualified, "/b"),
            (qualified, "A/b"),
            (qualified, ""),
            (label_value, "-a"),
            (config_key, ".."),
            (config_key, "a b"),
            (env_name, "a=b"),
            (port_name, "-A--0000000000000000"),
            (path_segment, "a/b"),
            (ip, "1.2.3"),
        ];
        let lines: Vec<String> = bad.iter().map(|(rule, text)| format!("{text}: {}", rule(text).join(" + "))).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        A: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        a.b: must not contain dots
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: must be no more than 63 bytes
        a..b: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        1a: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        a/b/c: a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        /b: prefix part must be non-empty
        A/b: prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        : name part must be non-empty + name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        -a: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        ..: must not be '..'
        a b: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        a=b: a valid environment variable name must consist only of printable ASCII characters other than '='
        -A--0000000000000000: must be no more than 15 bytes + must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-) + must contain at least one letter (a-z) + must not contain consecutive hyphens + must not begin or end with a hyphen
        a/b: may not contain '/'
        1.2.3: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        ");
    }
}
