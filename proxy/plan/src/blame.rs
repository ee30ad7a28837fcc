//! To which Services refused operations belong.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pintle_nft::{Action, Name, Op, Set, Value};

use crate::base;
use crate::fragment::{Fragment, render};
use crate::map::ServiceMap;
use crate::service::ServiceName;
use crate::small::place;

/// An object of the table.
#[derive(PartialEq, Eq, Hash)]
enum Object<'a> {
    Set(&'a Name),
    Chain(&'a Name),
    Element(&'a Name, &'a Value),
}

/// Of these Services, those that cannot be without the objects of one of the operations; and which operation it is.
pub fn blamed<'a>(
    map: &ServiceMap,
    among: impl Iterator<Item = &'a Arc<ServiceName>>,
    refused: &[&Op],
) -> BTreeMap<Arc<ServiceName>, usize> {
    let each = refused.iter().enumerate();
    let objects: HashMap<Object<'_>, usize> = each.filter_map(|(at, op)| Some((object(&op.action)?, at))).collect();
    let config = map.config();
    let needs = |name: &Arc<ServiceName>| {
        let fragment = render(config, name, map.get(name)?);
        needed(&objects, &fragment).or_else(|| needed(&objects, &place(fragment, true)))
    };
    among.filter_map(|name| Some((name.clone(), needs(name)?))).collect()
}

/// What an operation is about; of a set that is a Service's own, the whole.
fn object(action: &Action) -> Option<Object<'_>> {
    match action {
        Action::AddTable | Action::DelTable => None,
        Action::AddSet(name, _) | Action::DelSet(name) => Some(Object::Set(name)),
        Action::AddChain(name, _) | Action::DelChain(name) | Action::FlushChain(name) | Action::AddRule(name, _) => {
            Some(Object::Chain(name))
        }
        Action::AddElement(set, key, _) | Action::ReplaceElement(set, key, _) | Action::DelElement(set, key) => {
            Some(if base::is_constant(set) { Object::Element(set, key) } else { Object::Set(set) })
        }
    }
}

fn needed(objects: &HashMap<Object<'_>, usize>, fragment: &Fragment) -> Option<usize> {
    let of = |object| objects.get(&object).copied();
    let set = |(name, set): (&Name, &Set)| {
        if base::is_constant(name) {
            set.elements.keys().find_map(|key| objects.get(&Object::Element(name, key)).copied())
        } else {
            objects.get(&Object::Set(name)).copied()
        }
    };
    let mut chains = fragment.own.chains.keys().chain(fragment.chains.keys());
    fragment.own.sets.iter().find_map(set).or_else(|| chains.find_map(|name| of(Object::Chain(name))))
}
