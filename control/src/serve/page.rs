//! `continue` tokens. Owns: their format, which is upstream's, so that nothing is special about ours. Does not own: the
//! lists they continue.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pintle_api::status;
use serde::{Deserialize, Serialize};

use super::answer::Failure;

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    v: String,
    /// The revision of the first page; −1 for "whatever is there now", after the first page's was compacted.
    pub rv: i64,
    /// The last key of the page before, relative to the list's prefix.
    pub start: String,
}

impl Token {
    /// A token to go on after `start`.
    pub fn new(rv: i64, start: &str) -> Token {
        Token { v: "meta.k8s.io/v1".to_owned(), rv, start: start.to_owned() }
    }

    /// As handed to the client.
    pub fn encode(&self) -> String {
        // A struct of a number and strings always has a JSON form.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// As it came back.
    ///
    /// # Errors
    /// 400 if it is not one of ours.
    pub fn decode(text: &str) -> Result<Token, Failure> {
        let wrong = || status::bad_request("continue key is not valid: it is not one this server has handed out");
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| wrong())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        if token.v != "meta.k8s.io/v1" || token.start.is_empty() || token.rv == 0 || token.rv < -1 {
            return Err(wrong().into());
        }
        Ok(token)
    }

    /// The 410 for a token whose revision is compacted; it carries another to go on with, inconsistently.
    pub fn expired(&self) -> Failure {
        let mut status = status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        );
        status.metadata.continue_ = Some(Token::new(-1, &self.start).encode());
        status.into()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went_and_nonsense_is_refused() {
        let token = Token::new(7, "default/web");
        assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        for wrong in ["", "nonsense", &Token::new(0, "a").encode(), &Token::new(3, "").encode()] {
            assert_eq!(Token::decode(wrong).unwrap_err().0.code, Some(400));
        }
        let next = token.expired().0.metadata.continue_.clone().unwrap();
        assert_eq!(Token::decode(&next).unwrap(), Token::new(-1, "default/web"));
    }
}
