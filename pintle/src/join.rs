//! How an agent becomes a node: from a bootstrap token to certificates of its own, and their renewal.
//!
//! ```text
//!   token ──► CSR as system:bootstrap:<id> ──► system:node:<name> ──► CSR as the node ──► system:kube-proxy
//! ```
//!
//! Private keys are made here and never travel. What was obtained lies in `agent/*.kubeconfig` (0600) and is used again
//! at the next start, as long as it is for this server, this authority and this name.

mod request;
mod stored;

use crate::failure::{Code, Failure};
use crate::flags::Dirs;
use anyhow::{Context as _, Result};
use pintle_client::{Backoff, Client, Config, Error, Identity, Kubeconfig, Trust};
use pintle_control::pki::JoinToken;
pub use request::{Ask, Granted};
use std::path::PathBuf;
use std::time::Duration;
pub use stored::{Validity, now_s};
use tokio_util::sync::CancellationToken;

/// Where the agent joins.
#[derive(Debug, Clone)]
pub struct Joining {
    /// `https://host:port`.
    pub server: String,
    /// What proves that we may join, and whom we join. Absent only if this machine has joined before.
    pub token: Option<JoinToken>,
    /// The name of the Node.
    pub node: String,
    /// Where the results are kept.
    pub agent_dir: PathBuf,
}

impl Joining {
    /// Reads the arguments of an agent.
    pub fn new(dirs: &Dirs, server: &str, token: Option<JoinToken>, node: String) -> Self {
        Self { server: server.trim_end_matches('/').to_owned(), token, node, agent_dir: dirs.agent() }
    }

    fn kubeconfig(&self, name: &str) -> PathBuf {
        self.agent_dir.join(format!("{name}.kubeconfig"))
    }

    /// The node's own client, joining first if need be.
    pub async fn node(&self, stop: &CancellationToken) -> Result<Certified> {
        self.certified("kubelet", Ask::node_client(&self.node), None, stop).await
    }

    /// The proxy's client, asked for as the node.
    pub async fn proxy(&self, node: &Client, stop: &CancellationToken) -> Result<Certified> {
        self.certified("proxy", Ask::proxy_client(), Some(node), stop).await
    }

    async fn certified(
        &self,
        name: &'static str,
        ask: Ask,
        asker: Option<&Client>,
        stop: &CancellationToken,
    ) -> Result<Certified> {
        let path = self.kubeconfig(name);
        if let Some((config, validity)) = stored::usable(&path, self, &ask.common_name)? {
            return Ok(Certified { client: Client::new(config)?, ask, path, validity, server: self.server.clone() });
        }
        let (asker, ca) = match asker {
            Some(client) => (client.clone(), self.trusted_ca()?),
            None => self.bootstrapper(stop).await?,
        };
        let granted = retry(stop, || ask.send(&asker))
            .await
            .with_context(|| format!("cannot obtain the certificate of {} from {}", ask.common_name, self.server))?;
        let identity = Identity::Cert { cert_pem: granted.cert_pem.clone(), key_pem: granted.key_pem.clone() };
        Kubeconfig::new("pintle", &ask.common_name, &self.server, &ca, &identity).write(&path)?;
        let validity = Validity::of(&granted.cert_pem)?;
        let client = Client::new(Config::new(self.server.clone(), Trust::Ca(ca), identity))?;
        Ok(Certified { client, ask, path, validity, server: self.server.clone() })
    }

