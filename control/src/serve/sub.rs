//! Subresources that are not simply another view of the object. Owns: nothing but the list of them.

pub mod binding;
pub mod eviction;
pub mod finalize;
pub mod scale;
pub mod token;
pub mod tunnel;

use pintle_api::status;
use serde::de::DeserializeOwned;

use super::answer::Failure;
use super::call::Call;

/// The body as a type of its own.
///
/// # Errors
/// 400 and 415.
fn body<T: DeserializeOwned>(call: &Call, kind: &str) -> Result<T, Failure> {
    let json = call.json()?;
    serde_json::from_slice(&json)
        .map_err(|error| status::bad_request(format!("cannot read the body as a {kind}: {error}")).into())
}
