use super::*;

struct OnePod;
impl NodeFacts for OnePod {
    fn pod_refers(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
        (node, resource, namespace, name) == ("n1", "secrets", "a", "s")
            || resource == "serviceaccounts" && node == "n1"
    }
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        (node, namespace, pod) == ("n1", "a", "p")
    }
}

fn user(name: &str, group: &str) -> User {
    User::authenticated(name, (!group.is_empty()).then(|| group.to_owned()))
}

/// `verb group/resource/sub ns/name selector`, with `-` for nothing.
fn access(line: &str) -> Access<'_> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let dash = |word: &'static str, found: &str| -> bool { found == word };
    let clean = |word| if dash("-", word) { "" } else { word };
    let mut resource = words[1].splitn(3, '/');
    let (group, plural) = (resource.next().unwrap_or(""), resource.next().unwrap_or(""));
    let subresource = resource.next().unwrap_or("");
    let (namespace, name) = words[2].split_once('/').unwrap_or(("", ""));
    let field_selector = words.get(3).copied().unwrap_or("");
    Access { verb: words[0], group, resource: plural, subresource, namespace, name, field_selector }.map_words(clean)
}

impl<'a> Access<'a> {
    fn map_words(self, clean: impl Fn(&'a str) -> &'a str) -> Access<'a> {
        Access {
            verb: self.verb,
            group: clean(self.group),
            resource: self.resource,
            subresource: self.subresource,
            namespace: clean(self.namespace),
            name: clean(self.name),
            field_selector: self.field_selector,
        }
    }
}

