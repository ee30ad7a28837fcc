//! OpenAPI: an index and one document per group and version, made when asked for and not kept.
//!
//! Owns: what clients need of it: schemas with merge keys (apply, edit), the parameters that say that the server checks
//! fields (create), paths that lead from a resource to its kind (explain). Does not own: the types, which are
//! k8s-openapi's.

use http::{HeaderMap, StatusCode};
use pintle_api::patch::merge_keys;
use pintle_control_plan::kind::Scope;
use pintle_control_plan::registry::{DynKind, KINDS};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{Outcome, typed};
use super::discovery::{group_versions, tagged};
use super::health::{MAJOR, MINOR};

/// Answers if the path belongs to OpenAPI.
pub fn answer(path: &str, accept: &str, headers: &HeaderMap) -> Option<Outcome> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let document = match parts.as_slice() {
        ["openapi", "v2"] => return Some(Ok(version_two(accept, headers))),
        ["openapi", "v3"] => index(),
        ["openapi", "v3", "api", version] => document("", version)?,
        ["openapi", "v3", "apis", group, version] => document(group, version)?,
        _ => return None,
    };
    Some(Ok(tagged(headers, "application/json", document.to_string())))
}

fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Changes with the program, as the documents do.
fn hash(base: &str) -> String {
    hex::encode_upper(Sha256::digest(format!("{} {base}", env!("CARGO_PKG_VERSION"))))
}

fn index() -> Value {
    let mut paths = Map::new();
    for (group, versions) in group_versions() {
        for version in versions {
            let base = base(group, version);
            let url = format!("/openapi/v3/{base}?hash={}", hash(&base));
            paths.insert(base, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": format!("v{MAJOR}.{MINOR}.0")})
}

/// Clients as old as to need version 2 find no schemas in it, and go without.
fn version_two(accept: &str, headers: &HeaderMap) -> super::answer::Answer {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    if accept.contains("proto-openapi.spec.v2") {
        // openapi.v2.Document{swagger: "2.0", info: {title: "Kubernetes", version: "v1"}}
        let info = b"\x12\x10\x0a\x0aKubernetes\x12\x02v1";
        let bytes: Vec<u8> = [&b"\x0a\x032.0"[..], info].concat();
        return typed(StatusCode::OK, PROTOBUF, bytes);
    }
    let document = json!({"swagger": "2.0", "info": info(), "paths": {}, "definitions": {}});
    tagged(headers, "application/json", document.to_string())
}

fn document(group: &str, version: &str) -> Option<Value> {
    if !group_versions().iter().any(|(found, versions)| *found == group && versions.contains(&version)) {
        return None;
    }
    let kinds: Vec<&'static dyn DynKind> =
        KINDS.iter().copied().filter(|kind| kind.group() == group && kind.version() == version).collect();
    let mut paths = Map::new();
    for kind in &kinds {
        add_paths(&mut paths, *kind);
    }
    Some(json!({
        "openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas(&kinds)},
    }))
}

fn schemas(kinds: &[&'static dyn DynKind]) -> Map<String, Value> {
    let mut generator: SchemaGenerator =
        SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = false).into_generator();
    for kind in kinds {
        kind.schema(&mut generator);
    }
    let mut schemas = generator.take_definitions(true);
    for (name, schema) in &mut schemas {
        add_merge_keys(name, schema);
    }
    for kind in kinds {
        if let Some(schema) = schemas.get_mut(&kind.schema_name()) {
            schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(*kind)]);
        }
    }
    schemas
}

/// How a strategic patch and apply treat each field; without these clients replace lists they should merge.
fn add_merge_keys(name: &str, schema: &mut Value) {
    for field in merge_keys::fields(name) {
        let Some(property) = schema.pointer_mut(&format!("/properties/{}", field.name)) else { continue };
        if !field.strategy.is_empty() {
            property["x-kubernetes-patch-strategy"] = field.strategy.into();
        }
        if !field.merge_key.is_empty() {
            property["x-kubernetes-patch-merge-key"] = field.merge_key.into();
        }
    }
}

fn group_version_kind(kind: &dyn DynKind) -> Value {
    json!({"group": kind.group(), "version": kind.version(), "kind": kind.kind()})
}

fn add_paths(paths: &mut Map<String, Value>, kind: &'static dyn DynKind) {
    let base = base(kind.group(), kind.version());
    let namespaced = kind.scope() == Scope::Namespaced;
    let collection = if namespaced {
        format!("/{base}/namespaces/{{namespace}}/{}", kind.plural())
    } else {
        format!("/{base}/{}", kind.plural())
    };
    let reference = format!("#/components/schemas/{}", kind.schema_name());
    let operation = |action: &str, writes: bool, media: &[&str]| {
        let mut operation = json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": group_version_kind(kind),
            "responses": {"200": {"description": "OK",
                "content": {"application/json": {"schema": {"$ref": reference}}}}},
        });
        if writes {
            operation["parameters"] = write_parameters();
            let body = |media: &&str| ((*media).to_owned(), json!({"schema": {"$ref": reference}}));
            operation["requestBody"] = json!({"content": media.iter().map(body).collect::<Map<_, _>>()});
        }
        operation
    };
    const BODY: &[&str] = &["application/json", "application/yaml"];
    const PATCHES: &[&str] = &[
        "application/apply-patch+yaml",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", false, &[]),
            "put": operation("put", true, BODY),
            "patch": operation("patch", true, PATCHES),
            "delete": operation("delete", false, &[]),
            "parameters": path_parameters(namespaced, true),
        }),
    );
    paths.insert(
        collection,
        json!({
            "get": operation("list", false, &[]),
            "post": operation("post", true, BODY),
            "delete": operation("deletecollection", false, &[]),
            "parameters": path_parameters(namespaced, false),
        }),
    );
}

fn write_parameters() -> Value {
    let parameter =
        |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    ["dryRun", "fieldManager", "fieldValidation", "force"].iter().map(parameter).collect()
}

fn path_parameters(namespaced: bool, named: bool) -> Value {
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let namespace = namespaced.then(|| parameter("namespace"));
    let name = named.then(|| parameter("name"));
    namespace.into_iter().chain(name).collect()
}
