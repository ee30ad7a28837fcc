//! Bytes and values, both ways.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pintle_dbus::{Call, HEADER_LEN, Kind, Malformed, Message, Opened, Value, message_len, opened, parse};
use proptest::prelude::*;

/// Written down from the specification: "Message Format" and "Marshaling", alignments counted by hand.
#[test]
fn a_call_is_the_bytes_of_the_specification() {
    let call = Call {
        destination: "d.e",
        path: "/o",
        interface: "i.f",
        member: "Go",
        arguments: vec![
            Value::str("ab"),
            Value::Array(
                "(sv)".to_owned(),
                vec![Value::Struct(vec![Value::str("k"), Value::Variant(Box::new(Value::U64(7)))])],
            ),
        ],
    };
    let header = [
        b"l\x01\x02\x01".as_slice(),  // little-endian, call, NO_AUTO_START, version 1
        b"\x24\0\0\0",                // length of the body
        b"\x05\0\0\0",                // serial
        b"\x44\0\0\0",                // length of the header's fields
        b"\x01\x01o\0\x02\0\0\0/o\0", // path: code, signature "o", string of 2
        b"\0\0\0\0\0",                // to the next multiple of 8
        b"\x02\x01s\0\x03\0\0\0i.f\0",
        b"\0\0\0\0",
        b"\x03\x01s\0\x02\0\0\0Go\0",
        b"\0\0\0\0\0",
        b"\x06\x01s\0\x03\0\0\0d.e\0",
        b"\0\0\0\0",
        b"\x08\x01g\0\x06sa(sv)\0", // a signature's length is one byte
        b"\0\0\0\0",                // the body begins at a multiple of 8
    ]
    .concat();
    let body = [
        b"\x02\0\0\0ab\0".as_slice(),
        b"\0",
        b"\x18\0\0\0",         // the array's length, without what aligns its first struct
        b"\0\0\0\0",           // to 8
        b"\x01\0\0\0k\0",      // the struct: a string
        b"\x01t\0",            // the variant's signature
        b"\0\0\0\0\0\0\0",     // to 8
        b"\x07\0\0\0\0\0\0\0", // 7
    ]
    .concat();
    // Header fields: 16 + 16 + 16 + 16 bytes with their padding, and 12 of the last.
    let mut expected = [header, body.clone()].concat();
    expected[4] = u8::try_from(body.len()).unwrap();
    expected[12] = 16 * 4 + 12;
    assert_eq!(call.encode(5), expected);
}

/// A signal as systemd sends it, big-endian as no machine of ours would.
#[test]
fn a_signal_is_read_in_either_byte_order() {
    let bytes = [
        b"B\x04\x01\x01".as_slice(), // big-endian, signal, no answer expected, version 1
        b"\0\0\0\x12",               // length of the body
        b"\0\0\0\x09",               // serial
        b"\0\0\0\x29",               // length of the fields: 16 + 16 + 9
        b"\x01\x01o\0\0\0\0\x02/o\0\0\0\0\0\0",
        b"\x03\x01s\0\0\0\0\x02Up\0\0\0\0\0\0",
        b"\x08\x01g\0\x03uos\0\0\0\0\0\0\0\0",
        b"\0\0\0\x2a",        // 42
        b"\0\0\0\x01/\0\0\0", // an object path, and up to 4
        b"\0\0\0\x01s\0",
    ]
    .concat();
    let message = Message::decode(&bytes).unwrap();
    assert_eq!((message.kind, message.serial), (Kind::Signal, 9));
    assert_eq!((message.path.as_deref(), message.member.as_deref()), (Some("/o"), Some("Up")));
    assert_eq!(message.arguments().unwrap(), [Value::U32(42), Value::Path("/".to_owned()), Value::str("s")]);
}

#[test]
fn the_opening_is_answered_line_by_line() {
    let table = [
        ("DATA\r", Opened::NotYet),
        ("OK 0123456789abcdef0123456789abcdef\r", Opened::Yes),
        ("OK 0123456789abcdef0123456789abcdef", Opened::Yes),
        ("REJECTED EXTERNAL\r", Opened::Refused),
        ("ERROR \"no\"\r", Opened::Refused),
        ("OKAY\r", Opened::Refused),
        ("", Opened::Refused),
    ];
    for (line, expected) in table {
        assert_eq!(opened(line.as_bytes()), expected, "{line}");
    }
}

fn call(arguments: Vec<Value>) -> Vec<u8> {
    Call { destination: "a.b", path: "/", interface: "a.b", member: "C", arguments }.encode(1)
}

#[test]
fn what_breaks_a_rule_of_the_format_is_refused() {
    let good = call(vec![Value::Bool(true)]);
    assert!(Message::decode(&good).unwrap().arguments().is_ok());
    let body = good.len() - 4;
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Message::decode(&bytes).and_then(|message| message.arguments())
    };
    assert_eq!(broken(body, 2), Err(Malformed("a boolean other than 0 and 1")));
    assert!(broken(0, b'x').is_err());
    assert!(broken(1, 0).is_err());
    assert!(broken(3, 2).is_err());
    assert!(broken(4, 3).is_err());
    assert_eq!(Message::decode(&good[..body]), Err(Malformed("it is not as long as it says")));
    let mut endless = [0; HEADER_LEN];
    endless[..4].copy_from_slice(b"l\x01\0\x01");
    endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(message_len(&endless), Err(Malformed("it is too long")));
}

fn basic() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::Byte),
        any::<bool>().prop_map(Value::Bool),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        "[^\0]{0,8}".prop_map(Value::Str),
        "(/[a-z_]{1,5}){1,3}".prop_map(Value::Path),
        Just(Value::Signature("a{s(iv)}".to_owned())),
    ]
}

/// Arrays repeat one value: their elements are of one type then.
fn value() -> impl Strategy<Value = Value> {
    basic().prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|value| Value::Variant(Box::new(value))),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
            (inner.clone(), 0..4usize).prop_map(|(value, n)| Value::Array(value.signature(), vec![value; n])),
            (basic(), inner, 0..3usize).prop_map(|(key, value, n)| {
                let entry = Value::Entry(Box::new(key), Box::new(value));
                Value::Array(entry.signature(), vec![entry; n])
            }),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_the_way(values in prop::collection::vec(value(), 0..4)) {
        let bytes = call(values.clone());
        prop_assert_eq!(message_len(bytes.first_chunk().unwrap()), Ok(bytes.len()));
        prop_assert_eq!(Message::decode(&bytes).unwrap().arguments().unwrap(), values);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Message::decode(&bytes).map(|message| message.arguments());
    }

    #[test]
    fn damaged_messages_never_panic(
        values in prop::collection::vec(value(), 0..3), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = call(values);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Message::decode(&bytes).map(|message| message.arguments());
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[\\[\\](){}<>@',:\"\\\\ abinu0-9xä.+-]{0,40}") {
        let _ = parse(&text);
    }
}
