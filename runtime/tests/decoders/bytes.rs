//! Any bytes as what other programs send us: systemd over D-Bus, CRIU, containerd over ttrpc, the kubelet. No decoder may
//! panic, and what is understood must come out of an encoding as it went in. Shared by the fuzz targets and the tests that
//! replay their corpora.

use std::fmt::Debug;

use pintle_criu as criu;
use pintle_dbus::{Call, Message as Dbus, Value};
use pintle_runtime_plan::criu::{Needs, Version, errors, page_server};
use pintle_shim::request::{self, Ask};
use pintle_ttrpc::{self as ttrpc, Frame, events, options, task};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

/// A corpus, and what its entries are given to.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 5] =
    [("criu", criu), ("dbus", dbus), ("dbus_text", dbus_text), ("shim", shim), ("ttrpc", ttrpc)];

/// A message of the bus's, as it is and with a length that fits, and lines of its opening.
pub fn dbus(data: &[u8]) {
    data.split(|byte| *byte == b'\n').for_each(|line| _ = pintle_dbus::opened(line));
    for bytes in [Some(data.to_vec()), of_fitting_length(data)].into_iter().flatten() {
        let Ok(message) = Dbus::decode(&bytes) else { continue };
        if let Ok(arguments) = message.arguments() {
            goes_and_comes(arguments);
        }
    }
}

/// The body is as long as what follows the header's fields.
fn of_fitting_length(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    bytes.get_mut(4..8)?.fill(0);
    let fields_end = pintle_dbus::message_len(bytes.first_chunk()?).ok()?;
    let body = u32::try_from(bytes.len().checked_sub(fields_end)?).ok()?;
    let length = if bytes[0] == b'B' { body.to_be_bytes() } else { body.to_le_bytes() };
    bytes[4..8].copy_from_slice(&length);
    Some(bytes)
}

/// An annotation's text, which becomes an argument.
pub fn dbus_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(value) = pintle_dbus::parse(text) {
        goes_and_comes(vec![value]);
    }
}

/// Compared as text: not-a-number is not itself.
fn goes_and_comes(arguments: Vec<Value>) {
    let call = Call { destination: "a.b", path: "/", interface: "a.b", member: "c", arguments };
    let came = Dbus::decode(&call.encode(1)).and_then(|message| message.arguments());
    assert_eq!(format!("{came:?}"), format!("{:?}", Ok::<_, pintle_dbus::Malformed>(call.arguments)));
}

/// An answer of CRIU's, its log, and an address for it.
pub fn criu(data: &[u8]) {
    if let Some(version) = encoded::<criu::Answer>(data).and_then(|answer| answer.version) {
        let version = Version::from_answer(&version);
        assert_eq!(version.has(Needs::Lsm), version.require(Needs::Lsm).is_ok(), "{version}");
    }
    encoded::<criu::Request>(data);
    let text = String::from_utf8_lossy(data);
    let told = errors(&text);
    assert!(told.len() <= 5 && told.iter().all(|line| text.contains(line)), "{told:?}");
    if let Ok((address, port)) = page_server(&text) {
        assert!(!address.is_empty() && (0..=65_535).contains(&port));
    }
}

/// What containerd sends, in pieces as long as the first byte says; and each message alone.
pub fn ttrpc(data: &[u8]) {
    let Some((size, wire)) = data.split_first() else { return };
    let (mut input, mut taken) = (Vec::new(), 0);
    for piece in wire.chunks(usize::from(*size).max(1)) {
        input.extend_from_slice(piece);
        while let Ok(Some(frame)) = Frame::take(&mut input) {
            let mut sent = wire[taken..][..ttrpc::HEAD_LEN + frame.data.len()].to_vec();
            taken += sent.len();
            // Flags are of streams, which we have none of.
            sent[ttrpc::HEAD_LEN - 1] = 0;
            assert_eq!(frame.encode(), sent);
            if let Some(request) = encoded::<ttrpc::Request>(&frame.data) {
                messages(&request.payload);
            }
        }
    }
    messages(wire);
}

fn messages(data: &[u8]) {
    encoded::<ttrpc::Request>(data);
    encoded::<ttrpc::Response>(data);
    encoded::<task::ProcessRequest>(data);
    encoded::<task::ExecRequest>(data);
    encoded::<task::ResizeRequest>(data);
    encoded::<task::KillRequest>(data);
    encoded::<task::CloseIoRequest>(data);
    encoded::<task::ShutdownRequest>(data);
    encoded::<options::RuncOptions>(data);
    encoded::<options::CheckpointOptions>(data);
    encoded::<task::CheckpointRequest>(data);
    encoded::<task::StateResponse>(data);
    encoded::<task::PidsResponse>(data);
    encoded::<events::TaskExit>(data);
    if let Some(options) = encoded::<task::CreateRequest>(data).and_then(|request| request.options) {
        encoded::<options::RuncOptions>(&options.value);
    }
    if let Some(event) = encoded::<events::ForwardRequest>(data).and_then(|request| request.envelope) {
        encoded::<events::Envelope>(&event.encode_to_vec());
    }
}

fn encoded<M: Message + Default + PartialEq + Debug>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    assert_eq!(M::decode(&message.encode_to_vec()[..]).as_ref(), Ok(&message));
    Some(message)
}

/// A frame of the kubelet's, and what it reads itself.
pub fn shim(data: &[u8]) {
    if let (Ok(whole), Some((_, Ok(ask)))) = (request::whole(data), request::read(data.to_vec())) {
        assert_eq!(seen(&ask), told(&whole));
    }
    written::<pintle_shim::Request>(data);
    written::<pintle_shim::Message>(data);
    written::<pintle_shim::ShimConfig>(data);
}

/// What the supervisor acts on, which must be what its worker reads.
fn seen(ask: &Ask) -> String {
    match ask {
        Ask::Plain(call) => format!("{call:?}"),
        Ask::Exec { container, terminal, timeout_ms, .. } => format!("exec {container} {terminal} {timeout_ms:?}"),
        Ask::Update { container, .. } => format!("update {container:?}"),
    }
}

fn told(call: &pintle_shim::Call) -> String {
    match call {
        pintle_shim::Call::Exec { container, process, timeout_ms } => {
            format!("exec {container} {} {timeout_ms:?}", process.terminal().unwrap_or(false))
        }
        pintle_shim::Call::Update { container, .. } => format!("update {container:?}"),
        plain => format!("{plain:?}"),
    }
}

fn written<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again = serde_json::from_slice::<T>(&text).map_err(|error| error.to_string());
    assert_eq!(again.as_ref(), Ok(&value), "{}", String::from_utf8_lossy(&text));
}
