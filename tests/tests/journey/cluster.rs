//! The controllers' and the scheduler's loop: a watch feeds the caches, a change marks keys, a key is planned, the plan
//! is sent to the API. Owns that loop in its simplest form; `control/src/controllers` has it with queues and back-off.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_control_plan::controllers::{
    Action, Answer, Answers, Config, Controller, Key, KindRef, Name, Note, Object, Part, Plan, Question, Scoped,
    Snapshot, View, Write, deployment, endpointslice, replicaset,
};
use pintle_control_plan::kind::ApiObject;
use pintle_control_plan::scheduler;
use pintle_control_plan::strategy::Target;
use pintle_store::{Event, Revision, Store, Watch};
use serde_json::{Value, json};

use crate::api::Api;
use crate::tale::Tale;

const LOOPS: &[&dyn Controller] =
    &[&deployment::Deployments, &replicaset::ReplicaSets, scheduler::SCHEDULER, &endpointslice::EndpointSlices];

/// Longer lines are broken before the Event.
const LINE_CHARS: usize = 125;

type Decode = fn(&[u8]) -> Arc<dyn Object>;

fn typed<T: ApiObject>(json: &[u8]) -> Arc<dyn Object> {
    Arc::new(serde_json::from_slice::<T>(json).unwrap())
}

/// By the beginning of their keys in the store.
const CACHED: &[(&str, KindRef, Decode)] = &[
    ("apps/deployments/", KindRef::of::<Deployment>(), typed::<Deployment>),
    ("apps/replicasets/", KindRef::of::<ReplicaSet>(), typed::<ReplicaSet>),
    ("core/nodes/", KindRef::of::<Node>(), typed::<Node>),
    ("core/pods/", KindRef::of::<Pod>(), typed::<Pod>),
    ("core/services/", KindRef::of::<Service>(), typed::<Service>),
    ("discovery.k8s.io/endpointslices/", KindRef::of::<EndpointSlice>(), typed::<EndpointSlice>),
];

/// An API server, the caches that follow it, and what is to be planned.
pub struct Cluster {
    pub api: Api,
    pub snapshot: Snapshot,
    watch: Watch,
    marked: BTreeSet<(usize, Key)>,
}

impl Cluster {
    pub fn new(now: Timestamp) -> Cluster {
        let api = Api::new(now);
        let watch = api.store.watch("", Revision(1)).unwrap();
        let mut snapshot = Snapshot::default();
        CACHED.iter().for_each(|(_, kind, _)| snapshot.register(*kind));
        Cluster { api, snapshot, watch, marked: BTreeSet::new() }
    }

    /// Takes in what the watch has to say, and says it.
    pub fn hear(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(event) = self.watch.ready() {
            let word = if event.previous.is_some() { "MODIFIED" } else { "ADDED" };
            told.push(format!("[{}] {word} {}", event.revision, event.key));
            self.take(&event);
        }
        told
    }

    fn take(&mut self, event: &Event) {
        let (_, kind, decode) = CACHED.iter().find(|(prefix, ..)| event.key.starts_with(prefix)).unwrap();
        let object = decode(&event.bytes);
        let key = Key::new(*kind, pintle_control_plan::controllers::name_of(object.meta()));
        let change = self.snapshot.set(key, Some(object)).unwrap();
        for (at, each) in LOOPS.iter().enumerate() {
            self.marked.extend(each.keys(&change, &self.snapshot).into_iter().map(|k| (at, k)));
        }
    }

    /// Lets the named loops work until they have nothing left to do.
    pub fn run(&mut self, tale: &mut Tale, names: &[&str]) {
        assert!(names.iter().all(|name| LOOPS.iter().any(|each| each.name() == *name)), "{names:?}");
        for _ in 0..100 {
            self.hear();
            let Some(next) = self.marked.iter().find(|(at, _)| names.contains(&LOOPS[*at].name())).cloned() else {
                return;
            };
            self.marked.remove(&next);
            let plan = self.plan(next.0, &next.1);
            if !plan.writes.is_empty() {
                self.marked.insert(next.clone());
            }
            for write in plan.writes {
                self.apply(tale, LOOPS[next.0].name(), write);
            }
        }
        panic!("the loops {names:?} do not come to rest:\n{}", tale.text);
    }

