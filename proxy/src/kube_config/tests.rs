//! What is read, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;

#[test]
fn what_has_no_effect_is_known_and_what_has_is_not_among_it() {
    let quiet = "bindAddress: 0.0.0.0\nnftables: {minSyncPeriod: 1s}\nclientConnection: {qps: 50, burst: 100}\n\
                 enableProfiling: true\nlogging: {format: json, verbosity: 4, flushFrequency: 1s}\n\
                 featureGates: {NFTablesProxyMode: true, WinDSR: false, LoggingBetaOptions: true}\n";
    let quiet = read(quiet).unwrap();
    assert_eq!(
        (quiet.without_effect(), quiet.rules("nftables").hold, quiet.node_address().unwrap()),
        (vec![], Duration::ZERO, None)
    );
    assert_eq!(quiet.logging.format(&quiet.feature_gates).unwrap(), LogFormat::Json);
    let loud = "bindAddress: 192.0.2.1\nfeatureGates: {SidecarContainers: true, TopologyAwareHints: false, \
                LoggingAlphaOptions: true}\nclientConnection: {contentType: application/cbor}\n\
                showHiddenMetricsForVersion: '1.36'\nlogging: {options: {json: {splitStream: true}}}\n\
                nftables: {minSyncPeriod: 5s}\n";
    let loud = read(loud).unwrap();
    assert_eq!(
        loud.without_effect(),
        [
            "featureGates.SidecarContainers (nothing of this proxy's)",
            "featureGates.TopologyAwareHints (always so here)",
            "logging.options.json",
            "clientConnection.contentType (JSON is sent)",
            "showHiddenMetricsForVersion (no metric is hidden)",
        ]
    );
    assert_eq!(loud.rules("nftables").hold, Duration::from_secs(5));
    assert_eq!(loud.rules("iptables").hold, Duration::from_secs(1));
    assert_eq!(loud.node_address().unwrap().map(|a| a.to_string()).as_deref(), Some("192.0.2.1"));
    assert_eq!(read("bindAddress: here\n").unwrap_err(), "bindAddress: \"here\" is no address");
}

fn read(text: &str) -> Result<KubeProxyConfiguration, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.conf");
    std::fs::write(&path, text).unwrap();
    KubeProxyConfiguration::read(&path).map_err(|e| match std::error::Error::source(&e) {
        Some(source) => source.to_string(),
        None => e.to_string(),
    })
}

/// What kubeadm 1.34 writes.
const KUBEADM: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: nftables
nftables:
  masqueradeAll: true
  masqueradeBit: 13
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: [10.0.0.0/8, "fd00::/8"]
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

#[test]
fn kubeadms_file_is_read_whole() {
    let read = read(KUBEADM).unwrap();
    assert_eq!(read.client_connection.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
    assert_eq!(read.cluster_ranges().unwrap().len(), 2);
    assert!(read.nftables.masquerade_all);
    assert_eq!((read.rules("nftables").masquerade_mark, read.rules("iptables").masquerade_mark), (0x2000, 0x4000));
    assert!(matches!(read.node_port_ranges().unwrap(), NodePorts::In(ranges) if ranges.len() == 2));
    assert_eq!(read.conntrack, Conntrack::default());
    assert_eq!((read.nftables.sync_period, read.oom_score_adj), (GoDuration::from_secs(30), Some(-999)));
    assert_eq!(read.healthz_bind_address, "0.0.0.0:10256");
}

#[test]
fn an_empty_file_has_kube_proxys_defaults() {
    let read = read("kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n").unwrap();
    assert_eq!(read, KubeProxyConfiguration::default());
    assert_eq!(read.health().unwrap().unwrap().to_string(), "0.0.0.0:10256");
    assert_eq!(read.metrics().unwrap().unwrap().to_string(), "127.0.0.1:10249");
    assert_eq!(read.conntrack.tcp_established_timeout.unwrap().to_string(), "24h0m0s");
}

#[test]
fn what_is_wrong_is_named() {
    for (text, said) in [
        ("nftables: {masquaradeAll: true}", "nftables: unknown field `masquaradeAll`"),
        ("proxyMode: nftables", "unknown field `proxyMode`"),
        ("mode: ipvs", "mode: \"ipvs\" is none of nftables"),
        ("detectLocalMode: Magic", "detectLocalMode: \"Magic\" is none of"),
        ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: is needed"),
        ("clusterCIDR: 10.0.0.0/33", "clusterCIDR: \"10.0.0.0/33\" is no address range"),
        ("conntrack: {udpTimeout: 3 days}", "conntrack: \"3 days\" is no duration"),
        ("metricsBindAddress: here", "metricsBindAddress: \"here\" is no address"),
        ("apiVersion: v1", "apiVersion: \"v1\" is not kubeproxy"),
        ("nftables: {masqueradeBit: 32}", "masqueradeBit: of nftables must be 0 to 31"),
        ("featureGates: {NoSuchThing: true}", "featureGates: unrecognized feature gate: NoSuchThing"),
        ("logging: {format: xml}", "logging.format: \"xml\" is no log format"),
        (
            "logging: {format: json}\nfeatureGates: {LoggingBetaOptions: false}",
            "logging.format: json needs feature gate",
        ),
        ("logging: {verbosity: 4294967295}", "logging.verbosity: 4294967295 is more than"),
        ("logging: {flushFrequency: often}", "logging"),
        ("logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}", "logging.vmodule: is for format text"),
        ("logging: {options: {text: {infoBufferSize: 1Mi}}}", "logging.options.text: needs feature gate"),
        (
            "showHiddenMetricsForVersion: '1.20'",
            "showHiddenMetricsForVersion: \"1.20\" must be left out or be \"1.36\"",
        ),
        ("clientConnection: {burst: -1}", "clientConnection.burst: -1 is less than nothing"),
        ("conntrack: {min: -5}", "conntrack.min: -5 is less than nothing"),
        ("oomScoreAdj: 1001", "oomScoreAdj: 1001 is not within"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
}
