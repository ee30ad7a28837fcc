//! How `nft` is told what the parts of a set's key are, so that it can read again what it lists. The types' numbers say it
//! for most; a number that is drawn has none with a length, and is spoken of as an expression: `typeof … numgen …`.
//!
//! The kernel keeps these bytes for whoever asks. Their form is nft's: type, length, value, each of the first two a byte;
//! see libnftnl's udata.h, and nft's `set_make_udata`, `expr_udata` of its payload, meta, numgen and concat expressions.

use pintle_nft::{DataType, SetKind};

/// `NFTNL_UDATA_SET_*`.
mod of_set {
    pub const KEY_BYTE_ORDER: u8 = 0;
    pub const DATA_BYTE_ORDER: u8 = 1;
    pub const KEY: u8 = 3;
    pub const DATA: u8 = 4;
}

/// `enum expr_types` of nft.
mod expression {
    pub const VERDICT: u32 = 1;
    pub const PAYLOAD: u32 = 7;
    pub const META: u32 = 9;
    pub const CONCAT: u32 = 13;
    pub const NUMGEN: u32 = 23;
}

/// `enum byteorder` of nft.
const HOST_ENDIAN: u32 = 1;

/// What to say of a set; nothing where its types' numbers say all.
pub(super) fn words(key: &[DataType], kind: &SetKind) -> Option<Vec<u8>> {
    if !key.contains(&DataType::Mark) {
        return None;
    }
    let data = match kind {
        SetKind::Map(parts) => all(parts)?,
        SetKind::Verdicts => spoken(expression::VERDICT, &[]),
        SetKind::Plain | SetKind::Closing | SetKind::Dynamic { .. } => return None,
    };
    let order = if key.len() == 1 { HOST_ENDIAN } else { 0 };
    Some(
        [
            number(of_set::KEY_BYTE_ORDER, order),
            number(of_set::DATA_BYTE_ORDER, 0),
            field(of_set::KEY, &all(key)?),
            field(of_set::DATA, &data),
        ]
        .concat(),
    )
}

/// The expression that has these parts.
fn all(parts: &[DataType]) -> Option<Vec<u8>> {
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| one(*part)).collect::<Option<_>>()?;
    match parts.as_slice() {
        [single] => Some(single.clone()),
        several => {
            let fields: Vec<Vec<u8>> = (0..).zip(several).map(|(n, part)| field(n, part)).collect();
            Some(spoken(expression::CONCAT, &fields.concat()))
        }
    }
}

/// An expression that has this type; which of those it is makes no difference.
fn one(part: DataType) -> Option<Vec<u8>> {
    // A protocol header and a field of it: nft's `PROTO_DESC_*` and `enum ip_hdr_fields` and the like.
    let payload = |header, at| spoken(expression::PAYLOAD, &[number(0, header), number(1, at)].concat());
    match part {
        DataType::Ipv4Addr => Some(payload(12, 12)),
        DataType::Ipv6Addr => Some(payload(13, 9)),
        DataType::InetService => Some(payload(11, 2)),
        // The key `NFT_META_L4PROTO`.
        DataType::InetProto => Some(spoken(expression::META, &number(0, 16))),
        // Random, of two, from nought.
        DataType::Mark => Some(spoken(expression::NUMGEN, &[number(0, 1), number(1, 2), number(2, 0)].concat())),
        DataType::IfName => None,
    }
}

fn spoken(kind: u32, data: &[u8]) -> Vec<u8> {
    [number(0, kind), field(1, data)].concat()
}

fn number(kind: u8, value: u32) -> Vec<u8> {
    field(kind, &value.to_ne_bytes())
}

/// No set of ours has so many parts that a length does not fit a byte.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[kind, length], value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 says it on a little-endian machine.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_map_by_a_drawn_number_is_spoken_of_as_nft_does() {
        let key = [DataType::InetProto, DataType::InetService, DataType::Mark];
        let data = SetKind::Map(vec![DataType::Ipv4Addr, DataType::InetService]);
        let hex: String = words(&key, &data).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect();
        let nft = "000400000000010400000000034a00040d0000000142000e00040900000001060004100000000114000407000000010c00040b0000\
            00010402000000021a0004170000000112000401000000010402000000020400000000043400040d000000012c0014000407000000010c00\
            040c00000001040c0000000114000407000000010c00040b000000010402000000";
        assert_eq!(hex, nft);
        let choice = words(&[DataType::Mark], &SetKind::Verdicts).unwrap_or_default();
        let hex: String = choice.iter().map(|b| format!("{b:02x}")).collect();
        let nft =
            "000401000000010400000000031a000417000000011200040100000001040200000002040000000004080004010000000100";
        assert_eq!(hex, nft);
        assert_eq!(words(&[DataType::Ipv4Addr], &SetKind::Verdicts), None, "its number says all");
    }
}
