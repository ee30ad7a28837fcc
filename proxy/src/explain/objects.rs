//! The objects to explain: of a cluster, or of files.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Client, ListParams};
use serde::Deserialize as _;
use serde_json::Value;

use super::ExplainError;

/// What the rules are made of.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub(super) services: Vec<Service>,
    pub(super) slices: Vec<EndpointSlice>,
    pub(super) nodes: Vec<Node>,
}

impl Objects {
    /// Those of a cluster.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub async fn list(client: &Client, node: &str) -> Result<Self, ExplainError> {
        let all = ListParams::all();
        let own = ListParams { fields: format!("metadata.name={node}"), ..ListParams::default() };
        let failed = |what| move |source| ExplainError::List { what, source };
        Ok(Self {
            services: client.list("", &all).await.map_err(failed("Services"))?.items,
            slices: client.list("", &all).await.map_err(failed("EndpointSlices"))?.items,
            nodes: client.list("", &own).await.map_err(failed("the Node"))?.items,
        })
    }

    /// Adds those of a text: YAML or JSON, one document after the other, Lists too. Other kinds are passed over.
    ///
    /// # Errors
    /// At the first document that cannot be read.
    pub fn read(&mut self, text: &str) -> Result<(), ExplainError> {
        for (at, document) in (1..).zip(serde_yaml_ng::Deserializer::from_str(text)) {
            let value = Value::deserialize(document).map_err(|source| ExplainError::Yaml { at, source })?;
            self.add(at, value)?;
        }
        Ok(())
    }

    fn add(&mut self, at: usize, mut value: Value) -> Result<(), ExplainError> {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let failed = |source| ExplainError::Object { at, kind: kind.clone(), source };
        match kind.as_str() {
            "Service" => self.services.push(serde_json::from_value(value).map_err(failed)?),
            "EndpointSlice" => self.slices.push(serde_json::from_value(value).map_err(failed)?),
            "Node" => self.nodes.push(serde_json::from_value(value).map_err(failed)?),
            _ => {
                if let Value::Array(items) = value["items"].take() {
                    return items.into_iter().try_for_each(|item| self.add(at, item));
                }
            }
        }
        Ok(())
    }
}
