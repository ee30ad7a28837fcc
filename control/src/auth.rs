//! Who somebody is: by client certificate, ServiceAccount token or bootstrap token.
//!
//! Owns: turning proofs into a [`User`]. Does not own: what the user may do.

mod bootstrap;
mod facts;
mod service_account;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pintle_api::status;
use pintle_control_plan::authz::User;

use crate::pki::TokenVerifier;
use crate::serve::Api;
use crate::serve::answer::Failure;

pub use service_account::{AUDIENCE, TokenSubject, claims};

/// What a connection proves about its other end.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Whom the verified client certificate names, or whom an in-process transport vouches for.
    pub user: Option<User>,
}

/// See the module.
#[derive(Debug)]
pub struct Authenticator {
    verifier: TokenVerifier,
}

impl Authenticator {
    /// Trusts ServiceAccount tokens of this key.
    pub fn new(verifier: TokenVerifier) -> Authenticator {
        Authenticator { verifier }
    }

    /// Who makes a request. A certificate speaks for the connection; a bearer token, if sent without one, for the
    /// request; without either the user is anonymous.
    ///
    /// # Errors
    /// 401 for a token that proves nothing.
    pub fn user(&self, api: &Api, peer: &Peer, headers: &HeaderMap) -> Result<User, Failure> {
        if let Some(user) = &peer.user {
            return Ok(user.clone());
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some((scheme, token)) = header.split_once(' ') else { return Ok(User::anonymous()) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(User::anonymous());
        }
        self.token(api, token.trim(), &[AUDIENCE]).ok_or_else(|| status::unauthorized().into())
    }

    /// Whom a bearer token names; None if it proves nothing. `audiences`: one of them has to be among the token's.
    pub fn token(&self, api: &Api, token: &str, audiences: &[&str]) -> Option<User> {
        if token.contains('.') && token.len() > 40 {
            return service_account::user(api, &self.verifier, token, audiences);
        }
        bootstrap::user(api, token)
    }
}
