//! What Services look like in xtables, and that whatever is written ends where a full load would.

use pintle_nft::Family;
use pintle_proxy_plan::backend::Backend as _;
use pintle_proxy_plan::iptables::{Iptables, Observed, Table, Tables, Unreadable, landmarks, removal, trial};
use pintle_proxy_plan::{Change, Config, DetectLocal, Masquerade, NodePortAddresses, ServiceMap, ServiceName};
use serde_json::json;

use crate::objects::{service, slice, web};
use crate::{bytes, config};

/// A map and its rendering side by side.
struct Both {
    map: ServiceMap,
    planner: Iptables,
}

impl Both {
    fn new(config: Config) -> Self {
        Self { map: ServiceMap::new(config), planner: Iptables::default() }
    }

    fn note(&mut self, change: Change<'_>) {
        self.map.note(change);
    }

    /// Everything, into tables in which something may be.
    fn load(&mut self, tables: &mut Tables) -> Result<(), Unreadable> {
        self.map.resolve();
        self.planner.observe(observed(tables));
        let script = self.planner.full(&self.map);
        tables.restore(script.text())?;
        self.planner.installed();
        Ok(())
    }

    /// What changed; the text.
    fn change(&mut self, tables: &mut Tables) -> Result<String, Unreadable> {
        let resolved = self.map.resolve();
        let script = self.planner.change(&self.map, &resolved.changes);
        tables.restore(script.text())?;
        self.planner.installed();
        Ok(script.text().to_owned())
    }

    /// What a full load into empty tables makes.
    fn whole(&self) -> Tables {
        let mut tables = Tables::default();
        tables.restore(Iptables::default().full(&self.map).text()).unwrap();
        tables
    }
}

fn observed(tables: &Tables) -> Observed {
    let mut observed = Observed::default();
    Table::ALL.iter().for_each(|table| observed.read(*table, &tables.save(*table)));
    observed
}

