//! The three files every container gets: /etc/hosts, /etc/hostname, /etc/resolv.conf.
//!
//! Owns: their contents. Does not own: writing them, the node's own resolv.conf.

use k8s_openapi::api::core::v1::Pod;

use crate::containers::{host_network, name, namespace, spec};

/// Name servers the kubelet passes on at most (validation's limits).
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// The cluster's and the node's DNS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Cluster DNS servers; empty if there are none.
    pub cluster_servers: Vec<String>,
    /// E.g. `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolv.conf.
    pub node_resolv_conf: String,
    /// The node's own /etc/hosts.
    pub node_hosts: String,
}

/// The pod's host name, without domain: at most 63 bytes.
pub fn hostname(pod: &Pod) -> String {
    let spec = spec(pod);
    let own = spec.hostname_override.as_deref().or(spec.hostname.as_deref()).filter(|h| !h.is_empty());
    let mut out = own.unwrap_or_else(|| name(pod)).to_owned();
    out.truncate(63);
    while out.ends_with(['-', '.']) {
        out.pop();
    }
    out
}

/// The pod's fully qualified name, if its spec has a subdomain.
pub fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = spec(pod).subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{domain}", hostname(pod), namespace(pod)))
}

/// What the pod's UTS namespace is called.
pub fn uts_name(pod: &Pod, domain: &str) -> String {
    let whole = spec(pod).set_hostname_as_fqdn.unwrap_or(false);
    fqdn(pod, domain).filter(|_| whole).unwrap_or_else(|| hostname(pod))
}

/// /etc/hosts.
pub fn hosts(pod: &Pod, pod_ips: &[String], dns: &DnsSettings) -> String {
    let mut out = String::from("# Kubernetes-managed hosts file.\n");
    if host_network(pod) {
        out = format!("# Kubernetes-managed hosts file (host network).\n{}", dns.node_hosts);
    } else {
        out.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        out.push_str(
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let names = match fqdn(pod, &dns.cluster_domain) {
            Some(full) => format!("{full}\t{}", hostname(pod)),
            None => hostname(pod),
        };
        for ip in pod_ips {
            out.push_str(&format!("{ip}\t{names}\n"));
        }
    }
    let aliases: Vec<_> = spec(pod).host_aliases.iter().flatten().collect();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    out
}

/// /etc/resolv.conf, by the pod's dnsPolicy and dnsConfig.
pub fn resolv_conf(pod: &Pod, dns: &DnsSettings) -> String {
    let spec = spec(pod);
    let mut conf = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolv::default(),
        "Default" => Resolv::parse(&dns.node_resolv_conf),
        "ClusterFirst" if host_network(pod) => Resolv::parse(&dns.node_resolv_conf),
        _ if dns.cluster_servers.is_empty() => Resolv::parse(&dns.node_resolv_conf),
        _ => Resolv::cluster(namespace(pod), dns),
    };
    if let Some(own) = &spec.dns_config {
        extend(&mut conf.servers, own.nameservers.as_deref().unwrap_or_default());
        extend(&mut conf.searches, own.searches.as_deref().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            conf.options.retain(|o| o.split(':').next() != Some(name));
            conf.options.push(match option.value.as_deref() {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    conf.render()
}

#[derive(Default)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolv {
    fn parse(text: &str) -> Resolv {
        let mut out = Resolv::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
                Some("search") => out.searches = words.map(str::to_owned).collect(),
                Some("options") => out.options = words.map(str::to_owned).collect(),
                Some(_) | None => {}
            }
        }
        out
    }

    fn cluster(namespace: &str, dns: &DnsSettings) -> Resolv {
        let domain = &dns.cluster_domain;
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        extend(&mut searches, &Resolv::parse(&dns.node_resolv_conf).searches);
        Resolv { servers: dns.cluster_servers.clone(), searches, options: vec!["ndots:5".to_owned()] }
    }

    fn render(mut self) -> String {
        self.servers.truncate(NAMESERVERS_MAX);
        self.searches.truncate(SEARCHES_MAX);
        let mut out = String::new();
        if !self.searches.is_empty() {
            out.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            out.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }
}

fn extend(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn cluster_first_searches_the_namespace_then_the_cluster() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"web-0","namespace":"ns"},"spec":{"subdomain":"web","containers":[],
                "dnsConfig":{"nameservers":["9.9.9.9"],"options":[{"name":"ndots","value":"2"}]},
                "hostAliases":[{"ip":"1.2.3.4","hostnames":["a","b"]}]}}"#,
        )
        .unwrap();
        let dns = DnsSettings {
            cluster_servers: vec!["10.43.0.10".to_owned()],
            cluster_domain: "cluster.local".to_owned(),
            node_resolv_conf: "search lan\nnameserver 192.168.1.1\n".to_owned(),
            node_hosts: String::new(),
        };
        insta::assert_snapshot!(resolv_conf(&pod, &dns), @r"
        search ns.svc.cluster.local svc.cluster.local cluster.local lan
        nameserver 10.43.0.10
        nameserver 9.9.9.9
        options ndots:2
        ");
        let text = hosts(&pod, &["10.42.0.2".to_owned()], &dns);
        assert!(text.contains("10.42.0.2\tweb-0.web.ns.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
    }
}
