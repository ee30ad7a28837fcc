//! What a backend is: a rendering of the [`ServiceMap`] into something an edge can carry out. The map decides where a
//! Service answers and who serves; a backend decides nothing but how to say it, so all backends behave alike.

use crate::map::{Changed, ServiceMap};

/// A pure rendering. It may remember what it said, never more: after [`Backend::full`] it is as new.
pub trait Backend {
    /// What the edge carries out: a transaction, a text for a tool, entries of a table.
    type Plan;

    /// Everything, for an edge that does not know what is installed.
    fn full(&mut self, map: &ServiceMap) -> Self::Plan;

    /// What follows from changes of the map, given that everything before them is installed.
    fn change(&mut self, map: &ServiceMap, changes: &[Changed]) -> Self::Plan;
}
