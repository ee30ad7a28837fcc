//! Several writers of one Deployment.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use serde_json::json;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn writing(name: &str, operation: Operation, at: i64) -> Writing<'static> {
    Writing {
        schema: "io.k8s.api.apps.v1.Deployment",
        manager: Manager {
            name: name.to_owned(),
            operation,
            api_version: "apps/v1".to_owned(),
            subresource: String::new(),
        },
        now: Timestamp::from_second(at).unwrap(),
    }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn containers(items: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": items}}}))
}

/// An object and its owners, changed by one writer after another.
struct Story {
    object: Option<Value>,
    owners: Vec<ManagedFieldsEntry>,
    now: i64,
}

impl Story {
    fn new() -> Story {
        Story { object: None, owners: Vec::new(), now: 0 }
    }

    fn apply(&mut self, who: &str, config: &Value, force: bool) -> Result<(), String> {
        self.now += 1;
        let writing = writing(who, Operation::Apply, self.now);
        let (object, owners) = apply(&writing, self.object.as_ref(), &self.owners, config, force)
            .map_err(|Conflicts(causes)| crate::status::apply_conflict(causes).message.unwrap())?;
        (self.object, self.owners) = (Some(object), owners.unwrap_or_default());
        Ok(())
    }

    fn update(&mut self, who: &str, change: impl FnOnce(&mut Value)) {
        self.now += 1;
        let old = self.object.clone().unwrap();
        let mut new = old.clone();
        change(&mut new);
        self.owners = update(&writing(who, Operation::Update, self.now), &old, &new, &self.owners).unwrap_or_default();
        self.object = Some(new);
    }

    fn spec(&self) -> String {
        self.object.as_ref().unwrap()["spec"].to_string()
    }

