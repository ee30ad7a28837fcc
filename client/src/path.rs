//! Paths and queries of typed requests. Pure.

use k8s_openapi::Resource;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// What must not stand literally in one path segment.
const SEGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'?').add(b'<').add(b'>');
/// What need not be escaped in a query value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Narrows a list or a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector, empty for all.
    pub labels: String,
    /// Field selector, empty for all.
    pub fields: String,
    /// Page size; 0 asks for everything in one answer. [`crate::Client::list`] follows pages to the end.
    pub limit: u32,
    /// `resourceVersion`; `Some("0")` accepts any cached revision.
    pub resource_version: Option<String>,
}

impl ListParams {
    /// Everything, in pages of 500.
    pub fn all() -> Self {
        Self { limit: 500, ..Self::default() }
    }

    /// Only what this label selector matches.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = selector.into();
        self
    }

    /// Only what this field selector matches.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = selector.into();
        self
    }
}

/// A query string under construction.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    /// Adds `name=value` unless the value is empty.
    pub(crate) fn put(&mut self, name: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.extend(utf8_percent_encode(value, QUERY));
        }
        self
    }

    /// `path` followed by the query.
    pub(crate) fn on(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// The path of a collection; an empty namespace means a cluster-scoped kind or all namespaces.
pub fn collection_path<K: Resource>(namespace: &str) -> String {
    let root =
        if K::GROUP.is_empty() { format!("/api/{}", K::VERSION) } else { format!("/apis/{}/{}", K::GROUP, K::VERSION) };
    if namespace.is_empty() {
        format!("{root}/{}", K::URL_PATH_SEGMENT)
    } else {
        format!("{root}/namespaces/{}/{}", utf8_percent_encode(namespace, SEGMENT), K::URL_PATH_SEGMENT)
    }
}

/// The path of one object, with its subresource if that is not empty.
pub fn object_path<K: Resource>(namespace: &str, name: &str, subresource: &str) -> String {
    let path = format!("{}/{}", collection_path::<K>(namespace), utf8_percent_encode(name, SEGMENT));
    if subresource.is_empty() { path } else { format!("{path}/{subresource}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node, core::v1::Pod};

    #[test]
    fn paths_follow_group_version_scope_and_subresource() {
        assert_eq!(collection_path::<Pod>(""), "/api/v1/pods");
        assert_eq!(object_path::<Pod>("a", "b", "status"), "/api/v1/namespaces/a/pods/b/status");
        assert_eq!(object_path::<Node>("", "n", ""), "/api/v1/nodes/n");
        assert_eq!(object_path::<Deployment>("a", "b", ""), "/apis/apps/v1/namespaces/a/deployments/b");
    }

    #[test]
    fn a_name_with_a_slash_or_a_question_mark_stays_one_segment() {
        assert_eq!(object_path::<Node>("", "../x?y", ""), "/api/v1/nodes/..%2Fx%3Fy");
    }

    #[test]
    fn selectors_are_escaped_and_empty_values_left_out() {
        let mut query = Query::default();
        query.put("labelSelector", "a in (b, c)").put("fieldSelector", "").put("limit", "5");
        assert_eq!(query.on("/p"), "/p?labelSelector=a%20in%20%28b%2C%20c%29&limit=5");
    }
}
