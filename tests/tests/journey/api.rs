//! An API server without HTTP: the real decoding, defaults and rules, the real store in its forgetful form.
//!
//! Owns: the order of a write, as `control/src/serve/write.rs` has it. Fakes the edges: uids and name suffixes are
//! counted, the time stands still, and of admission only the Service's address is left.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use pintle_control_plan::controllers::{KindRef, Name};
use pintle_control_plan::registry::{self, DynKind, Object};
use pintle_control_plan::strategy::{self, Target};
use pintle_store::{Change, Expect, FakeStore, Op, Revision, Store, Value as Bytes};
use serde_json::{Value, json};

/// Where Services' addresses come from in this story.
pub const SERVICE_IP: &str = "10.43.0.10";
/// A word no object contains: where it stands the store writes the revision.
const MARK: &str = "@revision@";

/// See the module.
pub struct Api {
    pub store: FakeStore,
    pub now: Timestamp,
    made: u8,
}

/// What became of a request to create.
pub struct Created {
    pub name: String,
    pub revision: Revision,
    /// `path = value` of every field Kubernetes filled in.
    pub filled: Vec<String>,
}

type Answer<T> = Result<T, Box<Status>>;

impl Api {
    pub fn new(now: Timestamp) -> Api {
        Api { store: FakeStore::default(), now, made: 0 }
    }

    /// POST. The error is the answer a client would get.
    pub fn create(&mut self, wanted: &Value) -> Answer<Created> {
        let word = |field: &str| wanted[field].as_str().unwrap_or_default();
        let kind = registry::by_kind(word("apiVersion"), word("kind")).unwrap();
        let mut object = kind.decode_request(wanted.to_string().as_bytes())?.object;
        self.made += 1;
        let n = self.made;
        if let (None, Some(prefix)) = (&object.metadata().name, object.metadata().generate_name.clone()) {
            let random = [n, n.wrapping_mul(5), n.wrapping_mul(11), n.wrapping_mul(17), n.wrapping_mul(23)];
            object.metadata_mut().name = Some(strategy::generated_name(&prefix, random));
        }
        let uid = format!("00000000-0000-4000-8000-{n:012}");
        strategy::fill_new(&mut *object, Some("default"), &uid, self.now);
        let before = json_of(&*object);
        object.default();
        let filled = added("", &before, &json_of(&*object));
        admit(&mut *object);
        object.default();
        strategy::prepare_create(&mut *object);
        strategy::validate_create(&*object)?;
        let name = object.metadata().name.clone().unwrap();
        let key = key(kind, object.metadata().namespace.as_deref(), &name);
        let revision = self.commit(key, Expect::Absent, object);
        Ok(Created { name, revision, filled })
    }

    /// PUT or PATCH: `edit` makes what is wanted of what is there. None if nothing changed.
    pub fn change(
        &mut self,
        kind: KindRef,
        name: &Name,
        target: Target,
        edit: impl FnOnce(&mut Value),
    ) -> Answer<Option<Revision>> {
        let kind = registry::by_resource(kind.group, kind.version, kind.plural).unwrap();
        let key = key(kind, Some(&name.namespace), &name.name);
        let entry = self.store.get(&key).unwrap();
        let old = kind.decode(&entry.bytes).unwrap();
        let mut wanted = json_of(&*old);
        edit(&mut wanted);
        let mut new = kind.decode_request(wanted.to_string().as_bytes())?.object;
        let current = old.metadata().resource_version.clone();
        if new.metadata().resource_version.is_some() && new.metadata().resource_version != current {
            return Err(pintle_api::status::stale(kind.about(&name.name)));
        }
        new.default();
        strategy::prepare_update(&mut *new, &*old, target)?;
        strategy::validate_update(&*new, &*old, target)?;
        new.metadata_mut().resource_version = current;
        Ok((!new.equals(&*old)).then(|| self.commit(key, Expect::At(entry.modified), new)))
    }

    /// GET.
    pub fn get(&self, kind: KindRef, name: &Name) -> Option<Value> {
        let kind = registry::by_resource(kind.group, kind.version, kind.plural).unwrap();
        let entry = self.store.get(&key(kind, Some(&name.namespace), &name.name))?;
        Some(serde_json::from_slice(&entry.bytes).unwrap())
    }

    /// What `kubectl get` shows of an object: its first cells.
    pub fn row(&self, kind: KindRef, name: &Name, cells: usize) -> String {
        let object = serde_json::to_vec(&self.get(kind, name).unwrap()).unwrap();
        let kind = registry::by_resource(kind.group, kind.version, kind.plural).unwrap();
        let row = kind.decode(&object).unwrap().row(self.now);
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        row.iter().take(cells).map(text).collect::<Vec<_>>().join("  ")
    }

    fn commit(&mut self, key: Arc<str>, expect: Expect, mut object: Box<dyn Object>) -> Revision {
        object.metadata_mut().resource_version = Some(MARK.to_owned());
        let text = String::from_utf8(object.encode_stored()).unwrap();
        let at = text.find(MARK).unwrap();
        let value = Bytes { bytes: text.replacen(MARK, "", 1).into(), stamp_at: Some(at) };
        self.store.commit(vec![Op { key, expect, change: Change::Put(value) }]).wait().unwrap().revision
    }
}

fn json_of(object: &dyn Object) -> Value {
    serde_json::from_slice(&object.encode()).unwrap()
}

fn key(kind: &dyn DynKind, namespace: Option<&str>, name: &str) -> Arc<str> {
    let group = if kind.group().is_empty() { "core" } else { kind.group() };
    let words = [group, kind.plural(), namespace.unwrap_or_default(), name];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("/").into()
}

/// What admission does to the objects of this story: a Service gets its address.
fn admit(object: &mut dyn Object) {
    if let Some(service) = object.downcast_mut::<Service>() {
        service.spec.get_or_insert_default().cluster_ip = Some(SERVICE_IP.to_owned());
    }
}

/// `path=value` of every leaf that only `after` has.
fn added(path: &str, before: &Value, after: &Value) -> Vec<String> {
    let none = json!(null);
    let below = |name: String, was: &Value, is: &Value| added(&format!("{path}{name}"), was, is);
    match after {
        Value::Object(fields) => fields.iter().flat_map(|(k, v)| below(format!(".{k}"), &before[k], v)).collect(),
        Value::Array(items) => {
            let item = |(n, v): (usize, &Value)| below(format!("[{n}]"), before.get(n).unwrap_or(&none), v);
            items.iter().enumerate().flat_map(item).collect()
        }
        leaf if before.is_null() => vec![format!("{path}={leaf}")],
        _ => Vec::new(),
    }
}
