//! What an HTTP request asks of the API, told from its method and path alone.
//!
//! Owns: the grammar of the API's paths. Does not own: whether the resource exists, or who may.

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// Changes of a collection (or of one object by field selector).
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

impl Verb {
    /// As authorization and error messages spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ResourcePath {
    /// Empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// Empty for cluster-scoped resources and for all namespaces at once.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// What follows the subresource, e.g. of `proxy`; without leading slash.
    pub rest: String,
}

/// A path, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Objects.
    Resource(ResourcePath),
    /// Anything else: `/healthz`, `/apis/apps`.
    Other,
}

/// Reads a path such as `/apis/apps/v1/namespaces/default/deployments/web/status`. Segments are percent-decoded by the
/// caller. A path that ends where a resource would have to follow is [`Target::Other`].
pub fn read_path(path: &str) -> Target {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", rest @ ..] => ("", rest),
        ["apis", group, rest @ ..] => (*group, rest),
        _ => return Target::Other,
    };
    let [version, rest @ ..] = rest else { return Target::Other };
    // The old form of a watch: /api/v1/watch/… ; the caller turns it into a query.
    let rest = rest.strip_prefix(&["watch"]).unwrap_or(rest);
    let mut found = ResourcePath { group: group.to_owned(), version: (*version).to_owned(), ..Default::default() };
    let rest = match rest {
        // Subresources of the namespace itself, not resources within it.
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            found.namespace = (*name).to_owned();
            found.name = (*name).to_owned();
            found.resource = "namespaces".to_owned();
            found.subresource = (*sub).to_owned();
            return Target::Resource(found);
        }
        ["namespaces", name] => {
            found.namespace = (*name).to_owned();
            found.name = (*name).to_owned();
            found.resource = "namespaces".to_owned();
            return Target::Resource(found);
        }
        ["namespaces", namespace, rest @ ..] => {
            found.namespace = (*namespace).to_owned();
            rest
        }
        rest => rest,
    };
    let [resource, rest @ ..] = rest else { return Target::Other };
    found.resource = (*resource).to_owned();
    if let [name, rest @ ..] = rest {
        found.name = (*name).to_owned();
        if let [subresource, rest @ ..] = rest {
            found.subresource = (*subresource).to_owned();
            found.rest = rest.join("/");
        }
    }
    Target::Resource(found)
}

/// The verb of a method on a path; None for a method the API does not know.
pub fn verb(method: &str, path: &ResourcePath, watch: bool) -> Option<Verb> {
    let collection = path.name.is_empty();
    Some(match method {
        "GET" | "HEAD" if watch && path.subresource.is_empty() => Verb::Watch,
        "GET" | "HEAD" if collection => Verb::List,
        "GET" | "HEAD" => Verb::Get,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" if collection => Verb::DeleteCollection,
        "DELETE" => Verb::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let show = |path: &str| match read_path(path) {
            Target::Other => format!("{path} → other"),
            Target::Resource(p) => format!(
                "{path} → [{}/{}] ns={} {} name={} sub={} rest={}",
                p.group, p.version, p.namespace, p.resource, p.name, p.subresource, p.rest
            ),
        };
        let paths = [
            "/healthz",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/api/v1/pods",
            "/api/v1/namespaces",
            "/api/v1/namespaces/a",
            "/api/v1/namespaces/a/finalize",
            "/api/v1/namespaces/a/pods/b/log",
            "/api/v1/nodes/n/proxy/a/b",
            "/apis/apps/v1/namespaces/a/deployments/b/status",
            "/api/v1/watch/namespaces/a/pods",
        ];
        insta::assert_snapshot!(paths.map(show).join("\n"), @"
        /healthz → other
        /apis → other
        /apis/apps → other
        /apis/apps/v1 → other
        /api/v1/pods → [/v1] ns= pods name= sub= rest=
        /api/v1/namespaces → [/v1] ns= namespaces name= sub= rest=
        /api/v1/namespaces/a → [/v1] ns=a namespaces name=a sub= rest=
        /api/v1/namespaces/a/finalize → [/v1] ns=a namespaces name=a sub=finalize rest=
        /api/v1/namespaces/a/pods/b/log → [/v1] ns=a pods name=b sub=log rest=
        /api/v1/nodes/n/proxy/a/b → [/v1] ns= nodes name=n sub=proxy rest=a/b
        /apis/apps/v1/namespaces/a/deployments/b/status → [apps/v1] ns=a deployments name=b sub=status rest=
        /api/v1/watch/namespaces/a/pods → [/v1] ns=a pods name= sub= rest=
        ");
    }
}