fn table(user: &User, lines: &[&str]) -> String {
    let answer = |line: &str| match authorize(user, &Asked::Resource(access(line)), &OnePod) {
        Decision::Allow => format!("yes {line}"),
        Decision::Deny(reason) if reason.is_empty() => format!("no  {line}"),
        Decision::Deny(reason) => format!("no  {line} ({reason})"),
    };
    lines.iter().map(|line| answer(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_node_reaches_itself_its_pods_and_what_they_refer_to() {
    let lines = [
        "get -/nodes -/n1",
        "get -/nodes -/n2",
        "list -/nodes -/-",
        "watch -/nodes -/- metadata.name=n1",
        "patch -/nodes/status -/n1",
        "delete -/nodes -/n1",
        "list -/pods -/-",
        "watch -/pods -/- spec.nodeName=n1",
        "watch -/pods -/- spec.nodeName=n2",
        "patch -/pods/status a/p",
        "patch -/pods/status a/other",
        "get -/secrets a/s",
        "get -/secrets a/t",
        "list -/secrets a/-",
        "watch -/secrets a/- metadata.name=s",
        "update -/secrets a/s",
        "create -/serviceaccounts/token a/default",
        "update coordination.k8s.io/leases kube-node-lease/n1",
        "update coordination.k8s.io/leases kube-node-lease/n2",
        "list -/services -/-",
        "list discovery.k8s.io/endpointslices -/-",
        "create certificates.k8s.io/certificatesigningrequests -/-",
        "update certificates.k8s.io/certificatesigningrequests/approval -/x",
    ];
    insta::assert_snapshot!(table(&user("system:node:n1", NODES), &lines), @"
    yes get -/nodes -/n1
    no  get -/nodes -/n2
    no  list -/nodes -/-
    yes watch -/nodes -/- metadata.name=n1
    yes patch -/nodes/status -/n1
    no  delete -/nodes -/n1
    no  list -/pods -/-
    yes watch -/pods -/- spec.nodeName=n1
    no  watch -/pods -/- spec.nodeName=n2
    yes patch -/pods/status a/p
    no  patch -/pods/status a/other
    yes get -/secrets a/s
    no  get -/secrets a/t (no relationship found between node 'n1' and this object)
    no  list -/secrets a/- (no relationship found between node 'n1' and this object)
    yes watch -/secrets a/- metadata.name=s
    no  update -/secrets a/s
    yes create -/serviceaccounts/token a/default
    yes update coordination.k8s.io/leases kube-node-lease/n1
    no  update coordination.k8s.io/leases kube-node-lease/n2
    yes list -/services -/-
    no  list discovery.k8s.io/endpointslices -/-
    yes create certificates.k8s.io/certificatesigningrequests -/-
    no  update certificates.k8s.io/certificatesigningrequests/approval -/x
    ");
}

#[test]
fn a_nodes_name_without_its_group_is_nothing() {
    insta::assert_snapshot!(table(&user("system:node:n1", ""), &["get -/nodes -/n1"]), @"no  get -/nodes -/n1");
}

#[test]
fn components_have_their_tables_and_no_more() {
    let ask = |name: &str, group: &str, lines: &[&str]| format!("{name}\n{}", table(&user(name, group), lines));
    let answers = [
        ask("system:kube-proxy", "", &["watch discovery.k8s.io/endpointslices -/-", "list -/secrets -/-"]),
        ask("system:kube-scheduler", "", &["create -/pods/binding a/p", "create -/pods a/-", "list -/secrets -/-"]),
        ask(
            "system:kube-controller-manager",
            "",
            &["create apps/replicasets a/-", "delete any.group/things a/x", "create apps/deployments a/-"],
        ),
        ask(
            "system:bootstrap:abcdef",
            BOOTSTRAPPERS,
            &["create certificates.k8s.io/certificatesigningrequests -/-", "list -/nodes -/-"],
        ),
        ask(
            "system:serviceaccount:a:default",
            "",
            &["list -/pods a/-", "create authorization.k8s.io/selfsubjectaccessreviews -/-"],
        ),
        ask("admin", MASTERS, &["escalate rbac/everything -/-"]),
    ];
    insta::assert_snapshot!(answers.join("\n\n"), @"
    system:kube-proxy
    yes watch discovery.k8s.io/endpointslices -/-
    no  list -/secrets -/-

    system:kube-scheduler
    yes create -/pods/binding a/p
    no  create -/pods a/-
    no  list -/secrets -/-

    system:kube-controller-manager
    yes create apps/replicasets a/-
    yes delete any.group/things a/x
    no  create apps/deployments a/-

    system:bootstrap:abcdef
    yes create certificates.k8s.io/certificatesigningrequests -/-
    no  list -/nodes -/-

    system:serviceaccount:a:default
    no  list -/pods a/-
    yes create authorization.k8s.io/selfsubjectaccessreviews -/-

    admin
    yes escalate rbac/everything -/-
    ");
}

#[test]
fn the_unknown_may_only_see_that_the_server_lives() {
    let ask = |user: &User, path| authorize(user, &Asked::Path { verb: "get", path }, &OnePod) == Decision::Allow;
    let nobody = User::anonymous();
    assert!(ask(&nobody, "/livez") && ask(&nobody, "/readyz/store") && ask(&nobody, "/version"));
    assert!(!ask(&nobody, "/api") && !ask(&nobody, "/metrics") && !ask(&nobody, "/healthzz"));
    assert!(ask(&user("somebody", ""), "/apis/apps/v1"));
    let post = Asked::Path { verb: "post", path: "/livez" };
    assert_ne!(authorize(&nobody, &post, &OnePod), Decision::Allow);
}

#[test]
fn refusals_read_as_clients_know_them() {
    let user = user("jane", "");
    let lines = [
        refusal(&user, &Asked::Resource(access("list -/pods a/-")), ""),
        refusal(&user, &Asked::Resource(access("get apps/deployments/scale -/-")), "because"),
        refusal(&user, &Asked::Path { verb: "get", path: "/metrics" }, ""),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    User "jane" cannot list resource "pods" in API group "" in the namespace "a"
    User "jane" cannot get resource "deployments/scale" in API group "apps" at the cluster scope: because
    User "jane" cannot get path "/metrics"
    "#);
}
