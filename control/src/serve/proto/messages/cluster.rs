//! Certificates' requests, leases and priority classes.

use super::meta::META_OBJECT_META;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes};
use crate::serve::proto::Type::{Bool, Bytes, Int, Message, MicroTime, Text, TextListMap, Time};

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_SPEC: &[Field] = &[
    Field(1, "request", Bytes, No),
    Field(7, "signerName", Text, No),
    Field(8, "expirationSeconds", Int, No),
    Field(5, "usages", Text, Yes),
    Field(2, "username", Text, No),
    Field(3, "uid", Text, No),
    Field(4, "groups", Text, Yes),
    Field(6, "extra", TextListMap, No),
];

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(6, "status", Text, No),
    Field(2, "reason", Text, No),
    Field(3, "message", Text, No),
    Field(4, "lastUpdateTime", Time, No),
    Field(5, "lastTransitionTime", Time, No),
];

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_STATUS: &[Field] = &[
    Field(1, "conditions", Message(CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_CONDITION), Yes),
    Field(2, "certificate", Bytes, No),
];

pub(super) static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_SPEC), No),
    Field(3, "status", Message(CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_STATUS), No),
];

static COORDINATION_LEASE_SPEC: &[Field] = &[
    Field(1, "holderIdentity", Text, No),
    Field(2, "leaseDurationSeconds", Int, No),
    Field(3, "acquireTime", MicroTime, No),
    Field(4, "renewTime", MicroTime, No),
    Field(5, "leaseTransitions", Int, No),
    Field(6, "strategy", Text, No),
    Field(7, "preferredHolder", Text, No),
];

pub(super) static COORDINATION_LEASE: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "spec", Message(COORDINATION_LEASE_SPEC), No)];

pub(super) static SCHEDULING_PRIORITY_CLASS: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "value", Int, No),
    Field(3, "globalDefault", Bool, No),
    Field(4, "description", Text, No),
    Field(5, "preemptionPolicy", Text, No),
];
