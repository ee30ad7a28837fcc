//! Amounts of resources: `100m`, `1.5Gi`, `12e6`.
//!
//! Owns: parsing, the canonical form, arithmetic and comparison of apimachinery's resource.Quantity. Does not own: which
//! resources exist.
//!
//! An [`Amount`] is an integer of 10⁻⁹ units, which holds every value the format allows (±2⁶³ units, nano precision) in
//! an `i128` with room for sums.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;
/// Upstream caps at 2⁶³-1 units.
const NANO_MAX: i128 = (i64::MAX as i128) * NANO;

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// How an amount was written, and will be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `1k` = 1000.
    #[default]
    DecimalSi,
    /// `1Ki` = 1024.
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// An amount. Equality and order are by value, whatever the format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amount {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No number at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// An unknown unit.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount { nano: 0, format: Format::DecimalSi };

    /// Whole units (cores, pieces).
    pub fn from_units(units: i64) -> Amount {
        Amount { nano: i128::from(units) * NANO, format: Format::DecimalSi }
    }
    /// Thousandths.
    pub fn from_milli(milli: i64) -> Amount {
        Amount { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }
    /// Bytes, shown in powers of 1024.
    pub fn from_bytes(bytes: i64) -> Amount {
        Amount { nano: i128::from(bytes) * NANO, format: Format::BinarySi }
    }
    /// Of an API object. An unreadable one is an error; validation keeps those out of the store.
    pub fn of(quantity: &Quantity) -> Result<Amount, QuantityError> {
        quantity.0.parse()
    }
    /// Of an API object that was validated: unreadable counts as nothing.
    pub fn or_zero(quantity: &Quantity) -> Amount {
        Amount::of(quantity).unwrap_or_default()
    }
    /// Whole units, rounded up (away from zero).
    pub fn units(self) -> i64 {
        narrow(div_up(self.nano, NANO))
    }
    /// Thousandths, rounded up (away from zero).
    pub fn milli(self) -> i64 {
        narrow(div_up(self.nano, NANO / 1000))
    }
    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }
    /// Whether it is below nothing.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }
    /// Whether it is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }
    /// The sum, in the left one's format (the right one's if the left is nothing).
    #[must_use]
    pub fn plus(self, other: Amount) -> Amount {
        let format = if self.is_zero() { other.format } else { self.format };
        Amount { nano: cap(self.nano + other.nano), format }
    }
    /// The difference, in the left one's format.
    #[must_use]
    pub fn minus(self, other: Amount) -> Amount {
        let format = if self.is_zero() { other.format } else { self.format };
        Amount { nano: cap(self.nano - other.nano), format }
    }
    /// For an API object, in canonical form.
    pub fn to_quantity(self) -> Quantity {
        Quantity(self.to_string())
    }

    /// Suffix form of canonical decimal: (digits, exponent of ten).
    fn decimal(self) -> (i128, i32) {
        let (mut digits, mut exponent) = (self.nano, -9);
        while digits != 0 && digits % 1000 == 0 && exponent < 18 {
            digits /= 1000;
            exponent += 3;
        }
        (digits, exponent)
    }
}

fn cap(nano: i128) -> i128 {
    nano.clamp(-NANO_MAX, NANO_MAX)
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Division rounding away from zero.
fn div_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Amount) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Amount {}
impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Amount) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Amount {
    fn cmp(&self, other: &Amount) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::BinarySi if self.nano.abs() >= 1024 * NANO => {
                let (mut value, mut power) = (div_up(self.nano, NANO), 0);
                while value % 1024 == 0 && power + 1 < BINARY.len() {
                    value /= 1024;
                    power += 1;
                }
                write!(f, "{value}{}", BINARY[power])
            }
            Format::DecimalSi | Format::BinarySi => {
                let (digits, exponent) = self.decimal();
                let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(suffix, _)| suffix);
                write!(f, "{digits}{suffix}")
            }
            Format::DecimalExponent => match self.decimal() {
                (digits, 0) => write!(f, "{digits}"),
                (digits, exponent) => write!(f, "{digits}e{exponent}"),
            },
        }
    }
}

