//! Mode `iptables`: chains of xtables, by the tools of the package iptables. For kernels without nf_tables; where a
//! machine has tools of both kinds, those are taken that speak to the older filter, if the kernel has it.

use std::path::Path;

use pintle_net::nfnetlink::Nft;
use pintle_nft::trace::{Journey, Machine, Packet};
use pintle_nft::{Family, TableId};
use pintle_proxy_plan::backend::Backend as _;
use pintle_proxy_plan::iptables::trace::{self, Rules};
use pintle_proxy_plan::iptables::{Iptables as Planner, Table, Tables, Unreadable, removal, trial};
use pintle_proxy_plan::{Config, ServiceMap};

use super::{Mode, Started};
use crate::backend::{BackendError, Blind, Fault as _};
use crate::iptables_backend::{IptablesBackend, observe};
use crate::xtables::{Tools, Variant, Xtables as _, XtablesError};

/// See the module's description.
pub struct Iptables;

impl Mode for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn probe(&self, config: &Config, family: Family) -> Result<(), BackendError> {
        working(config, family)?;
        Ok(())
    }

    fn start(&self, config: &Config, families: &[Family]) -> Result<Started, BackendError> {
        let tools = working(config, Family::V4)?;
        tracing::debug!(variant = ?tools.variant(), "found the tools of iptables");
        let backend = Box::new(IptablesBackend::new(config.clone(), families, tools));
        // Of a change by somebody else xtables tells nobody.
        Ok(Started { backend, watch: Box::new(Blind) })
    }

    fn cleanup(&self, _config: &Config) -> Result<(), BackendError> {
        for variant in [Variant::Legacy, Variant::Nft] {
            for family in [Family::V4, Family::V6] {
                if has_tables(variant, family) {
                    clean(variant, family)?;
                }
            }
        }
        Ok(())
    }

    fn render(&self, map: &ServiceMap) -> String {
        let program = match map.config().family {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        };
        format!("# {program} --noflush\n{}", Planner::default().full(map).text())
    }

    fn journeys(&self, map: &ServiceMap, machine: &Machine, packet: Packet) -> Result<Vec<Journey>, Unreadable> {
        let mut tables = Tables::default();
        tables.restore(Planner::default().full(map).text())?;
        let rules = Rules::read(map.config().family, &tables)?;
        Ok(trace::journeys(&rules, machine, packet))
    }
}

/// The first kind of tools that does what our rules need.
fn working(config: &Config, family: Family) -> Result<Tools, XtablesError> {
    let mut failed: Option<XtablesError> = None;
    for variant in Variant::ALL {
        let tried = Tools::find(variant).and_then(|mut tools| {
            let [install, remove] = trial(&config.for_family(family));
            tools.restore(family, &install)?;
            tools.restore(family, &remove)?;
            Ok(tools)
        });
        match tried {
            Ok(tools) => return Ok(tools),
            // What passes is met again, and dealt with, by the first load.
            Err(error) if error.is_transient() => return Tools::find(variant),
            // The first complaint of tools that are there tells most.
            Err(error) if matches!(failed, None | Some(XtablesError::Missing { .. })) => failed = Some(error),
            Err(_) => {}
        }
    }
    Err(failed.unwrap_or(XtablesError::Missing { program: "iptables-restore".into() }))
}

/// Whether a kind of tools would find tables at all. Without asking first they would make some.
fn has_tables(variant: Variant, family: Family) -> bool {
    match variant {
        Variant::Nft => {
            let table = |table: Table| TableId { family, name: table.name().into() };
            let exists = |nft: &mut Nft, id: &TableId| nft.table_exists(id).unwrap_or(false);
            Nft::open().is_ok_and(|mut nft| Table::ALL.iter().any(|t| exists(&mut nft, &table(*t))))
        }
        Variant::Legacy | Variant::Unnamed => {
            let list = match family {
                Family::V4 => "/proc/thread-self/net/ip_tables_names",
                Family::V6 => "/proc/thread-self/net/ip6_tables_names",
            };
            // Not there: the kernel has none of it.
            let names = std::fs::read_to_string(Path::new(list)).unwrap_or_default();
            Table::ALL.iter().any(|table| names.lines().any(|name| name == table.name()))
        }
    }
}

fn clean(variant: Variant, family: Family) -> Result<(), XtablesError> {
    // Old tools come in one kind, under the plain name.
    let mut tools = match Tools::find(variant) {
        Err(XtablesError::Missing { .. }) => Tools::find(Variant::Unnamed)?,
        found => found?,
    };
    let observed = observe(&mut tools, family)?;
    if observed.is_empty() { Ok(()) } else { tools.restore(family, &removal(&observed)) }
}
