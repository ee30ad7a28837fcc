//! Event (events.k8s.io/v1): the second view of the events that are stored as core/v1.
//!
//! Owns: the conversion both ways. Does not own: rules and columns, which are those of the core kind.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSeries as CoreSeries, ObjectReference};
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use pintle_api::field::FieldErrors;
use serde_json::Value;

use super::event::Events;
use crate::kind::{Column, Kind, Names, Scope};

/// See the module.
pub struct EventsEvents;

impl Kind for EventsEvents {
    type Object = Event;
    const NAMES: Names = Events::NAMES;
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = Events::COLUMNS;
    const FIELDS: &'static [&'static str] = &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "source",
        "type",
    ];
    const STORED_AS: Option<(&'static str, &'static str)> = Some(("", "events"));

    fn read(json: &[u8]) -> Result<Event, serde_json::Error> {
        serde_json::from_slice::<CoreEvent>(json).map(from_core)
    }

    fn stored(object: &Event) -> Vec<u8> {
        Events::stored(&to_core(object))
    }

    fn validate(object: &Event, errors: &mut FieldErrors) {
        Events::validate(&to_core(object), errors);
    }

    fn row(object: &Event, now: Timestamp) -> Vec<Value> {
        Events::row(&to_core(object), now)
    }

    fn fields(object: &Event) -> Vec<String> {
        Events::fields(&to_core(object))
    }
}

fn from_core(event: CoreEvent) -> Event {
    let epoch = MicroTime(Timestamp::UNIX_EPOCH);
    let series = |series: CoreSeries| EventSeries {
        count: series.count.unwrap_or(0),
        last_observed_time: series.last_observed_time.unwrap_or(epoch),
    };
    Event {
        action: event.action,
        deprecated_count: event.count,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
        deprecated_source: event.source,
        event_time: event.event_time,
        metadata: event.metadata,
        note: event.message,
        reason: event.reason,
        regarding: (event.involved_object != ObjectReference::default()).then_some(event.involved_object),
        related: event.related,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
        series: event.series.map(series),
        type_: event.type_,
    }
}

fn to_core(event: &Event) -> CoreEvent {
    let event = event.clone();
    let series = |series: EventSeries| CoreSeries {
        count: Some(series.count),
        last_observed_time: Some(series.last_observed_time),
    };
    CoreEvent {
        action: event.action,
        count: event.deprecated_count,
        event_time: event.event_time,
        first_timestamp: event.deprecated_first_timestamp,
        involved_object: event.regarding.unwrap_or_default(),
        last_timestamp: event.deprecated_last_timestamp,
        message: event.note,
        metadata: event.metadata,
        reason: event.reason,
        related: event.related,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
        series: event.series.map(series),
        source: event.deprecated_source,
        type_: event.type_,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_event_written_in_one_view_reads_the_same_in_the_other() {
        let core = br#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"e","namespace":"n"},"involvedObject":{"kind":"Pod","name":"p","namespace":"n"},
            "reason":"Started","message":"hello","count":2,"source":{"component":"kubelet"},"type":"Normal",
            "series":{"count":3,"lastObservedTime":"2026-01-01T00:00:00.000000Z"}}"#;
        let event = EventsEvents::read(core).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&event).unwrap(), @r#"{"apiVersion":"events.k8s.io/v1","kind":"Event","deprecatedCount":2,"deprecatedSource":{"component":"kubelet"},"metadata":{"name":"e","namespace":"n"},"note":"hello","reason":"Started","regarding":{"kind":"Pod","name":"p","namespace":"n"},"series":{"count":3,"lastObservedTime":"2026-01-01T00:00:00.000000Z"},"type":"Normal"}"#);
        let back: CoreEvent = serde_json::from_slice(&EventsEvents::stored(&event)).unwrap();
        assert_eq!(back, serde_json::from_slice(core).unwrap());
    }
}