    fn owners(&self) -> String {
        let line = |entry: &Entry| {
            format!("{} {:?}: {}", entry.manager.name, entry.manager.operation, entry.fields.paths().join(" "))
        };
        managers::read(&self.owners).iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn two_appliers_share_an_object_and_each_owns_what_it_said() {
    let mut story = Story::new();
    story.apply("a", &containers(json!([{"name": "web", "image": "x:1"}])), false).unwrap();
    story
        .apply("b", &containers(json!([{"name": "side", "image": "y:1"}, {"name": "web", "tty": true}])), false)
        .unwrap();
    insta::assert_snapshot!(story.spec(), @r#"{"template":{"spec":{"containers":[{"image":"y:1","name":"side"},{"image":"x:1","name":"web","tty":true}]}}}"#);
    insta::assert_snapshot!(story.owners(), @r#"
    a Apply: .spec.template.spec.containers[name="web"] .spec.template.spec.containers[name="web"].image .spec.template.spec.containers[name="web"].name
    b Apply: .spec.template.spec.containers[name="side"] .spec.template.spec.containers[name="side"].image .spec.template.spec.containers[name="side"].name .spec.template.spec.containers[name="web"] .spec.template.spec.containers[name="web"].name .spec.template.spec.containers[name="web"].tty
    "#);
}

#[test]
fn a_value_of_somebody_else_s_is_a_conflict_until_it_is_forced() {
    let mut story = Story::new();
    story.apply("a", &deployment(json!({"replicas": 1, "paused": false})), false).unwrap();
    story.update("scaler", |object| object["spec"]["replicas"] = json!(5));
    insta::assert_snapshot!(story.owners(), @r"
    a Apply: .spec.paused
    scaler Update: .spec.replicas
    ");
    let again = deployment(json!({"replicas": 1, "paused": false}));
    insta::assert_snapshot!(story.apply("a", &again, false).unwrap_err(), @r#"Apply failed with 1 conflict: conflict with "scaler" using apps/v1: .spec.replicas"#);
    insta::assert_snapshot!(story.apply("b", &deployment(json!({"replicas": 2, "paused": true})), false).unwrap_err(), @r#"
    Apply failed with 2 conflicts: conflicts with "a":
    - .spec.paused
    conflicts with "scaler" using apps/v1:
    - .spec.replicas
    "#);
    story.apply("a", &again, true).unwrap();
    insta::assert_snapshot!(story.owners(), @r"a Apply: .spec.paused .spec.replicas");
}

#[test]
fn the_same_value_is_shared_and_goes_with_its_last_owner() {
    let mut story = Story::new();
    let ports = json!([{"name": "web", "ports": [{"containerPort": 80}]}]);
    story.apply("a", &containers(ports.clone()), false).unwrap();
    // The server's default: the key is the same with it and without.
    story.update("server", |o| {
        o["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
    });
    story.apply("b", &containers(ports), false).unwrap();
    let without = containers(json!([{"name": "web"}]));
    story.apply("a", &without, false).unwrap();
    insta::assert_snapshot!(story.spec(), @r#"{"template":{"spec":{"containers":[{"name":"web","ports":[{"containerPort":80,"protocol":"TCP"}]}]}}}"#);
    story.apply("b", &without, false).unwrap();
    insta::assert_snapshot!(story.spec(), @r#"{"template":{"spec":{"containers":[{"name":"web","ports":[{"protocol":"TCP"}]}]}}}"#);
    insta::assert_snapshot!(story.owners(), @r#"
    a Apply: .spec.template.spec.containers[name="web"] .spec.template.spec.containers[name="web"].name
    b Apply: .spec.template.spec.containers[name="web"] .spec.template.spec.containers[name="web"].name
    "#);
}

#[test]
fn nothing_new_changes_nothing_not_even_the_time() {
    let mut story = Story::new();
    let config = deployment(json!({"replicas": 1}));
    story.apply("a", &config, false).unwrap();
    let before = (story.object.clone(), story.owners.clone());
    story.apply("a", &config, false).unwrap();
    assert_eq!((story.object, story.owners), before);
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner_of_its_own() {
    let mut story = Story::new();
    story.object = Some(deployment(json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}})));
    let config = deployment(json!({"replicas": 4}));
    insta::assert_snapshot!(story.apply("a", &config, false).unwrap_err(), @r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#);
    story.apply("a", &deployment(json!({"replicas": 3})), false).unwrap();
    insta::assert_snapshot!(story.owners(), @r"
    a Apply: .spec.replicas
    before-first-apply Update: .spec.replicas .spec.selector
    ");
}

#[test]
fn kubectl_takes_over_from_its_own_client_side_apply() {
    let mut story = Story::new();
    let mut live = deployment(json!({"replicas": 3, "paused": true}));
    live["metadata"]["annotations"] = json!({LAST_APPLIED: deployment(json!({"replicas": 3})).to_string()});
    story.object = Some(live);
    story.apply("kubectl", &deployment(json!({"replicas": 4})), false).unwrap();
    insta::assert_snapshot!(story.object.as_ref().unwrap().pointer(LAST_APPLIED_POINTER).unwrap().as_str().unwrap(), @r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":4}}"#);
    insta::assert_snapshot!(story.apply("kubectl", &deployment(json!({"paused": false})), false).unwrap_err(), @r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.paused"#);
}

#[test]
fn what_client_side_apply_made_kubectl_can_take_away_again() {
    let mut story = Story::new();
    let applied = containers(json!([{"name": "web", "image": "x:1", "ports": [{"containerPort": 80}]}]));
    let mut live = applied.clone();
    live["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("by:hand");
    live["metadata"]["annotations"] = json!({LAST_APPLIED: applied.to_string()});
    story.object = Some(live);
    let without_port = containers(json!([{"name": "web", "image": "x:1"}]));
    insta::assert_snapshot!(story.apply("kubectl", &without_port, false).unwrap_err(), @r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.template.spec.containers[name="web"].image"#);
    story.apply("kubectl", &without_port, true).unwrap();
    insta::assert_snapshot!(story.spec(), @r#"{"template":{"spec":{"containers":[{"image":"x:1","name":"web"}]}}}"#);
}

#[test]
fn many_updaters_end_in_one_entry() {
    let mut story = Story::new();
    story.apply("a", &deployment(json!({"replicas": 1})), false).unwrap();
    for n in 0..14 {
        story.update(&format!("u{n:02}"), |object| object["metadata"]["labels"][format!("l{n:02}")] = json!("x"));
    }
    assert_eq!(story.owners.len(), 11);
    insta::assert_snapshot!(story.owners().lines().nth(1).unwrap(), @r"ancient-changes Update: .metadata.labels.l00 .metadata.labels.l01 .metadata.labels.l02 .metadata.labels.l03 .metadata.labels.l04");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn config() -> impl Strategy<Value = Value> {
        let container = (0..4_u8, 0..3_u8, any::<bool>()).prop_map(
            |(name, image, tty)| json!({"name": format!("c{name}"), "image": format!("i{image}"), "tty": tty}),
        );
        let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
        (proptest::collection::vec(container, 1..4), labels, proptest::option::of(0..3_i32)).prop_map(
            |(mut items, labels, replicas)| {
                let mut seen = std::collections::BTreeSet::new();
                items.retain(|item| seen.insert(item["name"].to_string()));
                let mut object = containers(Value::Array(items));
                // An empty map is owned as a value, and no longer is one once somebody puts a key into it.
                if !labels.is_empty() {
                    object["metadata"]["labels"] = json!(labels);
                }
                if let Some(replicas) = replicas {
                    object["spec"]["replicas"] = json!(replicas);
                }
                object
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_forced_is_there_and_a_second_time_changes_nothing(
            steps in proptest::collection::vec((0..3_u8, config()), 1..8)
        ) {
            let mut story = Story::new();
            for (who, config) in steps {
                let who = format!("m{who}");
                story.apply(&who, &config, true).unwrap();
                let place = writing("", Operation::Apply, 0).place();
                let object = story.object.clone().unwrap();
                // Laying the configuration over the object once more changes nothing: all of it is in there.
                prop_assert_eq!(&merge::merge(&object, &config, place), &object);
                story.apply(&who, &config, false).unwrap();
                prop_assert_eq!(story.object.as_ref().unwrap(), &object);
            }
        }

        #[test]
        fn an_applier_who_says_nothing_any_more_leaves_nothing(first in config(), second in config()) {
            let mut story = Story::new();
            story.apply("keeper", &first, false).unwrap();
            let alone = story.object.clone().unwrap();
            if story.apply("guest", &second, false).is_ok() {
                let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
                story.apply("guest", &nothing, false).unwrap();
                let place = writing("", Operation::Apply, 0).place();
                let (was, is) = (Tree::of(&alone, place).fields(), Tree::of(story.object.as_ref().unwrap(), place).fields());
                prop_assert_eq!(anybodys(was).difference(&anybodys(is)).paths(), Vec::<String>::new());
                prop_assert_eq!(managers::read(&story.owners).len(), 1);
            }
        }
    }
}
