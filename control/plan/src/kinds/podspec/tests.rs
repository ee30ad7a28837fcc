//! Tables over a pod spec's defaults and rules.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Complaints about a spec given as JSON, after defaulting.
fn complaints(json: &str) -> String {
    let mut spec: PodSpec = serde_json::from_str(json).unwrap();
    default(&mut spec);
    default_requests(&mut spec);
    let mut errors = FieldErrors::new();
    validate(&spec, &Path::new("spec"), &mut errors);
    errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Complaints about a container with these further fields, and volume `v` to mount.
fn container(fields: &str) -> String {
    complaints(&format!(r#"{{"containers":[{{"name":"a","image":"i",{fields}}}],"volumes":[{{"name":"v"}}]}}"#))
}

#[test]
fn a_plain_pod_gets_every_default_and_no_complaint() {
    let mut spec: PodSpec = serde_json::from_str(
        r#"{"containers":[{"name":"a","image":"nginx","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}},
            "livenessProbe":{"httpGet":{"port":80}},"env":[{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['x']"}}}]}],
            "serviceAccount":"sa","volumes":[{"name":"v"},{"name":"s","secret":{"secretName":"x"}}]}"#,
    )
    .unwrap();
    default(&mut spec);
    default_requests(&mut spec);
    let mut errors = FieldErrors::new();
    validate(&spec, &Path::new("spec"), &mut errors);
    assert_eq!(errors, FieldErrors::new());
    insta::assert_snapshot!(serde_json::to_string(&spec).unwrap(), @r#"{"containers":[{"env":[{"name":"N","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.labels['x']"}}}],"image":"nginx","imagePullPolicy":"Always","livenessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"name":"a","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"sa","serviceAccountName":"sa","terminationGracePeriodSeconds":30,"volumes":[{"emptyDir":{},"name":"v"},{"name":"s","secret":{"defaultMode":420,"secretName":"x"}}]}"#);
}

#[test]
fn the_spec_itself_is_checked() {
    let table = [
        r#"{"containers":[]}"#,
        r#"{"containers":[{"name":"A_b","image":""},{"name":"x","image":" i"},{"name":"x","image":"i"}]}"#,
        r#"{"containers":[{"name":"a","image":"i"}],"restartPolicy":"Sometimes","dnsPolicy":"None","activeDeadlineSeconds":0,"terminationGracePeriodSeconds":-2}"#,
        r#"{"containers":[{"name":"a","image":"i"}],"hostname":"a.b","nodeName":"N","nodeSelector":{"a b":"c"},"imagePullSecrets":[{}]}"#,
        r#"{"containers":[{"name":"a","image":"i"}],"initContainers":[{"name":"a","image":"i","livenessProbe":{"exec":{"command":["x"]}}}]}"#,
        r#"{"containers":[{"name":"a","image":"i"}],"shareProcessNamespace":true,"hostPID":true,"securityContext":{"runAsUser":-1,"sysctls":[{"name":"a..b c"}],"seccompProfile":{"type":"Localhost"}}}"#,
        r#"{"containers":[{"name":"a","image":"i"}],"hostAliases":[{"ip":"x","hostnames":["UP"]}],"schedulingGates":[{"name":"g"},{"name":"g"}]}"#,
        r#"{"containers":[{"name":"a","image":"i","ports":[{"containerPort":80}]}],"hostNetwork":true}"#,
        r#"{"containers":[{"name":"a","image":"i","ports":[{"containerPort":80,"hostPort":81}]}],"hostNetwork":true}"#,
    ];
    let lines: Vec<String> = table.iter().map(|json| complaints(json)).collect();
    insta::assert_snapshot!(lines.join("\n--\n"), @r#"
    spec.containers: Required value
    --
    spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
    spec.containers[0].image: Required value
    spec.containers[1].image: Invalid value: " i": must not have leading or trailing whitespace
    spec.containers[2].name: Duplicate value: "x"
    --
    spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
    spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
    spec.terminationGracePeriodSeconds: Invalid value: -2: must be greater than or equal to 0
    spec.dnsConfig: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None
    --
    spec.nodeName: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    spec.hostname: Invalid value: "a.b": must not contain dots
    spec.imagePullSecrets[0].name: Required value
    spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
    --
    spec.initContainers[0].name: Duplicate value: "a"
    spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
    --
    spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
    spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
    spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
    spec.securityContext.sysctls[0].name: Invalid value: "a..b c": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
    --
    spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
    spec.hostAliases[0].hostnames[0]: Invalid value: "UP": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    spec.schedulingGates[1]: Duplicate value: "g"
    --

    --
    spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true
    "#);
}

#[test]
fn containers_are_checked() {
    let table = [
        r#""imagePullPolicy":"Maybe""#,
        r#""ports":[{"containerPort":0},{"containerPort":70000,"protocol":"HTTP"},{"containerPort":1,"name":"UP"},{"containerPort":2,"name":"p"},{"containerPort":3,"name":"p"}]"#,
        r#""ports":[{"containerPort":1,"hostPort":8080},{"containerPort":2,"hostPort":8080}]"#,
        r#""env":[{"name":""},{"name":"a=b"},{"name":"A","value":"x","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},{"name":"B","valueFrom":{}},{"name":"C","valueFrom":{"fieldRef":{"fieldPath":"spec.foo"}}},{"name":"D","valueFrom":{"secretKeyRef":{"name":"","key":""}}}]"#,
        r#""envFrom":[{},{"configMapRef":{"name":""}}]"#,
        r#""volumeMounts":[{"name":"w","mountPath":"/w"},{"name":"v","mountPath":""},{"name":"v","mountPath":"/a"},{"name":"v","mountPath":"/a","subPath":"../x"},{"name":"v","mountPath":"/b","mountPropagation":"Bidirectional"}]"#,
        r#""resources":{"requests":{"cpu":"2","memory":"-1","foo":"1"},"limits":{"cpu":"1","memory":"x","example.com/gpu":"500m"}}"#,
        r#""livenessProbe":{},"readinessProbe":{"exec":{"command":["a"]},"tcpSocket":{"port":80},"terminationGracePeriodSeconds":5},"startupProbe":{"httpGet":{"port":"http","scheme":"ftp"},"successThreshold":2,"periodSeconds":-1}"#,
        r#""lifecycle":{"preStop":{"exec":{}},"postStart":{}}"#,
        r#""securityContext":{"privileged":true,"allowPrivilegeEscalation":false,"runAsUser":-5,"procMount":"Odd"}"#,
    ];
    let lines: Vec<String> = table.iter().map(|fields| container(fields)).collect();
    insta::assert_snapshot!(lines.join("\n--\n"), @r#"
    spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"
    --
    spec.containers[0].ports[0].containerPort: Required value
    spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
    spec.containers[0].ports[1].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"
    spec.containers[0].ports[2].name: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
    spec.containers[0].ports[2].name: Invalid value: "UP": must contain at least one letter (a-z)
    spec.containers[0].ports[4].name: Duplicate value: "p"
    --
    spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//8080"
    --
    spec.containers[0].env[0].name: Required value
    spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
    spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
    spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
    spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.foo": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
    spec.containers[0].env[5].valueFrom.secretKeyRef.name: Required value
    spec.containers[0].env[5].valueFrom.secretKeyRef.key: Required value
    --
    spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
    spec.containers[0].envFrom[1].configMapRef.name: Required value
    --
    spec.containers[0].volumeMounts[0].name: Not found: "w"
    spec.containers[0].volumeMounts[1].mountPath: Required value
    spec.containers[0].volumeMounts[3].mountPath: Invalid value: "/a": must be unique
    spec.containers[0].volumeMounts[3].subPath: Invalid value: "../x": must not contain '..'
    spec.containers[0].volumeMounts[4].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
    --
    spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "500m": must be an integer
    spec.containers[0].resources.limits[memory]: Invalid value: "x": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
    spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "500m": must be an integer
    spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
    spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers
    spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
    spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
    --
    spec.containers[0].livenessProbe: Required value: must specify a handler type
    spec.containers[0].readinessProbe: Forbidden: may not specify more than 1 handler type
    spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes
    spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
    spec.containers[0].startupProbe.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", "HTTPS"
    spec.containers[0].startupProbe.successThreshold: Invalid value: 2: must be 1
    --
    spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
    spec.containers[0].lifecycle.preStop.exec.command: Required value
    --
    spec.containers[0].securityContext.runAsUser: Invalid value: -5: must be between 0 and 2147483647, inclusive
    spec.containers[0].securityContext.procMount: Unsupported value: "Odd": supported values: "Default", "Unmasked"
    spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"procMount":"Odd","runAsUser":-5}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
    "#);
}

#[test]
fn volumes_are_checked() {
    let table = [
        r#"[{"name":"","emptyDir":{}},{"name":"A","emptyDir":{}},{"name":"b","emptyDir":{}},{"name":"b","hostPath":{"path":"/x/../y","type":"Odd"},"emptyDir":{}}]"#,
        r#"[{"name":"a","secret":{"defaultMode":1000,"items":[{"key":"","path":"/abs"}]}},{"name":"b","configMap":{"name":""}}]"#,
        r#"[{"name":"a","persistentVolumeClaim":{"claimName":""}},{"name":"b","nfs":{"server":"","path":"x"}},{"name":"c","emptyDir":{"sizeLimit":"-1"}}]"#,
        r#"[{"name":"a","projected":{"sources":[{"serviceAccountToken":{"path":"","expirationSeconds":5}},{"secret":{"name":"s"},"configMap":{"name":"c"}},{"downwardAPI":{"items":[{"path":"p"}]}}]}}]"#,
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|volumes| complaints(&format!(r#"{{"containers":[{{"name":"a","image":"i"}}],"volumes":{volumes}}}"#)))
        .collect();
    insta::assert_snapshot!(lines.join("\n--\n"), @r#"
    spec.volumes[0].name: Required value
    spec.volumes[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
    spec.volumes[3].name: Duplicate value: "b"
    spec.volumes[3]: Forbidden: may not specify more than 1 volume type
    spec.volumes[3].hostPath.path: Invalid value: "/x/../y": must not contain '..'
    spec.volumes[3].hostPath.type: Unsupported value: "Odd": supported values: "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
    --
    spec.volumes[0].secret.secretName: Required value
    spec.volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
    spec.volumes[0].secret.items[0].key: Required value
    spec.volumes[0].secret.items[0].path: Invalid value: "/abs": must be a relative path
    spec.volumes[1].configMap.name: Required value
    --
    spec.volumes[0].persistentVolumeClaim.claimName: Required value
    spec.volumes[1].nfs.server: Required value
    spec.volumes[1].nfs.path: Invalid value: "x": must be an absolute path
    spec.volumes[2].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity
    --
    spec.volumes[0].projected.sources[0].serviceAccountToken.path: Required value
    spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
    spec.volumes[0].projected.sources[1]: Forbidden: may not specify more than 1 volume type per source
    spec.volumes[0].projected.sources[2].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required
    "#);
}

#[test]
fn placement_is_checked() {
    let table = [
        r#""tolerations":[{"operator":"Equal"},{"key":"k","operator":"Exists","value":"v"},{"key":"k","operator":"Odd","effect":"Never"},{"key":"k","operator":"Exists","tolerationSeconds":5}]"#,
        r#""affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[]},"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":0,"preference":{"matchExpressions":[{"key":"k","operator":"In"},{"key":"k","operator":"Like"}]}}]}}"#,
        r#""affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"","labelSelector":{"matchExpressions":[{"key":"a","operator":"Exists","values":["x"]}]}}]}}"#,
        r#""topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"Odd"},{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway","minDomains":2},{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway"}]"#,
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|fields| complaints(&format!(r#"{{"containers":[{{"name":"a","image":"i"}}],{fields}}}"#)))
        .collect();
    insta::assert_snapshot!(lines.join("\n--\n"), @r#"
    spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
    spec.tolerations[1].operator: Invalid value: "v": value must be empty when `operator` is 'Exists'
    spec.tolerations[2].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
    spec.tolerations[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
    spec.tolerations[3].effect: Invalid value: "": effect must be 'NoExecute' when `tolerationSeconds` is set
    --
    spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
    spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
    spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
    spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator
    --
    spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
    spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
    --
    spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
    spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
    spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Odd": supported values: "DoNotSchedule", "ScheduleAnyway"
    spec.topologySpreadConstraints[1].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not "ScheduleAnyway"
    spec.topologySpreadConstraints[2].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, ScheduleAnyway}"
    "#);
}
