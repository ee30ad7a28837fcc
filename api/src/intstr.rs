//! Numbers that may be percentages (`maxSurge: 25%`).
//!
//! Owns: scaling and rounding. Does not own: which way a field rounds.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage of a total is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// maxSurge.
    Up,
    /// maxUnavailable.
    Down,
}

/// The percent of `25%`; None if the text is not a percentage.
pub fn percent(text: &str) -> Option<i32> {
    text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// The number, or the percentage of `total`. None for a text that is no percentage.
pub fn scaled(value: &IntOrString, total: i32, round: Round) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let product = i64::from(percent(text)?) * i64::from(total);
            let rounded = match round {
                Round::Up => (product + 99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(rounded).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let text = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&text("25%"), 10, Round::Up), Some(3));
        assert_eq!(scaled(&text("25%"), 10, Round::Down), Some(2));
        assert_eq!(scaled(&text("100%"), 3, Round::Down), Some(3));
        assert_eq!(scaled(&IntOrString::Int(7), 3, Round::Down), Some(7));
        for nonsense in ["25", "%", "-1%", "1.5%"] {
            assert_eq!(scaled(&text(nonsense), 10, Round::Up), None, "{nonsense}");
        }
    }
}
