#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC, &bytes(1, &type_meta), &bytes(2, raw), &bytes(3, b""), &bytes(4, b"")].concat()
}

fn json(body: &[u8]) -> String {
    match to_json(body) {
        Ok(json) => String::from_utf8(json.to_vec()).unwrap(),
        Err(failure) => format!("{} {}", failure.0.code.unwrap(), failure.0.message.unwrap()),
    }
}

#[test]
fn reviews_evictions_and_deletions_read_as_json() {
    let attributes = [bytes(1, b"default"), bytes(2, b"list"), bytes(3, b""), bytes(5, b"pods")].concat();
    let review = bytes(2, &bytes(1, &attributes));
    let zero_time = bytes(8, &[]);
    let meta = [bytes(1, b"web-1"), bytes(3, b"default"), zero_time].concat();
    // gracePeriodSeconds −1, in ten bytes.
    let grace = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
    let options = [grace, bytes(5, b"All")].concat();
    let eviction = [bytes(1, &meta), bytes(2, &options)].concat();
    let shown = [
        json(&envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", &review)),
        json(&envelope("policy/v1", "Eviction", &eviction)),
    ];
    insta::assert_snapshot!(shown.join("\n"), @r#"
    {"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"namespace":"default","resource":"pods","verb":"list"}}}
    {"apiVersion":"policy/v1","deleteOptions":{"dryRun":["All"],"gracePeriodSeconds":-1},"kind":"Eviction","metadata":{"name":"web-1","namespace":"default"}}
    "#);
}

#[test]
fn kinds_read_as_their_json() {
    let meta = bytes(1, &bytes(1, b"s"));
    let data = bytes(2, &[bytes(1, b"k"), bytes(2, &[0, 1])].concat());
    let limits = bytes(1, &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat());
    let probe = [bytes(1, &bytes(2, &bytes(2, &[0x08, 0x00, 0x10, 0x50]))), vec![0x18, 0x00]].concat();
    let container = [bytes(1, b"a"), bytes(8, &limits), bytes(10, &probe)].concat();
    let spec = [bytes(2, &container), vec![0x20, 0x00], vec![0x58, 0x00]].concat();
    let shown = [
        json(&envelope("v1", "Secret", &[meta.clone(), data].concat())),
        json(&envelope("v1", "Pod", &[meta, bytes(2, &spec)].concat())),
    ];
    insta::assert_snapshot!(shown.join("\n"), @r#"
    {"apiVersion":"v1","data":{"k":"AAE="},"kind":"Secret","metadata":{"name":"s"}}
    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"s"},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":80}},"name":"a","resources":{"limits":{"cpu":"500m"}}}],"terminationGracePeriodSeconds":0}}
    "#);
}

#[test]
fn what_cannot_be_read_is_refused_with_a_reason() {
    let shown = [
        json(b"{}"),
        json(&envelope("example.com/v1", "Thing", b"")),
        json(&envelope("v1", "DeleteOptions", &[0x0a, 0x7f])),
        json(&envelope("v1", "DeleteOptions", &bytes(1, b"x"))),
    ];
    insta::assert_snapshot!(shown.join("\n"), @"
    400 the protobuf body does not begin with the Kubernetes envelope
    415 Thing cannot be sent as protobuf to this server; send application/json
    400 cannot decode the protobuf body: the message ends in the middle of a field
    400 cannot decode the protobuf body: a field is of another type than its number says
    ");
}