    fn plan(&self, at: usize, key: &Key) -> Plan {
        let (config, mut answers) = (Config::default(), Answers::new());
        loop {
            let (snapshot, now) = (&self.snapshot, self.api.now);
            let view = View { snapshot, config: &config, answers: &answers, failure: None, now };
            let asked = LOOPS[at].ask(key, &view);
            let open: Vec<_> = asked.into_iter().filter(|q| !answers.contains_key(q)).collect();
            if open.is_empty() {
                return LOOPS[at].plan(key, &view);
            }
            answers.extend(open.into_iter().map(|q| (q.clone(), self.answer(&q))));
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Read(key) => Answer::Object(self.api.get(key.kind, &key.name)),
            Question::Count(kind, space) => {
                Answer::Count(self.snapshot.keys(*kind).filter(|key| key.name.namespace == *space).count())
            }
            Question::Csr(_) => Answer::Csr(None),
        }
    }

    fn apply(&mut self, tale: &mut Tale, who: &str, write: Write) {
        let (what, name, revision) = self.send(write.action);
        let Some(revision) = revision else { return };
        let mut line = format!("[{revision}] {who}: {what} {name}");
        if let Some(note) = write.done.map(|note| told(&note, &name)) {
            line += if line.len() + note.len() < LINE_CHARS { " – " } else { "\n     " };
            line += &note;
        }
        tale.say(line);
    }

    /// Sends one planned request; answers what it was, about which object, and the revision it made.
    fn send(&mut self, action: Action) -> (String, String, Option<Revision>) {
        match action {
            Action::Create { kind, object } => {
                let made = self.api.create(&object).unwrap();
                (format!("create {kind}"), made.name, Some(made.revision))
            }
            Action::Put { kind, part, object } => {
                let name = name_in(&object);
                let revision = self.api.change(kind, &name, target(part), |old| *old = object).unwrap();
                (format!("put {}", path(kind, part)), name.name, revision)
            }
            Action::Patch { kind, name, part, patch } => {
                let merge = |old: &mut Value| pintle_api::patch::merge(old, &patch).unwrap();
                let revision = self.api.change(kind, &name, target(part), merge).unwrap();
                (format!("patch {}", path(kind, part)), name.name, revision)
            }
            Action::Bind { name, uid, node } => {
                let bind = |pod: &mut Value| {
                    assert_eq!(pod["metadata"]["uid"], json!(uid));
                    pod["spec"]["nodeName"] = json!(node);
                };
                let revision = self.api.change(KindRef::of::<Pod>(), &name, Target::Whole, bind).unwrap();
                ("bind".to_owned(), name.name, revision)
            }
            Action::Delete { .. } | Action::DeleteAll { .. } | Action::Sign { .. } => {
                panic!("nothing is deleted or signed on this journey")
            }
        }
    }

    /// All objects of a type.
    pub fn list<T: ApiObject>(&self) -> Vec<T>
    where
        T::Scope: Scoped,
    {
        self.snapshot.list::<T>().cloned().collect()
    }
}

fn told(note: &Note, name: &str) -> String {
    format!("{}: {}", note.reason, note.message.replace("{name}", name))
}

fn target(part: Part) -> Target {
    match part {
        Part::Main => Target::Main,
        Part::Status => Target::Status,
        Part::Approval | Part::Finalize => Target::Whole,
    }
}

fn path(kind: KindRef, part: Part) -> String {
    if part.segment().is_empty() { kind.to_string() } else { format!("{kind}/{}", part.segment()) }
}

fn name_in(object: &Value) -> Name {
    let word = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Name::new(word("namespace"), word("name"))
}
