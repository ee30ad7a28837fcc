//! `pintle token`.

use crate::failure::Code;
use crate::flags::Dirs;
use crate::out;
use crate::token;
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Secret;
use pintle_client::{Client, ListParams};
use pintle_control::pki::{Authority, JoinToken};

/// Make and list the tokens by which machines join
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make a token and print it
    Create {
        #[command(flatten)]
        dirs: Dirs,
        /// How long it is good for: 90s, 30m, 24h, 7d; 0 for ever
        #[arg(long, default_value = "24h")]
        ttl: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the tokens' ids and when they end
    List {
        #[command(flatten)]
        dirs: Dirs,
    },
}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        let (What::Create { dirs, .. } | What::List { dirs }) = &self.what;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Client::from_kubeconfig(&dirs.kubeconfig())
                .context(crate::failure::Failure::new("there is no cluster here", "start one: `pintle up`"))?;
            match &self.what {
                What::Create { ttl, description, .. } => create(&client, dirs, ttl, description).await,
                What::List { .. } => list(&client).await,
            }
        })
    }
}

async fn create(client: &Client, dirs: &Dirs, ttl: &str, description: &str) -> Result<Code> {
    let expires = token::ttl(ttl)?.map(|life| jiff::Timestamp::now() + life);
    let authority = Authority::load(&dirs.server().join("pki")).context("cannot read the cluster's authority")?;
    let bootstrap = token::generate()?;
    client.create(&token::secret(&bootstrap, description, expires)).await.context("cannot store the token")?;
    out::line(JoinToken { ca_hash: authority.spki_sha256(), bootstrap })?;
    Ok(Code::Done)
}

async fn list(client: &Client) -> Result<Code> {
    let params = ListParams::all().fields(format!("type={}", token::SECRET_TYPE));
    let secrets = client.list::<Secret>(token::NAMESPACE, &params).await.context("cannot list the tokens")?;
    out::line(format!("{:<8} {:<22} DESCRIPTION", "ID", "EXPIRES"))?;
    secrets.items.iter().try_for_each(|secret| out::line(token::line(secret)))?;
    Ok(Code::Done)
}
