//! Which kinds the server has: controllers that need a missing one sleep, and namespaces are emptied of all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResource, APIResourceList};
use pintle_client::{Client, Error};
use pintle_control_plan::controllers::KindRef;

/// The kinds that can be listed, watched and deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    /// In order of group and kind, each in its preferred version.
    pub kinds: Vec<KindRef>,
}

/// Asks until the server answers; a server that is still starting is not an error.
pub(super) async fn discover(client: &Client) -> Served {
    let mut wait = Duration::from_millis(10);
    loop {
        match ask(client).await {
            Ok(served) => return served,
            Err(error) => tracing::debug!(%error, "the API server does not tell its kinds yet"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

async fn ask(client: &Client) -> Result<Served, Error> {
    let groups: APIGroupList = client.get_json("/apis").await?;
    let mut versions = vec![(String::new(), "v1".to_owned())];
    for group in groups.groups {
        let preferred = group.preferred_version.or_else(|| group.versions.into_iter().next());
        versions.extend(preferred.map(|v| (group.name, v.version)));
    }
    let lists = versions.iter().map(|(group, version)| async move {
        let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        client.get_json::<APIResourceList>(&path).await
    });
    let lists = futures_util::future::try_join_all(lists).await?;
    let mut kinds = BTreeMap::new();
    for ((group, version), list) in versions.iter().zip(lists) {
        for resource in list.resources.iter().filter(|r| is_collectable(r)) {
            let kind = kind_ref(group, version, resource);
            kinds.insert((kind.group, kind.plural), kind);
        }
    }
    Ok(Served { kinds: kinds.into_values().collect() })
}

fn is_collectable(resource: &APIResource) -> bool {
    let can = |verb: &str| resource.verbs.iter().any(|v| v == verb);
    !resource.name.contains('/') && can("list") && can("watch") && can("delete")
}

/// Words of kinds live as long as the process: a KindRef is copied into every key, and there are some dozens of them.
fn kind_ref(group: &str, version: &str, resource: &APIResource) -> KindRef {
    let keep = |word: &str| -> &'static str { Box::leak(word.to_owned().into_boxed_str()) };
    KindRef {
        group: keep(group),
        version: keep(version),
        kind: keep(&resource.kind),
        plural: keep(&resource.name),
        namespaced: resource.namespaced,
    }
}
