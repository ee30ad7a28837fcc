//! batch/v1.

use super::meta::{META_LABEL_SELECTOR, META_OBJECT_META};
use super::pod::CORE_POD_TEMPLATE_SPEC;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes};
use crate::serve::proto::Type::{Bool, Int, Message, Text, Time};

static BATCH_POD_FAILURE_POLICY_ON_EXIT_CODES_REQUIREMENT: &[Field] =
    &[Field(1, "containerName", Text, No), Field(2, "operator", Text, No), Field(3, "values", Int, Yes)];

static BATCH_POD_FAILURE_POLICY_ON_POD_CONDITIONS_PATTERN: &[Field] =
    &[Field(1, "type", Text, No), Field(2, "status", Text, No)];

static BATCH_POD_FAILURE_POLICY_RULE: &[Field] = &[
    Field(1, "action", Text, No),
    Field(2, "onExitCodes", Message(BATCH_POD_FAILURE_POLICY_ON_EXIT_CODES_REQUIREMENT), No),
    Field(3, "onPodConditions", Message(BATCH_POD_FAILURE_POLICY_ON_POD_CONDITIONS_PATTERN), Yes),
];

static BATCH_POD_FAILURE_POLICY: &[Field] = &[Field(1, "rules", Message(BATCH_POD_FAILURE_POLICY_RULE), Yes)];

static BATCH_SUCCESS_POLICY_RULE: &[Field] =
    &[Field(1, "succeededIndexes", Text, No), Field(2, "succeededCount", Int, No)];

static BATCH_SUCCESS_POLICY: &[Field] = &[Field(1, "rules", Message(BATCH_SUCCESS_POLICY_RULE), Yes)];

static BATCH_JOB_SPEC: &[Field] = &[
    Field(1, "parallelism", Int, No),
    Field(2, "completions", Int, No),
    Field(3, "activeDeadlineSeconds", Int, No),
    Field(11, "podFailurePolicy", Message(BATCH_POD_FAILURE_POLICY), No),
    Field(16, "successPolicy", Message(BATCH_SUCCESS_POLICY), No),
    Field(7, "backoffLimit", Int, No),
    Field(12, "backoffLimitPerIndex", Int, No),
    Field(13, "maxFailedIndexes", Int, No),
    Field(4, "selector", Message(META_LABEL_SELECTOR), No),
    Field(5, "manualSelector", Bool, No),
    Field(6, "template", Message(CORE_POD_TEMPLATE_SPEC), No),
    Field(8, "ttlSecondsAfterFinished", Int, No),
    Field(9, "completionMode", Text, No),
    Field(10, "suspend", Bool, No),
    Field(14, "podReplacementPolicy", Text, No),
    Field(15, "managedBy", Text, No),
];

static BATCH_JOB_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "lastProbeTime", Time, No),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];

static BATCH_UNCOUNTED_TERMINATED_PODS: &[Field] = &[Field(1, "succeeded", Text, Yes), Field(2, "failed", Text, Yes)];

static BATCH_JOB_STATUS: &[Field] = &[
    Field(1, "conditions", Message(BATCH_JOB_CONDITION), Yes),
    Field(2, "startTime", Time, No),
    Field(3, "completionTime", Time, No),
    Field(4, "active", Int, No),
    Field(5, "succeeded", Int, No),
    Field(6, "failed", Int, No),
    Field(11, "terminating", Int, No),
    Field(7, "completedIndexes", Text, No),
    Field(10, "failedIndexes", Text, No),
    Field(8, "uncountedTerminatedPods", Message(BATCH_UNCOUNTED_TERMINATED_PODS), No),
    Field(9, "ready", Int, No),
];

pub(super) static BATCH_JOB: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(BATCH_JOB_SPEC), No),
    Field(3, "status", Message(BATCH_JOB_STATUS), No),
];