    /// A client with the token, connected, and the authority found behind the token's pin.
    async fn bootstrapper(&self, stop: &CancellationToken) -> Result<(Client, String)> {
        let Some(token) = &self.token else {
            return Err(Failure::new(
                format!("this machine has not joined {} yet, and no token was given", self.server),
                "run `pintle token create` on the server and pass its output as --token",
            )
            .code(Code::Failed)
            .into());
        };
        let pin = hex::decode(&token.ca_hash).context("the token's pin")?;
        let pin: [u8; 32] = pin.try_into().map_err(|_| anyhow::anyhow!("the token's pin is not 32 bytes long"))?;
        let identity = Identity::Token(token.bootstrap.to_string());
        let client = Client::new(Config::new(self.server.clone(), Trust::SpkiPin(pin), identity.clone()))?;
        // Any request makes the connection on which the pin is checked; health needs no right.
        retry(stop, || async { client.raw(http::Method::GET, "/livez", "", Vec::new()).await })
            .await
            .with_context(|| format!("cannot reach the API server {}", self.server))?;
        let ca = client.pinned_ca().context("the connection succeeded without the pinned authority")?;
        let file = self.kubeconfig("bootstrap");
        let user = format!("system:bootstrap:{}", token.bootstrap.id);
        Kubeconfig::new("pintle", &user, &self.server, &ca, &identity).write(&file)?;
        let trusted = Config::new(self.server.clone(), Trust::Ca(ca.clone()), identity);
        Ok((Client::new(trusted)?, ca))
    }

    /// The authority that the node's own kubeconfig trusts.
    fn trusted_ca(&self) -> Result<String> {
        let path = self.kubeconfig("kubelet");
        match Kubeconfig::read(&path)?.config(&path)?.trust {
            Trust::Ca(pem) => Ok(pem),
            Trust::SpkiPin(_) => anyhow::bail!("{} holds no certificate authority", path.display()),
        }
    }
}

/// A client with a certificate of its own.
pub struct Certified {
    /// The client; a renewal changes its certificate in place.
    pub client: Client,
    ask: Ask,
    path: PathBuf,
    validity: Validity,
    server: String,
}

impl Certified {
    /// Renews the certificate whenever two thirds of its life have passed, until `stop`. Asks as the node, whose own
    /// certificate the kubelet renews in its kubeconfig.
    pub async fn keep_renewed(mut self, joining: Joining, stop: CancellationToken) -> Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.validity.until_renewal(now_s())) => {}
            }
            let node = Client::from_kubeconfig(&joining.kubeconfig("kubelet"))?;
            match retry(&stop, || self.ask.send(&node)).await {
                Ok(granted) => self.adopt(&granted)?,
                Err(_) if stop.is_cancelled() => return Ok(()),
                Err(error) => {
                    tracing::error!(certificate = self.ask.common_name, %error, "cannot renew, trying again in an hour");
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(HOUR) => {} }
                }
            }
        }
    }

    fn adopt(&mut self, granted: &Granted) -> Result<()> {
        let trust = Kubeconfig::read(&self.path)?.config(&self.path)?.trust;
        let Trust::Ca(ca) = &trust else { anyhow::bail!("{} holds no certificate authority", self.path.display()) };
        let identity = Identity::Cert { cert_pem: granted.cert_pem.clone(), key_pem: granted.key_pem.clone() };
        Kubeconfig::new("pintle", &self.ask.common_name, &self.server, ca, &identity).write(&self.path)?;
        self.validity = Validity::of(&granted.cert_pem)?;
        self.client.reconfigure(Config::new(self.server.clone(), trust, identity))?;
        tracing::info!(certificate = self.ask.common_name, "renewed");
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Repeats what failed for a passing reason: a server that is starting, a network that is down.
async fn retry<T, F>(stop: &CancellationToken, mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut told = false;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if !is_passing(&error) || stop.is_cancelled() => return Err(error),
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, "trying again");
        }
        tokio::select! { () = stop.cancelled() => return Err(error), () = tokio::time::sleep(backoff.delay()) => {} }
    }
}

/// A refused certificate will not become a good one: that is for a person to see at once.
fn is_passing(error: &Error) -> bool {
    let Error::Connect { source, .. } = error else { return error.is_transient() };
    !source.get_ref().is_some_and(|e| e.is::<rustls::Error>())
}
