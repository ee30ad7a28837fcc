//! The whole journey of a PodSpec, printed: the eleven rows of "Where a PodSpec goes" in ARCHITECTURE.md.
//!
//! Everything that decides is the product's own code; everything that would touch a machine is a fake that behaves:
//! one process, no root, no clock, no network. The transcript below is the truth of the day it was last accepted, and
//! the best place to begin reading. To see it run:
//!
//! ```text
//! cargo nextest run -p pintle-tests --test journey --no-capture
//! ```

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod api;
mod cluster;
mod container;
mod kubelet;
mod rows;
mod tale;
mod traffic;

use cluster::Cluster;
use tale::Tale;

#[test]
#[expect(clippy::too_many_lines, reason = "a transcript is as long as the journey")]
fn a_deployment_becomes_processes_and_a_service_becomes_rules() {
    let (mut tale, mut cluster) = (Tale::default(), Cluster::new("2026-07-01T12:00:00Z".parse().unwrap()));
    rows::written(&mut tale, &mut cluster);
    let node = rows::placed(&mut tale, &mut cluster);
    let mut lives = rows::started(&mut tale, &mut cluster, &node);
    rows::executed(&mut tale, &cluster, &lives[0]);
    rows::reached(&mut tale, &mut cluster, &mut lives, &node);
    println!("{}", tale.text);
    insta::assert_snapshot!(tale.text, @r#"
    1. bytes arrive; the generic handler finds the kind
       examples/web.yaml, Deployment: group "apps", version v1, deployments
       examples/web.yaml, Service: group "", version v1, services

    2. decode → default → admit → validate
       spoiled on purpose → 422:
         Deployment.apps "web" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0,
         spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`]
       filled into the Deployment: .spec.progressDeadlineSeconds=600, .spec.revisionHistoryLimit=10,
         .spec.strategy.rollingUpdate.maxSurge="25%", .spec.strategy.rollingUpdate.maxUnavailable="25%",
         .spec.strategy.type="RollingUpdate",
         .spec.template.spec.containers[0].env[0].valueFrom.fieldRef.apiVersion="v1",
         .spec.template.spec.containers[0].ports[0].protocol="TCP",
         .spec.template.spec.containers[0].readinessProbe.failureThreshold=3,
         .spec.template.spec.containers[0].readinessProbe.httpGet.scheme="HTTP",
         .spec.template.spec.containers[0].readinessProbe.successThreshold=1,
         .spec.template.spec.containers[0].readinessProbe.timeoutSeconds=1,
         .spec.template.spec.containers[0].terminationMessagePath="/dev/termination-log",
         .spec.template.spec.containers[0].terminationMessagePolicy="File",
         .spec.template.spec.dnsPolicy="ClusterFirst", .spec.template.spec.restartPolicy="Always",
         .spec.template.spec.schedulerName="default-scheduler", .spec.template.spec.terminationGracePeriodSeconds=30
       filled into the Service: .spec.internalTrafficPolicy="Cluster", .spec.ipFamilies[0]="IPv4",
         .spec.ipFamilyPolicy="SingleStack", .spec.ports[0].protocol="TCP", .spec.sessionAffinity="None",
         .spec.type="ClusterIP"
       admission gives the Service its address: .spec.clusterIPs=["10.43.0.10"]

    3. written at a revision; watchers wake
       [2] ADDED apps/deployments/default/web
       [3] ADDED core/services/default/web

    4. controllers turn Deployments into Pods (the number is the revision of the write)
       [4] deployment-controller: create replicasets.apps web-5c44f9b969
            ScalingReplicaSet: Scaled up replica set web-5c44f9b969 from 0 to 3
       [5] deployment-controller: put deployments.apps/status web
       [6] deployment-controller: put deployments.apps web
       [7] deployment-controller: put deployments.apps/status web
       [8] replicaset-controller: create pods web-5c44f9b969-h8cgk – SuccessfulCreate: Created pod: web-5c44f9b969-h8cgk
       [9] replicaset-controller: create pods web-5c44f9b969-jfq4f – SuccessfulCreate: Created pod: web-5c44f9b969-jfq4f
       [10] replicaset-controller: create pods web-5c44f9b969-kl6p9 – SuccessfulCreate: Created pod: web-5c44f9b969-kl6p9
       [11] replicaset-controller: put replicasets.apps/status web-5c44f9b969
       [12] replicaset-controller: put replicasets.apps/status web-5c44f9b969
       [13] deployment-controller: put deployments.apps/status web

    5. the scheduler picks a node: filter, score, bind
       [14] node small joins with 4 MiB for pods
       [15] default-scheduler: patch pods/status web-5c44f9b969-h8cgk
            FailedScheduling: 0/1 nodes are available: 1 Insufficient memory.
       [16] default-scheduler: patch pods/status web-5c44f9b969-jfq4f
            FailedScheduling: 0/1 nodes are available: 1 Insufficient memory.
       [17] default-scheduler: patch pods/status web-5c44f9b969-kl6p9
            FailedScheduling: 0/1 nodes are available: 1 Insufficient memory.
       [18] node roomy joins with 924 MiB for pods
       [19] default-scheduler: bind web-5c44f9b969-h8cgk – Scheduled: Successfully assigned default/web-5c44f9b969-h8cgk to roomy
       [20] default-scheduler: bind web-5c44f9b969-jfq4f – Scheduled: Successfully assigned default/web-5c44f9b969-jfq4f to roomy
       [21] default-scheduler: bind web-5c44f9b969-kl6p9 – Scheduled: Successfully assigned default/web-5c44f9b969-kl6p9 to roomy

    6. the kubelet sees its pod and plans: the first of three
       seen:   Pending (ContainerCreating); true: Initialized PodScheduled
       turn 1: [SetUpSandbox, MountVolumes, ResolveImage { container: "httpd" }]
               Pending (ContainerCreating); true: PodReadyToStartContainers Initialized PodScheduled
       turn 2: [Start { container: "httpd", attempt: 0 }]
               Running (running); true: PodReadyToStartContainers Initialized PodScheduled
       turn 3: []

    7. the image becomes layers, layers become a root
       image "pintle.example/busybox:1": repository pintle.example/busybox, tag 1
       ("busybox" alone would mean docker.io/library/busybox:latest)
       layer 0, sha256:a72fb295…, is unpacked once, as chain sha256:a72fb295…
       layer 1, sha256:0d816eb6…, is unpacked once, as chain sha256:e3aa0e06…
       mount -t overlay, options:
         lowerdir=/var/lib/pintle/agent/images/layers/e3aa0e06…/fs:/var/lib/pintle/agent/images/layers/a72fb295…/fs
         upperdir=/var/lib/pintle/agent/images/snapshots/httpd-0/upper
         workdir=/var/lib/pintle/agent/images/snapshots/httpd-0/work
         volatile
       (2 ways in all; the next is tried if the kernel knows no "volatile")

    8. the container becomes an OCI spec, then a script of system calls
       args: "/bin/sh", "-c",
         "mkdir -p /www\necho \"$POD_NAME\" > /www/index.html\nexec /bin/busybox httpd -f -p 8080 -h /www\n"
       env: PATH=/bin, HOSTNAME=web-5c44f9b969-h8cgk, HOME=/root, WEB_SERVICE_HOST=10.43.0.10, WEB_SERVICE_PORT=80,
         WEB_SERVICE_PORT_HTTP=80, WEB_PORT=tcp://10.43.0.10:80, WEB_PORT_80_TCP=tcp://10.43.0.10:80,
         WEB_PORT_80_TCP_PROTO=tcp, WEB_PORT_80_TCP_PORT=80, WEB_PORT_80_TCP_ADDR=10.43.0.10,
         POD_NAME=web-5c44f9b969-h8cgk
       cgroup: /pintle/kubepods/burstable/pod00000000-0000-4000-8000-000000000005/httpd-0
       memory limit 32 MiB, cpu shares 10
       namespaces of its own (net, ipc and uts are the pod's): mnt, pid, cgroup
       mounts: /proc, /dev, /dev/pts, /dev/mqueue, /sys, /sys/fs/cgroup, /dev/shm, /etc/hosts, /etc/hostname,
         /etc/resolv.conf, /dev/termination-log
       the parent, before clone3: open /proc, open a path of the host ×3, copy a mount of the host ×6,
         set mount attributes ×10
       clone3 with flags 0x20020000 (mnt, pid): the child is born in its cgroup
       the child, 120 steps, by sort: wait for the parent, become not dumpable, run on all cpus of the cgroup,
         make namespaces 0x2000000, start a session, join session keyring "_ses.httpd-0",
         set the propagation of / to 0x84000, set mount attributes, attach the root file system,
         open a real directory beneath the root ×2, make proc, see that it covers nothing in /proc ×11,
         attach a mount there ×11, close a descriptor ×23, open a path beneath the root ×8, make tmpfs,
         make a directory in a tmpfs of our own ×2, make devpts, make mqueue, make sysfs, make cgroup2,
         see that nothing covers that tmpfs, make a device ×6, make a symlink ×6, pivot_root, place stdio,
         open the container's /dev/null for stdio, give stdio to uid 0, set umask 022,
         make a path of /proc read-only ×5, hide a path ×11, chdir to cwd ("/") set in config.json ×2,
         set bounding capabilities 0xa80425fb, keep capabilities, set groups [], set gid 0, set uid 0,
         see that the working directory is in the root, set capabilities 0xa80425fb, find the program,
         report readiness, wait at exec.fifo, reset signals, close descriptors from 3
       and then: exec /bin/sh

    9. the child walks that script and execs
       a kernel that grants everything: 120 steps, then exec
       a kernel that refuses a mount: the child writes (12, EPERM) to its pipe and ends;
         the parent looks step 12 up: cannot mount on "/proc": EPERM

    10. status goes back; endpoints appear
       [22] kubelet: put pods/status web-5c44f9b969-h8cgk: 10.42.0.2
       [23] kubelet: put pods/status web-5c44f9b969-jfq4f: 10.42.0.3
       [24] kubelet: put pods/status web-5c44f9b969-kl6p9: 10.42.0.4
       [25] endpoint-slice-controller: create endpointslices.discovery.k8s.io web-n6dls
         endpoints, port [8080]: 10.42.0.2 ready=false, 10.42.0.3 ready=false, 10.42.0.4 ready=false
       the readiness probe, GET :8080/, succeeds in all three
       [26] kubelet: put pods/status web-5c44f9b969-h8cgk: 10.42.0.2
       [27] kubelet: put pods/status web-5c44f9b969-jfq4f: 10.42.0.3
       [28] kubelet: put pods/status web-5c44f9b969-kl6p9: 10.42.0.4
       [29] endpoint-slice-controller: put endpointslices.discovery.k8s.io web-n6dls
         endpoints, port [8080]: 10.42.0.2 ready=true, 10.42.0.3 ready=true, 10.42.0.4 ready=true
       [30] replicaset-controller: put replicasets.apps/status web-5c44f9b969
       [31] deployment-controller: put deployments.apps/status web
       kubectl get pods         web-5c44f9b969-h8cgk  1/1  Running  0
       kubectl get deployments  web  3/3  3  3

    11. endpoints become rules
       (keys are bytes: 0a2b000a is 10.43.0.10, 06 is TCP, 0050 is port 80, then the number of the endpoint)
       a Service nobody serves yet:
         add element ip pintle service-ips { 0x0a2b000a0600000000500000 : goto refuse }

         # when packets under way have left
         add element ip pintle unused-ports { 0x0a2b000a }
       10.42.0.9 (a pod) → 10.43.0.10:80 → REJECT
       its pods are ready:
         add chain ip pintle cluster-3
         add rule ip pintle cluster-3 ip saddr & 255.255.0.0 != 10.42.0.0 meta mark set meta mark & 0xffffbfff ^ 0x00004000
         add rule ip pintle cluster-3 dnat to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints
         add rule ip pintle cluster-3 drop

         add element ip pintle endpoints { 0x0a2b000a060000000050000000000000 : 0x0a2a00021f900000 }
         add element ip pintle endpoints { 0x0a2b000a060000000050000001000000 : 0x0a2a00031f900000 }
         add element ip pintle endpoints { 0x0a2b000a060000000050000002000000 : 0x0a2a00041f900000 }
         add element ip pintle hairpin { 0x0a2a00020a2a0002 }
         add element ip pintle hairpin { 0x0a2a00030a2a0003 }
         add element ip pintle hairpin { 0x0a2a00040a2a0004 }
         replace element ip pintle service-ips { 0x0a2b000a0600000000500000 : goto cluster-3 }
       10.42.0.9 (a pod) → 10.43.0.10:80 → 10.42.0.2:8080 | 10.42.0.3:8080 | 10.42.0.4:8080
       10.42.0.2 (one of its own pods) → 10.43.0.10:80 → 10.42.0.2:8080 masqueraded | 10.42.0.3:8080 | 10.42.0.4:8080
       192.0.2.7 (another machine) → 10.43.0.10:80 → 10.42.0.2:8080 masqueraded | 10.42.0.3:8080 masqueraded | 10.42.0.4:8080 masqueraded
       10.42.0.9 (a pod) → 10.43.0.10:81 → REJECT
    "#);
}
