//! Bootstrap and join tokens. Owns: their formats. Does not own: who holds one.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// `<id6>.<secret16>`, as in Secret `kube-system/bootstrap-token-<id>`.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    /// Public half: 6 of `[a-z0-9]`.
    pub id: String,
    /// Secret half: 16 of `[a-z0-9]`.
    pub secret: String,
}

/// `K10<sha256 of the authority's SPKI>::<bootstrap token>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// 64 hex digits.
    pub ca_hash: String,
    /// Who joins.
    pub bootstrap: BootstrapToken,
}

/// Why a token does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFormatError {
    /// `K10<hash>::` is missing or wrong.
    #[error("a join token begins with K10, 64 hex digits and two colons")]
    Pin,
    /// `id.secret` is wrong.
    #[error("a bootstrap token is 6 and 16 lower-case letters or digits joined by a dot")]
    Bootstrap,
}

impl BootstrapToken {
    /// A new one. `random` fills bytes.
    pub fn generate(mut random: impl FnMut(&mut [u8])) -> BootstrapToken {
        let mut letters = |count: usize| -> String {
            let mut out = String::with_capacity(count);
            while out.len() < count {
                let mut byte = [0u8];
                random(&mut byte);
                // 252 = 7 × 36: what is above would favour the first letters.
                if byte[0] < 252 {
                    out.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
                }
            }
            out
        };
        BootstrapToken { id: letters(6), secret: letters(16) }
    }
}

/// Never shows the secret half.
impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({}.…)", self.id)
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl FromStr for BootstrapToken {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<BootstrapToken, TokenFormatError> {
        let (id, secret) = text.split_once('.').ok_or(TokenFormatError::Bootstrap)?;
        let good = |part: &str, len: usize| part.len() == len && part.bytes().all(|byte| ALPHABET.contains(&byte));
        if !good(id, 6) || !good(secret, 16) {
            return Err(TokenFormatError::Bootstrap);
        }
        Ok(BootstrapToken { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "K10{}::{}", self.ca_hash, self.bootstrap)
    }
}

impl FromStr for JoinToken {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<JoinToken, TokenFormatError> {
        let rest = text.strip_prefix("K10").ok_or(TokenFormatError::Pin)?;
        let (hash, bootstrap) = rest.split_once("::").ok_or(TokenFormatError::Pin)?;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenFormatError::Pin);
        }
        Ok(JoinToken { ca_hash: hash.to_ascii_lowercase(), bootstrap: bootstrap.parse()? })
    }
}
