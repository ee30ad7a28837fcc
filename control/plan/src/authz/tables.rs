//! The rights of the identities pintle itself uses, as one flat table. Owns: the facts. They follow the default roles
//! of the same names (kubernetes: plugin/pkg/auth/authorizer/rbac/bootstrappolicy), less what pintle does not do.

use super::{AUTHENTICATED, BOOTSTRAPPERS, NODES, Rule, User};

/// Paths anybody may read: what says that the server lives, and which one it is.
pub(super) const PUBLIC_PATHS: &[&str] =
    &["/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*", "/version", "/version/"];

/// Paths for everybody who proved who they are: discovery.
pub(super) const AUTHENTICATED_PATHS: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/openapi",
    "/openapi/*",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];

/// To whom a table applies.
pub(super) enum Subject {
    User(&'static str),
    Group(&'static str),
}

impl Subject {
    pub(super) fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => user.name == *name,
            Subject::Group(name) => user.is_in(name),
        }
    }
}

/// The rules of one subject.
pub(super) struct Table {
    pub(super) subject: Subject,
    pub(super) rules: &'static [Rule],
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch"];

const fn rule(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
) -> Rule {
    Rule { verbs, groups, resources, names: &[], namespaces: &[] }
}

const EVENTS: Rule = rule(WRITE, &["", "events.k8s.io"], &["events"]);
const REVIEWS: Rule = rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]);
const ACCESS_REVIEWS: Rule = rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]);
const LEASES: Rule =
    rule(&["get", "list", "watch", "create", "update", "patch"], &["coordination.k8s.io"], &["leases"]);

pub(super) const TABLES: &[Table] = &[
    Table {
        subject: Subject::Group(AUTHENTICATED),
        rules: &[
            rule(&["create"], &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
            rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
        ],
    },
    Table {
        subject: Subject::Group(BOOTSTRAPPERS),
        rules: &[rule(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"])],
    },
    Table {
        // What a node may do whatever its name; the rest is in `node`.
        subject: Subject::Group(NODES),
        rules: &[
            EVENTS,
            REVIEWS,
            ACCESS_REVIEWS,
            rule(READ, &[""], &["services"]),
            rule(READ, &["node.k8s.io"], &["runtimeclasses"]),
            rule(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
        ],
    },
    Table {
        subject: Subject::User("system:kube-proxy"),
        rules: &[
            rule(READ, &[""], &["nodes", "services", "endpoints"]),
            rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
            EVENTS,
        ],
    },
    Table {
        subject: Subject::User("system:kube-scheduler"),
        rules: &[
            rule(
                READ,
                &[""],
                &[
                    "nodes",
                    "pods",
                    "services",
                    "namespaces",
                    "replicationcontrollers",
                    "persistentvolumeclaims",
                    "persistentvolumes",
                ],
            ),
            rule(READ, &["apps"], &["replicasets", "statefulsets"]),
            rule(READ, &["policy"], &["poddisruptionbudgets"]),
            rule(READ, &["scheduling.k8s.io"], &["priorityclasses"]),
            rule(READ, &["storage.k8s.io"], &["storageclasses", "csinodes"]),
            rule(&["delete"], &[""], &["pods"]),
            rule(&["create"], &[""], &["bindings", "pods/binding"]),
            rule(&["update", "patch"], &[""], &["pods/status"]),
            EVENTS,
            LEASES,
            REVIEWS,
            ACCESS_REVIEWS,
        ],
    },
    Table {
        // The garbage collector and the namespace controller reach every kind; creating is listed kind by kind.
        subject: Subject::User("system:kube-controller-manager"),
        rules: &[
            rule(&["get", "list", "watch", "update", "patch", "delete", "deletecollection"], &["*"], &["*"]),
            rule(
                &["create"],
                &[""],
                &[
                    "pods",
                    "pods/eviction",
                    "configmaps",
                    "secrets",
                    "serviceaccounts",
                    "serviceaccounts/token",
                    "endpoints",
                    "namespaces",
                    "persistentvolumes",
                ],
            ),
            rule(&["create"], &["apps"], &["replicasets", "controllerrevisions"]),
            rule(&["create"], &["batch"], &["jobs"]),
            rule(&["create"], &["discovery.k8s.io"], &["endpointslices"]),
            rule(&["approve", "sign"], &["certificates.k8s.io"], &["signers"]),
            EVENTS,
            LEASES,
            REVIEWS,
            ACCESS_REVIEWS,
        ],
    },
];