/// A Service of every kind, and what they look like.
fn one_of_each() -> Both {
    let mut both = Both::new(config());
    both.note(Change::Service(&service("plain", "10.43.0.10", json!({}))));
    both.note(Change::Slice(&web("plain", &["10.42.0.2@here", "10.42.1.2", "10.42.1.3"])));
    both.note(Change::Service(&service("empty", "10.43.0.11", json!({"externalIPs": ["198.51.100.1"]}))));
    let balanced = json!({
        "type": "LoadBalancer", "ingress": [{"ip": "198.51.100.2"}], "sessionAffinity": "ClientIP",
        "loadBalancerSourceRanges": ["192.0.2.0/24"], "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    both.note(Change::Service(&service("sticky", "10.43.0.12", balanced)));
    both.note(Change::Slice(&web("sticky", &["10.42.0.4@here", "10.42.1.4"])));
    let far = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
    both.note(Change::Service(&service("far", "10.43.0.13", far)));
    both.note(Change::Slice(&slice("far", ("dns", "UDP", 5353), &["10.42.1.5"])));
    both.map.resolve();
    both
}

#[test]
fn services_are_laid_out_as_kube_proxy_does() {
    let tables = one_of_each().whole();
    let text = Table::ALL.map(|table| tables.save(table)).concat();
    let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("-A ") || line.starts_with('*')).collect();
    insta::assert_snapshot!(rules.join("\n"), @r#"
    *nat
    -A KUBE-EXT-XVTKCB6LNAR6OLSV -m comment --comment "masquerade LOCAL traffic for d/far:dns external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
    -A KUBE-EXT-XVTKCB6LNAR6OLSV -m comment --comment "route LOCAL traffic for d/far:dns external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-XVTKCB6LNAR6OLSV
    -A KUBE-EXT-XVTKCB6LNAR6OLSV -s 10.42.0.0/16 -m comment --comment "pod traffic for d/far:dns external destinations" -j KUBE-SVC-XVTKCB6LNAR6OLSV
    -A KUBE-EXT-YB6PYM3OS6PCGDDH -m comment --comment "masquerade LOCAL traffic for d/sticky:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
    -A KUBE-EXT-YB6PYM3OS6PCGDDH -m comment --comment "route LOCAL traffic for d/sticky:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-YB6PYM3OS6PCGDDH
    -A KUBE-EXT-YB6PYM3OS6PCGDDH -s 10.42.0.0/16 -m comment --comment "pod traffic for d/sticky:http external destinations" -j KUBE-SVC-YB6PYM3OS6PCGDDH
    -A KUBE-EXT-YB6PYM3OS6PCGDDH -j KUBE-SVL-YB6PYM3OS6PCGDDH
    -A KUBE-FW-YB6PYM3OS6PCGDDH -s 192.0.2.0/24 -m comment --comment "d/sticky:http loadbalancer IP" -j KUBE-EXT-YB6PYM3OS6PCGDDH
    -A KUBE-FW-YB6PYM3OS6PCGDDH -s 198.51.100.2/32 -m comment --comment "d/sticky:http loadbalancer IP" -j KUBE-EXT-YB6PYM3OS6PCGDDH
    -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
    -A KUBE-NODEPORTS -p udp -m udp --dport 30053 -m comment --comment "d/far:dns" -j KUBE-EXT-XVTKCB6LNAR6OLSV
    -A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment "d/sticky:http" -j KUBE-EXT-YB6PYM3OS6PCGDDH
    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
    -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
    -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
    -A KUBE-PROXY-CANARY -m comment --comment "when this is gone everything is installed anew" -j RETURN
    -A KUBE-SEP-2A6SFIWOWYIP5FZH -s 10.42.0.2/32 -j KUBE-MARK-MASQ
    -A KUBE-SEP-2A6SFIWOWYIP5FZH -p tcp -m tcp -j DNAT --to-destination 10.42.0.2:8080
    -A KUBE-SEP-DYQCXQDBG4JU2S5V -s 10.42.1.3/32 -j KUBE-MARK-MASQ
    -A KUBE-SEP-DYQCXQDBG4JU2S5V -p tcp -m tcp -j DNAT --to-destination 10.42.1.3:8080
    -A KUBE-SEP-EOJKP3UUQ5GM3MOW -s 10.42.1.4/32 -j KUBE-MARK-MASQ
    -A KUBE-SEP-EOJKP3UUQ5GM3MOW -p tcp -m recent --set --name KUBE-SEP-EOJKP3UUQ5GM3MOW --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.42.1.4:8080
    -A KUBE-SEP-QRSAQELEK56LOMQZ -s 10.42.1.5/32 -j KUBE-MARK-MASQ
    -A KUBE-SEP-QRSAQELEK56LOMQZ -p udp -m udp -j DNAT --to-destination 10.42.1.5:5353
    -A KUBE-SEP-UQJNZ3KT7BVDHOSC -s 10.42.0.4/32 -j KUBE-MARK-MASQ
    -A KUBE-SEP-UQJNZ3KT7BVDHOSC -p tcp -m recent --set --name KUBE-SEP-UQJNZ3KT7BVDHOSC --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.42.0.4:8080
    -A KUBE-SEP-WXT5USH3IF2RH6J4 -s 10.42.1.2/32 -j KUBE-MARK-MASQ
    -A KUBE-SEP-WXT5USH3IF2RH6J4 -p tcp -m tcp -j DNAT --to-destination 10.42.1.2:8080
    -A KUBE-SERVICES -d 10.43.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "d/plain:http cluster IP" -j KUBE-SVC-KNKXR7MDWVAWAZE3
    -A KUBE-SERVICES -d 10.43.0.12/32 -p tcp -m tcp --dport 80 -m comment --comment "d/sticky:http cluster IP" -j KUBE-SVC-YB6PYM3OS6PCGDDH
    -A KUBE-SERVICES -d 198.51.100.2/32 -p tcp -m tcp --dport 80 -m comment --comment "d/sticky:http loadbalancer IP" -j KUBE-FW-YB6PYM3OS6PCGDDH
    -A KUBE-SERVICES ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -j KUBE-NODEPORTS
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 ! -s 10.42.0.0/16 -d 10.43.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "d/plain:http cluster IP" -j KUBE-MARK-MASQ
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 -m comment --comment "d/plain:http -> 10.42.0.2:8080" -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-2A6SFIWOWYIP5FZH
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 -m comment --comment "d/plain:http -> 10.42.1.2:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-WXT5USH3IF2RH6J4
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 -m comment --comment "d/plain:http -> 10.42.1.3:8080" -j KUBE-SEP-DYQCXQDBG4JU2S5V
    -A KUBE-SVC-XVTKCB6LNAR6OLSV -m comment --comment "d/far:dns -> 10.42.1.5:5353" -j KUBE-SEP-QRSAQELEK56LOMQZ
    -A KUBE-SVC-YB6PYM3OS6PCGDDH ! -s 10.42.0.0/16 -d 10.43.0.12/32 -p tcp -m tcp --dport 80 -m comment --comment "d/sticky:http cluster IP" -j KUBE-MARK-MASQ
    -A KUBE-SVC-YB6PYM3OS6PCGDDH -m comment --comment "d/sticky:http -> 10.42.0.4:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-UQJNZ3KT7BVDHOSC --mask 255.255.255.255 --rsource -j KUBE-SEP-UQJNZ3KT7BVDHOSC
    -A KUBE-SVC-YB6PYM3OS6PCGDDH -m comment --comment "d/sticky:http -> 10.42.1.4:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-EOJKP3UUQ5GM3MOW --mask 255.255.255.255 --rsource -j KUBE-SEP-EOJKP3UUQ5GM3MOW
    -A KUBE-SVC-YB6PYM3OS6PCGDDH -m comment --comment "d/sticky:http -> 10.42.0.4:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-UQJNZ3KT7BVDHOSC
    -A KUBE-SVC-YB6PYM3OS6PCGDDH -m comment --comment "d/sticky:http -> 10.42.1.4:8080" -j KUBE-SEP-EOJKP3UUQ5GM3MOW
    -A KUBE-SVL-YB6PYM3OS6PCGDDH -m comment --comment "d/sticky:http -> 10.42.0.4:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-UQJNZ3KT7BVDHOSC --mask 255.255.255.255 --rsource -j KUBE-SEP-UQJNZ3KT7BVDHOSC
    -A KUBE-SVL-YB6PYM3OS6PCGDDH -m comment --comment "d/sticky:http -> 10.42.0.4:8080" -j KUBE-SEP-UQJNZ3KT7BVDHOSC
    -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A PINTLE-EGRESS -d 10.42.0.0/16 -j RETURN
    -A PINTLE-EGRESS -d 224.0.0.0/4 -j RETURN
    -A PINTLE-EGRESS -s 10.42.0.0/16 -j MASQUERADE --random-fully
    -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
    -A POSTROUTING -m comment --comment "packets of pods to outside the cluster" -j PINTLE-EGRESS
    -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    *filter
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
    -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
    -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
    -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
    -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
    -A KUBE-EXTERNAL-SERVICES -d 198.51.100.1/32 -p tcp -m tcp --dport 80 -m comment --comment "d/empty:http has no endpoints" -j REJECT --reject-with tcp-reset
    -A KUBE-EXTERNAL-SERVICES ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -p udp -m udp --dport 30053 -m comment --comment "d/far:dns has no local endpoints" -j DROP
    -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
    -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
    -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A KUBE-NODEPORTS -p tcp -m comment --comment "d/sticky health check node port" -m tcp --dport 32000 -j ACCEPT
    -A KUBE-PROXY-CANARY -m comment --comment "when this is gone everything is installed anew" -j RETURN
    -A KUBE-PROXY-FIREWALL -d 198.51.100.2/32 -p tcp -m tcp --dport 80 -m comment --comment "d/sticky:http traffic not accepted by KUBE-FW-YB6PYM3OS6PCGDDH" -j DROP
    -A KUBE-REFUSE -p tcp -j REJECT --reject-with tcp-reset
    -A KUBE-REFUSE -j REJECT --reject-with icmp-port-unreachable
    -A KUBE-SERVICES -d 10.43.0.11/32 -p tcp -m tcp --dport 80 -m comment --comment "d/empty:http has no endpoints" -j REJECT --reject-with tcp-reset
    -A KUBE-SERVICES -d 10.43.0.13/32 -p udp -m udp --dport 53 -m comment --comment "d/far:dns has no local endpoints" -j DROP
    -A KUBE-SERVICES -d 10.43.0.0/16 -j KUBE-UNUSED-PORTS
    -A KUBE-UNUSED-PORTS -d 10.43.0.11/32 -m comment --comment "d/empty has no such port" -j KUBE-REFUSE
    -A KUBE-UNUSED-PORTS -d 10.43.0.13/32 -m comment --comment "d/far has no such port" -j KUBE-REFUSE
    -A KUBE-UNUSED-PORTS -d 10.43.0.10/32 -m comment --comment "d/plain has no such port" -j KUBE-REFUSE
    -A KUBE-UNUSED-PORTS -d 10.43.0.12/32 -m comment --comment "d/sticky has no such port" -j KUBE-REFUSE
    -A KUBE-UNUSED-PORTS -d 10.43.0.0/16 -m comment --comment "no Service has this address" -j DROP
    -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
    -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
    "#);
}

#[test]
fn a_change_writes_the_chains_it_concerns() {
    let (mut both, mut tables) = (one_of_each(), Tables::default());
    both.load(&mut tables).unwrap();
    both.note(Change::Slice(&web("plain", &["10.42.0.2@here", "10.42.1.2"])));
    insta::assert_snapshot!(both.change(&mut tables).unwrap(), @r#"
    *nat
    :KUBE-SVC-KNKXR7MDWVAWAZE3 - [0:0]
    :KUBE-SEP-DYQCXQDBG4JU2S5V - [0:0]
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 ! -s 10.42.0.0/16 -d 10.43.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "d/plain:http cluster IP" -j KUBE-MARK-MASQ
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 -m comment --comment "d/plain:http -> 10.42.0.2:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2A6SFIWOWYIP5FZH
    -A KUBE-SVC-KNKXR7MDWVAWAZE3 -m comment --comment "d/plain:http -> 10.42.1.2:8080" -j KUBE-SEP-WXT5USH3IF2RH6J4
    -X KUBE-SEP-DYQCXQDBG4JU2S5V
    COMMIT
    "#);
    both.note(Change::Slice(&web("plain", &["10.42.0.2@here", "10.42.1.2"])));
    assert_eq!(both.change(&mut tables).unwrap(), "", "nothing changed");
}

#[test]
fn what_others_put_there_stays_and_what_older_proxies_left_goes() {
    let mut tables = Tables::default();
    let theirs = "*nat\n:KUBE-KUBELET-CANARY - [0:0]\n:CNI-X - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n-A CNI-X -j KUBE-MARK-MASQ\n\
                  -A POSTROUTING -j CNI-X\nCOMMIT\n*filter\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    tables.restore(theirs).unwrap();
    let before = tables.clone();
    let older = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:KUBE-XLB-AAAAAAAAAAAAAAAA - [0:0]\n\
                 -A KUBE-SERVICES -j KUBE-SVC-AAAAAAAAAAAAAAAA\n-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -m comment \
                 --comment \"kubernetes service portals\" -j KUBE-SERVICES\n-A OUTPUT -m comment --comment \"kubernetes \
                 service portals\" -j KUBE-SERVICES\nCOMMIT\n";
    tables.restore(older).unwrap();
    let mut both = one_of_each();
    both.load(&mut tables).unwrap();
    let nat = tables.save(Table::Nat);
    assert!(!nat.contains("AAAA"), "{nat}");
    for hook in ["-A PREROUTING ", "-A OUTPUT "] {
        let portals = format!("{hook}-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES");
        assert_eq!(nat.lines().filter(|l| l.starts_with(hook)).collect::<Vec<_>>(), [portals]);
    }
    let once = tables.clone();
    both.load(&mut tables).unwrap();
    assert_eq!(tables, once, "a second load changes nothing");

    tables.restore(removal(&observed(&tables)).text()).unwrap();
    // What others lead into is not taken from them, and still does what it did.
    let mark = "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n";
    let left = tables.save(Table::Nat);
    assert!(left.contains(mark), "{left}");
    assert_eq!(left.replace(mark, ""), before.save(Table::Nat));
    assert_eq!(tables.save(Table::Filter), before.save(Table::Filter));
}

#[test]
fn a_service_that_is_left_out_refuses_until_it_is_taken_in_again() {
    let (mut both, mut tables) = (one_of_each(), Tables::default());
    both.load(&mut tables).unwrap();
    let whole = tables.clone();
    let sticky = ServiceName { namespace: "d".into(), name: "sticky".into() };
    both.planner.leave_out([&sticky].into_iter());
    let change = both.change(&mut tables).unwrap();
    assert!(change.contains("-X KUBE-FW-") && !change.contains("d/plain ->"), "{change}");
    let text = Table::ALL.map(|table| tables.save(table)).concat();
    let left: Vec<&str> = text.lines().filter(|l| l.contains("sticky")).collect();
    assert_eq!(
        left,
        ["-A KUBE-UNUSED-PORTS -d 10.43.0.12/32 -m comment --comment \"d/sticky has no such port\" -j KUBE-REFUSE"]
    );
    both.planner.leave_out([].into_iter());
    both.change(&mut tables).unwrap();
    assert_eq!(tables, whole);
}

#[test]
fn every_line_is_known_to_be_somebodys() {
    let both = one_of_each();
    let script = Iptables::default().full(&both.map);
    for (at, line) in (1..).zip(script.text().lines()) {
        let named = ["plain", "empty", "sticky", "far"].into_iter().find(|name| line.contains(&format!("d/{name}")));
        let owner = script.owner(at).map(|name| name.name.as_str());
        assert!(named.is_none() || named == owner, "line {at}, {line}: {owner:?}");
        let of_one = ["KUBE-SEP-", "KUBE-SVC-", "KUBE-EXT-"].iter().any(|kind| line.contains(kind));
        assert!(owner.is_some() || !of_one, "line {at}, {line} is nobody's");
    }
}

#[test]
fn settings_are_told_in_rules() {
    let base = config();
    let two = ["10.42.0.0/17", "10.42.128.0/17"].map(|r| r.parse().unwrap()).to_vec();
    let sample = |config: Config| {
        let mut both = Both::new(config);
        let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
        both.note(Change::Service(&service("web", "10.43.0.10", spec)));
        both.note(Change::Slice(&web("web", &["10.42.0.2@here"])));
        both.map.resolve();
        Table::ALL.map(|table| both.whole().save(table)).concat()
    };
    for (config, there) in [
        (Config { masquerade: Masquerade::All, ..base.clone() }, "cluster IP\" -j KUBE-MARK-MASQ"),
        (
            Config { masquerade_mark: 1 << 20, ..base.clone() },
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x100000/0x100000",
        ),
        (Config { cluster_ranges: two, ..base.clone() }, "cluster IP\" -j KUBE-MARK-OFF-CLUSTER"),
        (
            Config { detect_local: DetectLocal::BridgeInterface("br0".into()), ..base.clone() },
            "-d 10.43.0.10/32 ! -i br0 -p tcp -m tcp --dport 80",
        ),
        (
            Config { detect_local: DetectLocal::InterfaceNamePrefix("veth".into()), ..base.clone() },
            "-i veth+ -m comment --comment \"pod traffic for d/web:http external destinations\" -j KUBE-SVC-",
        ),
        (
            Config { node_port_addresses: NodePortAddresses::Primary, ..base.clone() },
            "-A KUBE-SERVICES -d 192.0.2.1/32 -m addrtype --dst-type LOCAL",
        ),
        (
            Config { node_port_addresses: NodePortAddresses::In(vec!["0.0.0.0/0".parse().unwrap()]), ..base.clone() },
            "-A KUBE-SERVICES ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL",
        ),
        (base.clone(), "-A PINTLE-EGRESS -s 10.42.0.0/16 -j MASQUERADE --random-fully"),
    ] {
        let text = sample(config);
        assert!(text.contains(there), "{there} is missing from:\n{text}");
    }
    let left = sample(Config { egress: pintle_proxy_plan::Egress::Leave, ..base });
    assert!(!left.contains("EGRESS"), "{left}");
}

#[test]
fn what_leads_to_our_chains_is_listed_as_it_was_written() {
    for table in Table::ALL {
        let lines = landmarks(&config(), table);
        assert!(lines.len() > 3, "{lines:?}");
        // What the tools list with a backslash before it (xtables_save_string) would not be known again.
        let escaped = lines.iter().find(|line| line.contains(['\'', '\\', '`']) || line.matches('"').count() > 2);
        assert_eq!(escaped, None);
    }
}

#[test]
fn a_trial_leaves_nothing() {
    for family in [Family::V4, Family::V6] {
        let mut tables = Tables::default();
        for script in trial(&config().for_family(family)) {
            assert_ne!(script.text(), "");
            tables.restore(script.text()).unwrap();
        }
        assert_eq!(tables, Tables::default());
    }
}

/// What the bytes say happens to a proxy in mode iptables: all of it is taken, ends where a full load would, and leaves
/// nothing when it is removed.
pub fn happen(bytes: &[u8]) {
    let (config, story) = bytes::story(bytes);
    let mut both = Both::new(config);
    let mut tables = Tables::default();
    both.load(&mut tables).unwrap();
    for happening in &story {
        match happening {
            bytes::Happening::Load(_) => {
                both.change(&mut tables).unwrap();
                // A load over what is there is no change.
                let before = tables.clone();
                both.load(&mut tables).unwrap();
                assert_eq!(tables, before);
            }
            bytes::Happening::Update | bytes::Happening::Settle => {
                both.change(&mut tables).unwrap();
                assert_eq!(tables, both.whole());
                assert_eq!(both.change(&mut tables).unwrap(), "");
            }
            told => told.change().into_iter().for_each(|change| both.note(change)),
        }
    }
    tables.restore(removal(&observed(&tables)).text()).unwrap();
    assert_eq!(tables, Tables::default());
}