/// A suffix as (numerator, denominator) factor of one unit.
fn suffix_factor(suffix: &str) -> Result<(i128, i128, Format), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(text, _)| *text == suffix) {
        let (numerator, denominator) = power_of_ten(*exponent);
        return Ok((numerator, denominator, Format::DecimalSi));
    }
    if let Some(power) = BINARY.iter().position(|text| *text == suffix) {
        return Ok((1 << (10 * power), 1, Format::BinarySi));
    }
    let exponent: i32 =
        suffix.strip_prefix(['e', 'E']).and_then(|text| text.parse().ok()).ok_or(QuantityError::Suffix)?;
    let (numerator, denominator) = power_of_ten(exponent);
    Ok((numerator, denominator, Format::DecimalExponent))
}

/// 10^exponent as a fraction. Beyond ±28 every value is capped or vanishes anyway.
fn power_of_ten(exponent: i32) -> (i128, i128) {
    let power = 10_i128.pow(exponent.unsigned_abs().min(28));
    if exponent < 0 { (1, power) } else { (power, 1) }
}

impl FromStr for Amount {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Amount, QuantityError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (numerator, denominator, format) = suffix_factor(suffix)?;
        // Digits beyond 10⁻⁹ of the smallest binary unit cannot matter but for rounding up.
        let kept = &fraction[..fraction.len().min(18)];
        let lost = fraction[kept.len()..].bytes().any(|b| b != b'0');
        let digits = format!("{}{kept}", whole.trim_start_matches('0'));
        let nano = if digits.is_empty() {
            0
        } else {
            let scale = 10_i128.pow(u32::try_from(kept.len()).unwrap_or(0)).saturating_mul(denominator);
            scaled(&digits, numerator, scale)
        };
        let nano = cap(nano + i128::from(lost && nano == 0));
        Ok(Amount { nano: if negative { -nano } else { nano }, format })
    }
}

/// digits × numerator × 10⁹ / scale, rounded up, capped.
fn scaled(digits: &str, numerator: i128, scale: i128) -> i128 {
    let Ok(value) = digits.parse::<i128>() else { return NANO_MAX };
    // Divide out common factors of ten first so that the product rarely overflows.
    let (mut multiplier, mut divisor) = (numerator.saturating_mul(NANO), scale);
    while multiplier % 10 == 0 && divisor % 10 == 0 {
        multiplier /= 10;
        divisor /= 10;
    }
    match value.checked_mul(multiplier) {
        Some(product) => div_up(product, divisor),
        None => (value / divisor.max(1)).saturating_mul(multiplier).min(NANO_MAX),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_forms_are_those_of_kubernetes() {
        let table = [
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1024Ki", "1Mi"),
            ("1023Ki", "1023Ki"),
            ("12e6", "12e6"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("100m", "100m"),
            ("0.0000000001", "1n"),
            ("-0.5", "-500m"),
            ("+1", "1"),
            ("0", "0"),
            (".5", "500m"),
            ("1.", "1"),
            ("1Ei", "1Ei"),
            ("100Ei", "9223372036854775807"),
            ("1e-3", "1e-3"),
            ("1u", "1u"),
            ("123456789Ki", "123456789Ki"),
            ("1.1Ki", "1127"),
            ("0.1m", "100u"),
        ];
        for (text, canonical) in table {
            assert_eq!(amount(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for text in ["", "m", "1x", "1.2.3", "--1", "1 Gi", "1ki", "1e", "e3", "."] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_add_compare_and_convert() {
        assert_eq!(amount("1Gi").plus(amount("512Mi")).to_string(), "1536Mi");
        assert_eq!(amount("1").minus(amount("250m")).to_string(), "750m");
        assert!(amount("1Ki") > amount("1k"));
        assert_eq!(amount("1500m").units(), 2);
        assert_eq!(amount("0.0001").milli(), 1);
        assert_eq!(amount("1Gi").units(), 1 << 30);
        assert_eq!(Amount::from_bytes(2048).to_string(), "2Ki");
        assert_eq!(Amount::from_milli(1100).to_string(), "1100m");
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same(text in "[+-]?[0-9]{0,25}\\.?[0-9]{0,25}([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?") {
            if let Ok(first) = text.parse::<Amount>() {
                let again: Amount = first.to_string().parse().unwrap();
                // A binary amount is written in whole units, so a fraction may be rounded up by less than one.
                prop_assert!((again.nano - first.nano).abs() < NANO);
                prop_assert_eq!(again.to_string(), first.to_string());
            }
        }
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Amount>();
        }
    }
}
