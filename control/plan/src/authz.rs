//! Who may do what: tables, denied by default.
//!
//! Owns: the decision and its sentence. Does not own: who somebody is (authentication), nor looking things up: what the
//! node rules need to know of other objects they ask of a [`NodeFacts`] given by the caller.

mod node;
mod tables;

use std::collections::BTreeMap;

pub use node::{NodeFacts, node_name};

/// Everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do everything.
pub const MASTERS: &str = "system:masters";
/// Kubelets.
pub const NODES: &str = "system:nodes";
/// Machines that join.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// `system:node:n1`.
    pub name: String,
    /// Of the ServiceAccount; empty for others.
    pub uid: String,
    /// `system:nodes`, `system:authenticated`.
    pub groups: Vec<String>,
    /// What else authentication knows, e.g. the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Nobody in particular.
    pub fn anonymous() -> User {
        User { name: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() }
    }

    /// A user known by certificate: their groups and [`AUTHENTICATED`].
    pub fn authenticated(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> User {
        let groups = groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    /// Whether they belong to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|of| of == group)
    }
}

/// What is asked, of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access<'a> {
    /// `get`; reviews may ask for any word.
    pub verb: &'a str,
    /// Empty for the core group.
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for the whole cluster.
    pub namespace: &'a str,
    /// Empty for all.
    pub name: &'a str,
    /// The field selector as sent, e.g. `spec.nodeName=n1`.
    pub field_selector: &'a str,
}

/// What is asked: of objects or of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Objects.
    Resource(Access<'a>),
    /// A path that is no resource.
    Path {
        /// `get`.
        verb: &'a str,
        /// `/version`.
        path: &'a str,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No; a reason beyond "no rule allows it", or empty.
    Deny(String),
}

/// One line of a table. `*` stands for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// API groups.
    pub groups: &'static [&'static str],
    /// Resources, with their subresource: `pods/status`.
    pub resources: &'static [&'static str],
    /// Names; empty for all.
    pub names: &'static [&'static str],
    /// Namespaces; empty for all.
    pub namespaces: &'static [&'static str],
}

impl Rule {
    fn allows(&self, access: &Access<'_>) -> bool {
        let one_of = |words: &[&str], word: &str| words.iter().any(|w| *w == "*" || *w == word);
        let full = if access.subresource.is_empty() {
            access.resource.to_owned()
        } else {
            format!("{}/{}", access.resource, access.subresource)
        };
        one_of(self.verbs, access.verb)
            && one_of(self.groups, access.group)
            && one_of(self.resources, &full)
            && (self.names.is_empty() || one_of(self.names, access.name))
            && (self.namespaces.is_empty() || one_of(self.namespaces, access.namespace))
    }
}

/// The tables that apply to somebody: by user name and by group.
pub fn rules_of(user: &User) -> impl Iterator<Item = &'static Rule> + '_ {
    tables::TABLES.iter().filter(|table| table.subject.is(user)).flat_map(|table| table.rules)
}

/// Paths that are no resources and that somebody may read.
pub fn paths_of(user: &User) -> Vec<&'static str> {
    let mut paths = tables::PUBLIC_PATHS.to_vec();
    if user.is_in(AUTHENTICATED) {
        paths.extend(tables::AUTHENTICATED_PATHS);
    }
    if user.is_in(MASTERS) {
        paths.push("*");
    }
    paths
}

/// Decides.
pub fn authorize(user: &User, asked: &Asked<'_>, facts: &dyn NodeFacts) -> Decision {
    if user.is_in(MASTERS) {
        return Decision::Allow;
    }
    match asked {
        Asked::Path { verb, path } => {
            let reads = matches!(*verb, "get" | "head");
            let allowed = reads && paths_of(user).iter().any(|pattern| path_matches(pattern, path));
            if allowed { Decision::Allow } else { Decision::Deny(String::new()) }
        }
        Asked::Resource(access) if rules_of(user).any(|rule| rule.allows(access)) => Decision::Allow,
        Asked::Resource(access) => match node_name(user) {
            Some(node) => node::authorize(node, access, facts),
            None => Decision::Deny(String::new()),
        },
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// `User "x" cannot list resource "pods" in API group "" in the namespace "y"`, as clients know it.
pub fn refusal(user: &User, asked: &Asked<'_>, reason: &str) -> String {
    let tail = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match asked {
        Asked::Path { verb, path } => format!("User {:?} cannot {verb} path {path:?}{tail}", user.name),
        Asked::Resource(access) => {
            let resource = if access.subresource.is_empty() {
                access.resource.to_owned()
            } else {
                format!("{}/{}", access.resource, access.subresource)
            };
            let scope = if access.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", access.namespace)
            };
            format!(
                "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}{tail}",
                user.name, access.verb, access.group
            )
        }
    }
}

#[cfg(test)]
mod tests;
