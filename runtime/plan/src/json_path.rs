//! Where in a JSON text a byte is, as a path: serde says line and column, people want `linux.namespaces[2].type`.

/// The path of the innermost value or key that contains or precedes byte `offset`.
pub fn at(text: &str, offset: usize) -> String {
    let bytes = text.as_bytes();
    let end = offset.min(bytes.len());
    let mut stack: Vec<Frame> = Vec::new();
    let mut i = 0;
    while i < end {
        match bytes[i] {
            b'{' => stack.push(Frame::Object { key: None, expects_key: true }),
            b'[' => stack.push(Frame::Array(0)),
            b'}' | b']'
                // At the very end the error is about the value just closed; keep its path.
                if i + 1 < end => {
                    stack.pop();
                }
            b',' => next_member(stack.last_mut()),
            b'"' => {
                let close = string_end(bytes, i);
                if let Some(Frame::Object { key, expects_key: expects_key @ true }) = stack.last_mut() {
                    *key = Some(text.get(i + 1..close).unwrap_or_default().to_owned());
                    *expects_key = false;
                }
                i = close;
            }
            _ => {}
        }
        i += 1;
    }
    render(&stack)
}

enum Frame {
    Object { key: Option<String>, expects_key: bool },
    Array(usize),
}

fn next_member(frame: Option<&mut Frame>) {
    match frame {
        Some(Frame::Object { expects_key, .. }) => *expects_key = true,
        Some(Frame::Array(index)) => *index += 1,
        None => {}
    }
}

fn string_end(bytes: &[u8], open: usize) -> usize {
    let mut i = open + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn render(stack: &[Frame]) -> String {
    let mut path = String::new();
    for frame in stack {
        match frame {
            Frame::Object { key: Some(key), .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Frame::Object { key: None, .. } => {}
            Frame::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// The byte offset of a line and column, both counted from 1 as serde_json does.
pub fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    start + column
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_path_leads_to_the_byte() {
        let text = r#"{"a": {"b": [1, {"c\"d": true}, "x"]}, "e": 5}"#;
        let table = [("1,", "a.b[0]"), ("true", r#"a.b[1].c\"d"#), ("\"x\"", "a.b[2]"), ("5}", "e")];
        for (needle, path) in table {
            assert_eq!(at(text, text.find(needle).unwrap_or(0) + 1), path, "{needle}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\",:\\\\a1é\n]*", offset_in in 0..200usize) {
            at(&text, offset_in);
            offset(&text, offset_in, 3);
        }
    }
}
