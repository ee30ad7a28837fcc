//! linux.intelRdt and what becomes of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

fn rdt(value: Value) -> LinuxIntelRdt {
    let config = json!({"ociVersion": "1.3.0", "linux": {"intelRdt": value}}).to_string();
    crate::parse_spec(&config).unwrap().0.linux().clone().unwrap().intel_rdt().clone().unwrap()
}

fn all() -> Offers {
    let counters = ["llc_occupancy", "mbm_total_bytes", "mbm_local_bytes"].map(str::to_owned);
    Offers { l3: true, mb: true, monitoring: Some(counters.to_vec()) }
}

/// The plan or its refusal on one line.
fn told(config: Value, existing: Option<&str>) -> String {
    match plan(&rdt(config), "c1", &all(), existing) {
        Err(refused) => refused.to_string(),
        Ok(plan) => {
            let paths = |paths: &[PathBuf]| {
                paths.iter().map(|path| format!("{}/", path.display())).collect::<Vec<_>>().join(" ")
            };
            format!("in {}/ make [{}] write {:?}", plan.group.display(), paths(&plan.make), plan.schemata)
        }
    }
}

#[test]
fn groups_are_made_joined_or_refused_as_the_specification_says() {
    let table = [
        // Without closID the container's id is the class.
        (json!({}), None, r#"in c1/ make [c1/] write []"#),
        (json!({"l3CacheSchema": "L3:0=f"}), None, r#"in c1/ make [c1/] write ["L3:0=f\n"]"#),
        (json!({"memBwSchema": "MB:0=20"}), None, r#"in c1/ make [c1/] write ["MB:0=20\n"]"#),
        // Both are one write; lines for MB in the cache's schema are dropped.
        (
            json!({"l3CacheSchema": "L3:0=f\nMB:0=50\nL2:0=3", "memBwSchema": "MB:0=20"}),
            None,
            r#"in c1/ make [c1/] write ["L3:0=f\nL2:0=3\nMB:0=20\n"]"#,
        ),
        // schemata come last, in a write of their own.
        (
            json!({"memBwSchema": "MB:0=20", "schemata": ["L3:0=f", "MB:0=70"]}),
            None,
            r#"in c1/ make [c1/] write ["MB:0=20\n", "L3:0=f\nMB:0=70\n"]"#,
        ),
        // What a dead container of this id left is this one's.
        (json!({"l3CacheSchema": "L3:0=f"}), Some("L3:0=ff\n"), r#"in c1/ make [c1/] write ["L3:0=f\n"]"#),
        // A class by name: made, joined, or refused.
        (json!({"closID": "gold", "schemata": ["L3:0=f"]}), None, r#"in gold/ make [gold/] write ["L3:0=f\n"]"#),
        (json!({"closID": "gold"}), Some("L3:0=f\n"), r#"in gold/ make [] write []"#),
        (
            json!({"closID": "gold"}),
            None,
            r#"linux.intelRdt.closID: there is no class "gold", which must exist when l3CacheSchema, memBwSchema and schemata are empty"#,
        ),
        (
            json!({"closID": "gold", "l3CacheSchema": "L3:0=00f"}),
            Some("    MB:0= 100;1= 100\n    L3:0=f;1=ff\n"),
            r#"in gold/ make [] write []"#,
        ),
        (
            json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}),
            Some("    MB:0= 100\n    L3:0=f\n"),
            r#"linux.intelRdt.closID: class "gold" exists with other schemata: MB:0=20 is asked for, it has MB:0=100"#,
        ),
        (
            json!({"closID": "gold", "schemata": ["L2:0=f"]}),
            Some("L3:0=f\n"),
            r#"linux.intelRdt.closID: class "gold" exists with other schemata: L2:0=f is asked for, it has none"#,
        ),
        // The default class is always there, and never anybody's own.
        (json!({"closID": "/"}), Some("L3:0=f\n"), r#"in / make [] write []"#),
        (json!({"closID": "/", "enableMonitoring": true}), Some("L3:0=f\n"), r#"in / make [mon_groups/c1/] write []"#),
        (
            json!({"closID": "gold", "enableMonitoring": true}),
            Some("L3:0=f\n"),
            r#"in gold/ make [gold/mon_groups/c1/] write []"#,
        ),
        (json!({"enableMonitoring": true}), None, r#"in c1/ make [c1/ c1/mon_groups/c1/] write []"#),
    ];
    for (config, existing, expected) in table {
        assert_eq!(told(config.clone(), existing), expected, "{config} {existing:?}");
    }
}

#[test]
fn what_the_machine_does_not_offer_is_refused_by_its_field() {
    let table = [
        (json!({"l3CacheSchema": "L3:0=f"}), "l3CacheSchema", "CAT"),
        (json!({"memBwSchema": "MB:0=9"}), "memBwSchema", "MBA"),
        (json!({"enableMonitoring": true}), "enableMonitoring", "monitoring"),
        (json!({"enableCMT": true}), "enableCMT", "CMT"),
        (json!({"enableMBM": true}), "enableMBM", "MBM"),
    ];
    for (config, field, part) in table {
        let refused = plan(&rdt(config), "c1", &Offers::default(), None).unwrap_err();
        assert_eq!(refused, Refused::NotOffered { field, part });
    }
    let nothing = json!({"enableCMT": false, "enableMBM": false, "enableMonitoring": false, "l3CacheSchema": ""});
    assert!(plan(&rdt(nothing), "c1", &Offers::default(), None).is_ok());
    assert_eq!(
        plan(&rdt(json!({})), "info", &all(), None),
        Err(Refused::ReservedId { id: "info".to_owned() }),
        "its directory is there already, and is no group"
    );
}

#[test]
fn names_and_lines_that_resctrl_cannot_have_are_refused_by_their_path() {
    let refused = |rdt: Value| {
        let config = json!({
            "ociVersion": "1.3.0", "root": {"path": "r"}, "process": {"args": ["a"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {"intelRdt": rdt}
        });
        let (spec, _) = crate::parse_spec(&config.to_string()).unwrap();
        crate::validate(&spec).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for clos in ["a/b", "..", ".", "info", "mon_groups", "x\ny", "//"] {
        assert!(refused(json!({"closID": clos})).starts_with("config.json: linux.intelRdt.closID: "), "{clos:?}");
    }
    for good in [json!({"closID": "/"}), json!({"closID": "gold"}), json!({"closID": ""}), json!({"memBwSchema": ""})] {
        assert_eq!(refused(good), "");
    }
    let bad = json!({"memBwSchema": "L3:0=f", "schemata": ["L3:0=f", "L2:0=f\nMB:0=1"]});
    assert_eq!(
        refused(bad),
        "config.json: linux.intelRdt.memBwSchema: must be one line that starts with MB:; \
         linux.intelRdt.schemata[1]: must be one line"
    );
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let old = rdt(json!({"closID": "gold", "memBwSchema": "MB:0=20"}));
    let change = Change { l3: Some("L3:0=f"), mb: None };
    let new = change.over(Some(&old), &all()).unwrap();
    assert_eq!(new, rdt(json!({"closID": "gold", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"})));
    assert_eq!(change.text(), "L3:0=f\n");
    assert_eq!(Change { l3: Some("L3:0=f"), mb: Some("MB:0=9") }.text(), "L3:0=f\nMB:0=9\n");
    assert!(change.over(None, &Offers::default()).is_err());
}

#[test]
fn a_class_with_other_tasks_or_monitors_stays() {
    assert!(is_unused("", &[]) && is_unused("\n", &[]));
    assert!(!is_unused("17\n", &[]) && !is_unused("", &["c2".to_owned()]));
}

#[test]
fn statistics_have_runcs_shape() {
    let files = |file: &str| {
        let text = match file {
            "info/L3/cbm_mask" => "7ff\n",
            "info/L3/min_cbm_bits" => "1\n",
            "info/L3/num_closids" => "16\n",
            "info/MB/bandwidth_gran" | "info/MB/min_bandwidth" => "10\n",
            "info/MB/delay_linear" => "1\n",
            "info/MB/num_closids" => "8\n",
            "schemata" => "    MB:0=100\n    L3:0=7ff\n",
            "gold/schemata" => "    MB:0= 20\n    L3:0=00f\n",
            "gold/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy" => "4096\n",
            "gold/mon_groups/c1/mon_data/mon_L3_00/mbm_total_bytes" => "77\n",
            "gold/mon_groups/c1/mon_data/mon_L3_00/mbm_local_bytes" => "Unavailable\n",
            _ => return None,
        };
        Some(text.to_owned())
    };
    assert_eq!(
        stats(&files, &all(), "gold", "gold/mon_groups/c1", &["mon_L3_00".to_owned()]),
        json!({
            "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=7ff", "l3_cache_schema": "L3:0=00f",
            "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
            "mem_bw_schema_root": "MB:0=100", "mem_bw_schema": "MB:0= 20",
            "mbm_stats": [{"mbm_total_bytes": 77}], "cmt_stats": [{"llc_occupancy": 4096}]
        })
    );
    assert_eq!(stats(&files, &Offers::default(), "", "", &[]), json!({}));
}
