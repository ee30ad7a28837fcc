//! Who has which frontend. Several Services may want one address and port; the oldest has it, of two of one age the
//! first by name, whatever the order in which we hear of them. Owns the decision, not what follows from it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::service::{Claim, ServiceName};

/// A Service that wants a frontend: when it was made, and its name.
type Claimant = (i64, Arc<ServiceName>);

/// All frontends that anybody wants.
#[derive(Debug, Default)]
pub struct Claims {
    claimants: HashMap<Claim, Claimants>,
}

/// Nearly always one, and there are as many as frontends: the list costs nothing until it is needed.
#[derive(Debug)]
enum Claimants {
    One(Claimant),
    /// Sorted, two or more.
    Many(Vec<Claimant>),
}

impl Claims {
    /// Adds a claimant; returns the others.
    pub fn add(&mut self, claim: Claim, created_s: i64, name: &Arc<ServiceName>) -> Vec<Arc<ServiceName>> {
        let new = (created_s, name.clone());
        let Some(there) = self.claimants.get_mut(&claim) else {
            self.claimants.insert(claim, Claimants::One(new));
            return Vec::new();
        };
        let mut all = there.take();
        let others = all.iter().map(|(_, name)| name.clone()).collect();
        if !all.contains(&new) {
            all.push(new);
            all.sort();
        }
        *there = Claimants::of(all);
        others
    }

    /// Removes a claimant; returns those who remain.
    pub fn remove(&mut self, claim: Claim, created_s: i64, name: &Arc<ServiceName>) -> Vec<Arc<ServiceName>> {
        let Some(there) = self.claimants.get_mut(&claim) else { return Vec::new() };
        let mut all = there.take();
        all.retain(|(at, who)| (*at, who) != (created_s, name));
        let others = all.iter().map(|(_, name)| name.clone()).collect();
        if all.is_empty() {
            self.claimants.remove(&claim);
        } else {
            *there = Claimants::of(all);
        }
        others
    }

    /// Who has it.
    #[must_use]
    pub fn winner(&self, claim: &Claim) -> Option<&Arc<ServiceName>> {
        match self.claimants.get(claim)? {
            Claimants::One((_, name)) => Some(name),
            Claimants::Many(all) => all.first().map(|(_, name)| name),
        }
    }

    /// Everything that is claimed, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Claim> {
        self.claimants.keys()
    }
}

impl Claimants {
    fn take(&mut self) -> Vec<Claimant> {
        match std::mem::replace(self, Self::Many(Vec::new())) {
            Self::One(one) => vec![one],
            Self::Many(all) => all,
        }
    }

    fn of(mut all: Vec<Claimant>) -> Self {
        match all.pop() {
            Some(one) if all.is_empty() => Self::One(one),
            Some(last) => {
                all.push(last);
                Self::Many(all)
            }
            None => Self::Many(all),
        }
    }
}
