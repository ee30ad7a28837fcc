//! JSON web tokens signed with ES256 (RFC 7515, RFC 7518 section 3.4). Owns: signature and encoding. Does not own: what
//! the claims mean.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{PkiError, files};

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three base64url parts of JSON.
    #[error("the token is malformed")]
    Malformed,
    /// Signed by another key or by none.
    #[error("the token's signature does not hold")]
    Signature,
}

/// The private half, in `sa.key`.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    verifier: TokenVerifier,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// The public half.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    key_id: String,
    public: Vec<u8>,
}

impl TokenKey {
    /// Loads `sa.key` from the directory, or makes it together with `sa.pub`.
    pub(super) fn ensure(directory: &Path) -> Result<TokenKey, PkiError> {
        let path = directory.join("sa.key");
        let issue = |source| PkiError::Issue { verb: "make", subject: "service account tokens".to_owned(), source };
        let pair = match files::read_text(&path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|source| PkiError::Malformed {
                path: path.clone(),
                what: "private key",
                source,
            })?,
            None => {
                let pair = KeyPair::generate().map_err(issue)?;
                files::write_atomic(&path, pair.serialize_pem().as_bytes(), 0o600)?;
                pair
            }
        };
        files::write_atomic(&directory.join("sa.pub"), pair.public_key_pem().as_bytes(), 0o644)?;
        TokenKey::new(&pair).ok_or(PkiError::TokenKey { path })
    }

    fn new(pair: &KeyPair) -> Option<TokenKey> {
        let der = pair.serialize_der();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new()).ok()?;
        let public = pair.public_key_raw().to_vec();
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(&public));
        Some(TokenKey { pair: signing, verifier: TokenVerifier { key_id, public } })
    }

    /// Signs claims. None only if the system's random source fails.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.verifier.key_id, "typ": "JWT"});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }

    /// The public half.
    pub fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }
}

impl TokenVerifier {
    /// The claims of a token whose signature holds. Expiry and audience are the caller's business.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn verify(&self, token: &str) -> Result<Value, JwtError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        // The algorithm is ours to choose, not the token's: a header that names another one is refused.
        if part(header)?["alg"] != "ES256" {
            return Err(JwtError::Signature);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| JwtError::Signature)?;
        part(claims)
    }

    /// RFC 7517 key set, for `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 0x04, then 32 bytes each of x and y.
        let (x, y) = self.public.get(1..).unwrap_or_default().split_at(self.public.len() / 2);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": encode(x), "y": encode(y),
        }]})
    }
}

fn part(text: &str) -> Result<Value, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}
