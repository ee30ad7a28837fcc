//! Kill -9 of every one of our processes, at random moments, under a changing workload: afterwards the cluster converges,
//! nothing runs twice, and `pintle down` leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its own output has failed")]

use std::process::Output;
use std::time::Duration;

use pintle_testkit::{BUSYBOX_IMAGE, Cluster, eventually};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// How many processes are killed. Each round kills one and changes the workload.
const ROUNDS: u32 = 16;

fn deployment(replicas: u32, round: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}, annotations: {{round: '{round}'}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {BUSYBOX_IMAGE}
        command: [sh, -c, 'mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.43.0.80, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

struct Story {
    cluster: Cluster,
    random: StdRng,
}

impl Story {
    fn kubectl(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = self.cluster.kubectl("v1.37");
        command.args(args);
        pintle_testkit::feed(command, stdin)
    }

    /// Applies until the API server (which may be coming back) takes it.
    fn apply(&self, replicas: u32, round: u32) {
        let manifest = deployment(replicas, round);
        eventually("apply is accepted", Duration::from_secs(60), || {
            self.kubectl(&["apply", "-f", "-"], &manifest).status.success().then_some(())
        });
    }

    /// One of our processes dies. A dead monitor is what a person would answer with `pintle up`.
    fn kill_one(&mut self) {
        let processes = self.cluster.processes();
        let (name, pid) = processes.choose(&mut self.random).unwrap().clone();
        println!("kill -9 {name} ({pid})");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        std::thread::sleep(Duration::from_millis(self.random.random_range(0..700)));
        if name == "monitor" {
            self.cluster.up();
        }
    }

    /// The wanted state is reached: so many ready pods, each answering on the virtual IP, and a supervisor for each.
    fn converged(&self, replicas: u32) {
        let status = self.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"], "");
        assert!(status.status.success(), "{}", self.report());
        let names = eventually("only the wanted pods are left", Duration::from_secs(60), || {
            let output = self.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"], "");
            let names: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
            (output.status.success() && names.len() == replicas as usize).then_some(names)
        });
        let shims = eventually("one supervisor per pod", Duration::from_secs(30), || {
            let count = self.cluster.processes().iter().filter(|(name, _)| name == "shim").count();
            (count == names.len()).then_some(count)
        });
        assert_eq!(shims, names.len());
        for name in names {
            let pod = name.trim_start_matches("pod/").to_owned();
            eventually("every pod answers on the virtual IP", Duration::from_secs(30), || {
                let page = self.cluster.command("curl").args(["-sS", "-m", "2", "http://10.43.0.80/"]).output().ok()?;
                (String::from_utf8_lossy(&page.stdout).trim() == pod).then_some(())
            });
        }
    }

    fn report(&self) -> String {
        let pods = self.kubectl(&["get", "pods,events", "-o", "wide"], "");
        format!("{}{}", String::from_utf8_lossy(&pods.stdout), self.cluster.logs())
    }
}

#[test]
fn the_cluster_converges_after_any_process_was_killed_and_leaves_nothing_when_it_goes() {
    if !pintle_testkit::require_root("killing processes of a whole cluster") {
        return;
    }
    let seed = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("CRASH_SEED={seed}");
    let mut story = Story { cluster: Cluster::start(), random: StdRng::seed_from_u64(seed) };
    story.apply(3, 0);
    story.converged(3);
    for round in 1..=ROUNDS {
        let replicas = story.random.random_range(1..=5);
        if story.random.random_bool(0.5) {
            story.apply(replicas, round / 3);
        }
        story.kill_one();
    }
    story.cluster.up();
    story.apply(3, ROUNDS);
    story.converged(3);
    story.cluster.down();
}
