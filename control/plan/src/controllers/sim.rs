//! A small world for tests: an API server's rules over a map, the driver's loop, and a kubelet that needs no node.
//!
//! It behaves where controllers can tell: revisions, uids, generation, preconditions, finalizers, graceful deletion.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    Action, Answer, Answers, Config, Controller, CsrSubject, Key, KindRef, MetaOnly, Name, Note, Object, Part, Plan,
    Propagation, Question, Scoped, Snapshot, View, Write, encode,
};
use crate::kind::ApiObject;

type Decode = fn(Value) -> Arc<dyn Object>;

fn typed<T: ApiObject>(value: Value) -> Arc<dyn Object> {
    Arc::new(serde_json::from_value::<T>(value).unwrap())
}

fn meta_only(value: Value) -> Arc<dyn Object> {
    Arc::new(MetaOnly(serde_json::from_value(value["metadata"].clone()).unwrap()))
}

const TYPED: &[(KindRef, Decode)] = crate::typed_kinds!(typed);

/// The world.
pub struct Sim {
    pub snapshot: Snapshot,
    pub config: Config,
    pub now: Timestamp,
    /// What happened, one line each.
    pub log: Vec<String>,
    /// What certificate requests say, by their bytes.
    pub requests: BTreeMap<Vec<u8>, CsrSubject>,
    store: BTreeMap<Key, Value>,
    loops: Vec<&'static dyn Controller>,
    marked: BTreeSet<(usize, Key)>,
    seen: BTreeSet<(usize, Key)>,
    timers: BTreeMap<(usize, Key), Timestamp>,
    revision: u64,
    uids: u64,
}

