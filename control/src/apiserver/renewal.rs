//! Renewal of the API server's own certificates, and of the kubeconfigs it writes, while it runs. Owns: when. Does not
//! own: what they say (`pki`), nor certificates of others, which come by request.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::pki::{self, PkiConfig};
use crate::serve::Api;

/// The longest sleep: timers do not run while a machine is suspended, and clocks are set.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// After a failure, such as a full disk.
const RETRY: Duration = Duration::from_secs(60);

/// Until the server stops.
pub(super) async fn run(api: Arc<Api>, config: PkiConfig) {
    let mut renew_at_s = api.keys.renew_at_s;
    loop {
        let left = Duration::from_secs(renew_at_s.saturating_sub(now_s()));
        tokio::select! {
            () = api.cancel.cancelled() => return,
            () = tokio::time::sleep(left.min(SLEEP_MAX)) => {}
        }
        if now_s() < renew_at_s {
            continue;
        }
        let renewed = pki::ensure(&config, now_s()).and_then(|keys| api.live.replace(&keys).map(|()| keys.renew_at_s));
        match renewed {
            Ok(next_s) => {
                tracing::info!("the API server's certificates are renewed");
                renew_at_s = next_s;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "cannot renew the API server's certificates, trying again in a minute");
                tokio::select! { () = api.cancel.cancelled() => return, () = tokio::time::sleep(RETRY) => {} }
            }
        }
    }
}

fn now_s() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}
