//! Resource quantities as whole numbers.
//!
//! Owns: reading `100m`, `64Mi`, `1.5`, `2e3`. Does not own: arithmetic on or printing of quantities.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up; `None` if it is malformed or does not fit.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1000)
}

/// A quantity in units, rounded up; `None` if it is malformed or does not fit.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

/// A named entry in thousandths; 0 if absent or malformed.
pub fn milli_of(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    map.and_then(|m| m.get(name)).and_then(milli).unwrap_or(0)
}

/// A named entry in units; 0 if absent or malformed.
pub fn units_of(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    map.and_then(|m| m.get(name)).and_then(units).unwrap_or(0)
}

fn scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (numerator, denominator) = suffix_ratio(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{}", whole.trim_start_matches(['+', '-']), fraction);
    let mantissa: i128 = digits.parse().ok()?;
    let below = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
    let above = mantissa.checked_mul(numerator)?.checked_mul(scale)?;
    let rounded = above / below + i128::from(above % below != 0);
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

fn suffix_ratio(suffix: &str) -> Option<(i128, i128)> {
    const SUFFIXES: [(&str, i128, i128); 16] = [
        ("", 1, 1),
        ("n", 1, 1_000_000_000),
        ("u", 1, 1_000_000),
        ("m", 1, 1000),
        ("k", 1000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("T", 1_000_000_000_000, 1),
        ("P", 1_000_000_000_000_000, 1),
        ("E", 1_000_000_000_000_000_000, 1),
        ("Ki", 1 << 10, 1),
        ("Mi", 1 << 20, 1),
        ("Gi", 1 << 30, 1),
        ("Ti", 1 << 40, 1),
        ("Pi", 1 << 50, 1),
        ("Ei", 1 << 60, 1),
    ];
    if let Some((_, numerator, denominator)) = SUFFIXES.iter().find(|(s, _, _)| *s == suffix) {
        return Some((*numerator, *denominator));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_notation() {
        let table = [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            ("1.5Ki", Some(1_536_000)),
            ("2e3", Some(2_000_000)),
            ("5E-1", Some(500)),
            ("1n", Some(1)),
            ("-1", Some(-1000)),
            ("x", None),
            ("1Zi", None),
        ];
        for (text, wanted) in table {
            assert_eq!(milli(&Quantity(text.to_owned())), wanted, "{text}");
        }
        assert_eq!(units(&Quantity("64Mi".to_owned())), Some(64 << 20));
    }
}