impl Sim {
    pub fn new(loops: &[&'static dyn Controller]) -> Sim {
        let mut snapshot = Snapshot::default();
        TYPED.iter().for_each(|(kind, _)| snapshot.register(*kind));
        Sim {
            snapshot,
            config: Config::default(),
            now: "2026-07-01T00:00:00Z".parse().unwrap(),
            log: Vec::new(),
            requests: BTreeMap::new(),
            store: BTreeMap::new(),
            loops: loops.to_vec(),
            marked: BTreeSet::new(),
            seen: BTreeSet::new(),
            timers: BTreeMap::new(),
            revision: 0,
            uids: 0,
        }
    }

    /// A user's create, from JSON.
    pub fn create<T: ApiObject>(&mut self, object: Value) -> T
    where
        T::Scope: Scoped,
    {
        let object: T = serde_json::from_value(object).unwrap();
        let key = self.post(KindRef::of::<T>(), encode(&object)).unwrap();
        self.get(&key)
    }

    pub fn get<T: ApiObject>(&self, key: &Key) -> T {
        serde_json::from_value(self.store[key].clone()).unwrap()
    }

    pub fn find<T: ApiObject>(&self, namespace: &str, name: &str) -> Option<T>
    where
        T::Scope: Scoped,
    {
        let key = Key::new(KindRef::of::<T>(), Name::new(namespace, name));
        self.store.get(&key).map(|v| serde_json::from_value(v.clone()).unwrap())
    }

    pub fn list<T: ApiObject>(&self) -> Vec<T>
    where
        T::Scope: Scoped,
    {
        let of_kind = self.store.iter().filter(|(k, _)| k.kind == KindRef::of::<T>());
        of_kind.map(|(_, v)| serde_json::from_value(v.clone()).unwrap()).collect()
    }

    /// A user's or kubelet's edit.
    pub fn edit<T: ApiObject>(&mut self, namespace: &str, name: &str, edit: impl FnOnce(&mut T))
    where
        T::Scope: Scoped,
    {
        let key = Key::new(KindRef::of::<T>(), Name::new(namespace, name));
        let mut object: T = self.get(&key);
        edit(&mut object);
        self.replace(&key, encode(&object));
    }

    /// A user's delete.
    pub fn delete<T: ApiObject>(&mut self, namespace: &str, name: &str, propagation: Option<Propagation>)
    where
        T::Scope: Scoped,
    {
        let key = Key::new(KindRef::of::<T>(), Name::new(namespace, name));
        self.remove(&key, propagation);
    }

    pub fn advance(&mut self, by_s: i64) {
        self.now += SignedDuration::from_secs(by_s);
        let due: Vec<_> = self.timers.iter().filter(|(_, at)| **at <= self.now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.timers.remove(&id);
            self.marked.insert(id);
        }
    }

    /// Takes and clears the log.
    pub fn told(&mut self) -> String {
        std::mem::take(&mut self.log).join("\n")
    }

    /// Runs controllers until nothing is marked, then checks that planning anything again yields nothing.
    pub fn settle(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 2000, "does not settle; last: {:#?}", &self.log[self.log.len().saturating_sub(10)..]);
        }
        for (at, key) in self.seen.clone() {
            let (plan, _) = self.plan(at, &key);
            assert!(plan.is_quiet(), "{} plans again for {key:?}: {plan:#?}", self.loops[at].name());
        }
    }

    /// One key of one controller. False if there was none.
    pub fn step(&mut self) -> bool {
        self.step_nth(0)
    }

    /// At most so many keys: for plans that ask to be called again until something outside happens.
    pub fn steps(&mut self, most: usize) {
        for _ in 0..most {
            if !self.step() {
                return;
            }
        }
    }

    /// The n-th marked key: tests of order choose at random.
    pub fn step_nth(&mut self, n: usize) -> bool {
        let count = self.marked.len();
        let Some((at, key)) = self.marked.iter().nth(n % count.max(1)).cloned() else { return false };
        self.marked.remove(&(at, key.clone()));
        self.seen.insert((at, key.clone()));
        let (plan, _) = self.plan(at, &key);
        if let Some(wake) = plan.requeue_at {
            self.timers.insert((at, key.clone()), wake);
        }
        plan.events.iter().for_each(|n| self.note(at, n, ""));
        if !plan.writes.is_empty() {
            self.marked.insert((at, key));
        }
        for write in &plan.writes {
            if !self.apply(at, write) {
                break;
            }
        }
        true
    }

    pub fn plan(&self, at: usize, key: &Key) -> (Plan, Answers) {
        let mut answers = Answers::new();
        loop {
            let view = View {
                snapshot: &self.snapshot,
                config: &self.config,
                answers: &answers,
                failure: None,
                now: self.now,
            };
            let open: Vec<_> =
                self.loops[at].ask(key, &view).into_iter().filter(|q| !answers.contains_key(q)).collect();
            if open.is_empty() {
                return (self.loops[at].plan(key, &view), answers);
            }
            answers.extend(open.into_iter().map(|q| (q.clone(), self.answer(&q))));
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Read(key) => Answer::Object(self.store.get(key).cloned()),
            Question::Count(kind, namespace) => {
                Answer::Count(self.store.keys().filter(|k| k.kind == *kind && k.name.namespace == *namespace).count())
            }
            Question::Csr(pem) => Answer::Csr(self.requests.get(pem).cloned()),
        }
    }

    fn note(&mut self, at: usize, note: &Note, name: &str) {
        let message = note.message.replace("{name}", name);
        let line =
            format!("{}: event {:?} {} {}: {message}", self.loops[at].name(), note.kind, note.reason, note.about.name);
        self.log.push(line);
    }

    fn apply(&mut self, at: usize, write: &Write) -> bool {
        let who = self.loops[at].name();
        let result = self.send(&write.action);
        match &result {
            Ok(line) => self.log.push(format!("{who}: {line}")),
            Err(why) => self.log.push(format!("{who}: refused: {why}")),
        }
        let name = result.as_deref().ok().and_then(|l| l.rsplit('/').next()).unwrap_or_default().to_owned();
        let note = if result.is_ok() { &write.done } else { &write.failed };
        if let Some(note) = note.clone() {
            self.note(at, &note, &name);
        }
        result.is_ok()
    }

    fn send(&mut self, action: &Action) -> Result<String, String> {
        match action {
            Action::Create { kind, object } => {
                self.post(*kind, object.clone()).map(|k| format!("create {kind} {}", k.name))
            }
            Action::Put { kind, part, object } => {
                let key = Key::new(*kind, name_in(object));
                self.put(&key, *part, object)?;
                let below = if part.segment().is_empty() { String::new() } else { format!("/{}", part.segment()) };
                Ok(format!("put {kind}{below} {}", key.name))
            }
            Action::Patch { kind, name, part, patch } => {
                let key = Key::new(*kind, name.clone());
                let mut object = self.store.get(&key).cloned().ok_or(format!("{key:?} not found"))?;
                for field in ["uid", "resourceVersion"] {
                    let wanted = &patch["metadata"][field];
                    if !wanted.is_null() && *wanted != object["metadata"][field] {
                        return Err(format!("patch {kind} {name}: {field} differs"));
                    }
                }
                merge(&mut object, patch);
                self.put(&key, *part, &object)?;
                Ok(format!("patch {kind} {name} {}", shown(patch)))
            }
            Action::Delete { kind, name, uid, propagation, grace_s, .. } => {
                let key = Key::new(*kind, name.clone());
                if self.store.get(&key).is_some_and(|o| o["metadata"]["uid"] != json!(uid)) {
                    return Err(format!("delete {kind} {name}: uid differs"));
                }
                self.remove(&key, *propagation);
                if let Some(mut held) = self.store.get(&key).cloned().filter(|_| *grace_s == Some(0)) {
                    held["metadata"]["deletionGracePeriodSeconds"] = json!(0);
                    self.replace(&key, held);
                }
                Ok(format!("delete {kind} {name}"))
            }
            Action::DeleteAll { kind, namespace } => {
                let all = self.store.keys().filter(|k| k.kind == *kind && k.name.namespace == *namespace);
                for key in all.cloned().collect::<Vec<_>>() {
                    self.remove(&key, Some(Propagation::Background));
                }
                Ok(format!("delete all {kind} in {namespace}"))
            }
            Action::Bind { name, uid, node } => {
                let key = Key::new(KindRef::of::<Pod>(), name.clone());
                let mut object = self.store.get(&key).cloned().ok_or("pod not found")?;
                if object["metadata"]["uid"] != json!(uid) || !object["spec"]["nodeName"].is_null() {
                    return Err(format!("bind {name}: already bound"));
                }
                object["spec"]["nodeName"] = json!(node);
                self.replace(&key, object);
                Ok(format!("bind {name} to {node}"))
            }
            Action::Sign { object, ttl_s, usage } => {
                let key = Key::new(KindRef::of::<CertificateSigningRequest>(), name_in(object));
                let mut object = object.clone();
                object["status"]["certificate"] = json!("Q0VSVA==");
                self.put(&key, Part::Status, &object)?;
                Ok(format!("sign {} for {ttl_s}s as {usage:?}", key.name))
            }
        }
    }

    fn post(&mut self, kind: KindRef, mut object: Value) -> Result<Key, String> {
        self.uids += 1;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            meta["name"] = json!(format!("{}{:05}", meta["generateName"].as_str().unwrap(), self.uids));
        }
        if kind.namespaced && meta["namespace"].is_null() {
            meta["namespace"] = json!("default");
        }
        meta["uid"] = json!(format!("u{}", self.uids));
        meta["generation"] = json!(1);
        meta["creationTimestamp"] = json!(self.now);
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        let key = Key::new(kind, name_in(&object));
        if self.store.contains_key(&key) {
            return Err(format!("create {kind} {}: already exists", key.name));
        }
        self.replace(&key, object);
        Ok(key)
    }

    fn put(&mut self, key: &Key, part: Part, wanted: &Value) -> Result<(), String> {
        let old = self.store.get(key).cloned().ok_or(format!("{key:?} not found"))?;
        if wanted["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(format!("put {key:?}: stale revision"));
        }
        let new = match part {
            Part::Main | Part::Finalize => {
                let mut new = wanted.clone();
                if !old["status"].is_null() {
                    new["status"] = old["status"].clone();
                }
                new
            }
            Part::Status | Part::Approval => {
                let mut new = old.clone();
                new["status"] = wanted["status"].clone();
                new
            }
        };
        self.replace(key, new);
        Ok(())
    }

    /// Stores an object, counting revision and generation; lets it go if nothing holds it any more.
    pub fn replace(&mut self, key: &Key, mut object: Value) {
        let old = self.store.get(key);
        if old == Some(&object) {
            return;
        }
        if let Some(old) = old
            && old["spec"] != object["spec"]
        {
            object["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let held = |v: &Value| v.as_array().is_some_and(|l| !l.is_empty());
        let is_held = held(&object["metadata"]["finalizers"])
            || (key.kind.kind == "Namespace" && held(&object["spec"]["finalizers"]))
            || (key.kind.kind == "Pod" && object["metadata"]["deletionGracePeriodSeconds"].as_i64() > Some(0));
        if !object["metadata"]["deletionTimestamp"].is_null() && !is_held {
            self.store.remove(key);
            self.tell(key.clone(), None);
            return;
        }
        self.store.insert(key.clone(), object.clone());
        let decode = TYPED.iter().find(|(k, _)| *k == key.kind).map_or(meta_only as Decode, |(_, d)| *d);
        self.tell(key.clone(), Some(decode(object)));
    }

    fn tell(&mut self, key: Key, new: Option<Arc<dyn Object>>) {
        let Some(change) = self.snapshot.set(key, new) else { return };
        for (at, each) in self.loops.iter().enumerate() {
            self.marked.extend(each.keys(&change, &self.snapshot).into_iter().map(|k| (at, k)));
        }
    }

    fn remove(&mut self, key: &Key, propagation: Option<Propagation>) {
        let Some(mut object) = self.store.get(key).cloned() else { return };
        let meta = &mut object["metadata"];
        let mut finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
        match propagation {
            Some(Propagation::Foreground) => finalizers.push(json!("foregroundDeletion")),
            Some(Propagation::Orphan) => finalizers.push(json!("orphan")),
            Some(Propagation::Background) | None => {}
        }
        finalizers.dedup();
        meta["finalizers"] = json!(finalizers);
        if meta["deletionTimestamp"].is_null() {
            meta["deletionTimestamp"] = json!(self.now);
            let graceful = key.kind.kind == "Pod" && !object["spec"]["nodeName"].is_null();
            object["metadata"]["deletionGracePeriodSeconds"] = json!(if graceful { 30 } else { 0 });
        }
        self.replace(key, object);
    }

    /// Every bound pod runs and is ready; every pod being deleted ends.
    pub fn kubelet(&mut self) {
        for pod in self.list::<Pod>() {
            self.kubelet_one(&pod);
        }
    }

    /// The kubelet's work for one pod.
    pub fn kubelet_one(&mut self, pod: &Pod) {
        let key = Key::new(KindRef::of::<Pod>(), super::name_of(&pod.metadata));
        let Some(mut object) = self.store.get(&key).cloned() else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            if object["status"]["phase"] == json!("Running") {
                object["status"]["phase"] = json!("Succeeded");
            }
            self.replace(&key, object);
        } else if super::pods::node(pod).is_some() && super::pods::phase(pod).is_empty() {
            let number: String = key.name.name.chars().filter(char::is_ascii_digit).collect();
            let last = number.parse::<u64>().unwrap_or(0) % 250 + 1;
            object["status"] = json!({
                "phase": "Running", "podIP": format!("10.42.0.{last}"), "podIPs": [{"ip": format!("10.42.0.{last}")}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self.now}],
            });
            self.replace(&key, object);
        }
    }

    /// Lets controllers and kubelet work until both are done.
    pub fn live(&mut self) {
        for _ in 0..50 {
            let before = self.revision;
            self.settle();
            self.kubelet();
            if self.revision == before {
                return;
            }
        }
        panic!("does not come to rest: {:#?}", &self.log[self.log.len().saturating_sub(10)..]);
    }
}

fn name_in(object: &Value) -> Name {
    let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    Name::new(word("namespace"), word("name"))
}

/// A patch without its preconditions, for the log.
fn shown(patch: &Value) -> String {
    let mut patch = patch.clone();
    if let Some(meta) = patch["metadata"].as_object_mut() {
        meta.remove("uid");
        meta.remove("resourceVersion");
    }
    if patch["metadata"] == json!({}) || patch["metadata"].is_null() {
        patch.as_object_mut().unwrap().remove("metadata");
    }
    patch.to_string()
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut into[name.as_str()], value);
        }
    }
}

/// A node with room.
pub fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    })
}

/// A Deployment of one container.
pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]},
            },
        },
    })
}
