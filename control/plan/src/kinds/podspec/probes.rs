//! Rules for probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;

use super::containers::port_range;

/// All probes and hooks of a container.
pub(super) fn validate(container: &Container, path: &Path, errors: &mut FieldErrors) {
    if let Some(probe) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        one(probe, &path, errors);
        success_is_once(probe, &path, errors);
    }
    if let Some(probe) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        one(probe, &path, errors);
        if let Some(grace_s) = probe.termination_grace_period_seconds {
            let path = path.child("terminationGracePeriodSeconds");
            errors.invalid(&path, grace_s, "must not be set for readinessProbes");
        }
    }
    if let Some(probe) = &container.startup_probe {
        let path = path.child("startupProbe");
        one(probe, &path, errors);
        success_is_once(probe, &path, errors);
    }
    let Some(lifecycle) = &container.lifecycle else { return };
    let path = path.child("lifecycle");
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            hook_handler(hook, &path.child(field), errors);
        }
    }
}

fn success_is_once(probe: &Probe, path: &Path, errors: &mut FieldErrors) {
    if let Some(count) = probe.success_threshold.filter(|count| *count != 1) {
        errors.invalid(&path.child("successThreshold"), count, "must be 1");
    }
}

fn one(probe: &Probe, path: &Path, errors: &mut FieldErrors) {
    let given = [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    exactly_one(&given, path, errors);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.non_negative(&path.child(field), i64::from(value.unwrap_or(0)));
    }
    if let Some(grace_s) = probe.termination_grace_period_seconds.filter(|grace_s| *grace_s <= 0) {
        errors.invalid(&path.child("terminationGracePeriodSeconds"), grace_s, "must be greater than 0");
    }
    actions(probe.exec.as_ref(), probe.http_get.as_ref(), path, errors);
    if let Some(tcp) = &probe.tcp_socket {
        port(&tcp.port, &path.child("tcpSocket").child("port"), errors);
    }
    if let Some(grpc) = &probe.grpc {
        port_range(grpc.port, &path.child("grpc").child("port"), errors);
    }
}

fn hook_handler(hook: &LifecycleHandler, path: &Path, errors: &mut FieldErrors) {
    let given = [hook.exec.is_some(), hook.http_get.is_some(), hook.tcp_socket.is_some(), hook.sleep.is_some()];
    exactly_one(&given, path, errors);
    actions(hook.exec.as_ref(), hook.http_get.as_ref(), path, errors);
    if let Some(tcp) = &hook.tcp_socket {
        port(&tcp.port, &path.child("tcpSocket").child("port"), errors);
    }
    if let Some(sleep) = &hook.sleep {
        errors.non_negative(&path.child("sleep").child("seconds"), sleep.seconds);
    }
}

fn exactly_one(given: &[bool], path: &Path, errors: &mut FieldErrors) {
    match given.iter().filter(|given| **given).count() {
        0 => errors.required(path, "must specify a handler type"),
        1 => {}
        _ => errors.forbidden(path, "may not specify more than 1 handler type"),
    }
}

fn actions(exec: Option<&ExecAction>, http: Option<&HTTPGetAction>, path: &Path, errors: &mut FieldErrors) {
    if exec.is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) {
        errors.required(&path.child("exec").child("command"), "");
    }
    let Some(http) = http else { return };
    let path = path.child("httpGet");
    if http.path.as_deref().is_none_or(str::is_empty) {
        errors.required(&path.child("path"), "");
    }
    port(&http.port, &path.child("port"), errors);
    errors.one_of(&path.child("scheme"), http.scheme.as_deref(), &["HTTP", "HTTPS"]);
}

/// A port's number or name.
fn port(port: &IntOrString, path: &Path, errors: &mut FieldErrors) {
    match port {
        IntOrString::Int(number) => port_range(*number, path, errors),
        IntOrString::String(text) => errors.invalid_each(path, text, name::port_name(text)),
    }
}
