//! Reviews: questions that are answered and forgotten. Owns: their answers' form. Does not own: the decisions
//! (authentication, authorization).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{
    SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo,
};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule,
    SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
};
use pintle_api::status;
use pintle_control_plan::authz::{self, Access, Asked, Decision, MASTERS, Rule, User};
use pintle_control_plan::request::ResourcePath;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Api;
use super::answer::{Failure, Outcome, json};
use super::input;
use crate::auth::AUDIENCE;

/// Answers a review; None if the path is none.
pub fn answer(api: &Arc<Api>, user: &User, path: &ResourcePath, content_type: &str, body: Bytes) -> Option<Outcome> {
    if path.version != "v1" {
        return None;
    }
    let json = input::to_json(content_type, body);
    Some(match (path.group.as_str(), path.resource.as_str()) {
        ("authentication.k8s.io", "selfsubjectreviews") => reply(json, |review: &mut SelfSubjectReview| {
            review.status = Some(SelfSubjectReviewStatus { user_info: Some(info(user)) });
            Ok(())
        }),
        ("authentication.k8s.io", "tokenreviews") => reply(json, |review| token(api, review)),
        ("authorization.k8s.io", "selfsubjectaccessreviews") => reply(json, |review| own_access(api, user, review)),
        ("authorization.k8s.io", "subjectaccessreviews") => reply(json, |review| access(api, review)),
        ("authorization.k8s.io", "localsubjectaccessreviews") => reply(json, |review| local(api, path, review)),
        ("authorization.k8s.io", "selfsubjectrulesreviews") => reply(json, |review: &mut SelfSubjectRulesReview| {
            review.status = Some(rules(user));
            Ok(())
        }),
        _ => return None,
    })
}

fn reply<T: DeserializeOwned + Serialize>(
    json_body: Result<Bytes, Failure>,
    fill: impl FnOnce(&mut T) -> Result<(), Failure>,
) -> Outcome {
    let mut review: T = serde_json::from_slice(&json_body?)
        .map_err(|error| status::bad_request(format!("cannot read the review: {error}")))?;
    fill(&mut review)?;
    Ok(json(StatusCode::CREATED, &review))
}

fn info(user: &User) -> UserInfo {
    let extra = (!user.extra.is_empty()).then(|| user.extra.clone());
    UserInfo {
        username: Some(user.name.clone()),
        uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
        groups: Some(user.groups.clone()),
        extra,
    }
}

fn token(api: &Arc<Api>, review: &mut TokenReview) -> Result<(), Failure> {
    let asked: Vec<&str> = review.spec.audiences.iter().flatten().map(String::as_str).collect();
    let audiences = if asked.is_empty() { vec![AUDIENCE] } else { asked };
    let found = api.auth.token(api, &review.spec.token, &audiences);
    let audiences = audiences.into_iter().map(ToOwned::to_owned).collect();
    review.status = Some(match found {
        Some(user) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(info(&user)),
            audiences: Some(audiences),
            error: None,
        },
        None => TokenReviewStatus {
            authenticated: Some(false),
            error: Some("the token is not valid for this server".to_owned()),
            ..TokenReviewStatus::default()
        },
    });
    // A token is not sent back.
    review.spec.token.clear();
    Ok(())
}

fn own_access(api: &Arc<Api>, user: &User, review: &mut SelfSubjectAccessReview) -> Result<(), Failure> {
    let spec = &review.spec;
    review.status = Some(decide(api, user, spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref())?);
    Ok(())
}

fn access(api: &Arc<Api>, review: &mut SubjectAccessReview) -> Result<(), Failure> {
    let spec = &review.spec;
    let user = User {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(status::bad_request(
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        )
        .into());
    }
    review.status = Some(decide(api, &user, spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref())?);
    Ok(())
}

fn local(api: &Arc<Api>, path: &ResourcePath, review: &mut LocalSubjectAccessReview) -> Result<(), Failure> {
    let named = review.spec.resource_attributes.as_ref().and_then(|asked| asked.namespace.as_deref());
    if named != Some(path.namespace.as_str()) {
        return Err(status::bad_request("spec.resourceAttributes.namespace must match metadata.namespace").into());
    }
    let mut wide = SubjectAccessReview { spec: review.spec.clone(), ..SubjectAccessReview::default() };
    access(api, &mut wide)?;
    review.status = wide.status;
    Ok(())
}

fn decide(
    api: &Arc<Api>,
    user: &User,
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) -> Result<SubjectAccessReviewStatus, Failure> {
    let text = |field: &'_ Option<String>| field.clone().unwrap_or_default();
    let decision = match (resource, path) {
        (Some(asked), None) => {
            let (verb, group, plural) = (text(&asked.verb), text(&asked.group), text(&asked.resource));
            let (subresource, namespace, name) = (text(&asked.subresource), text(&asked.namespace), text(&asked.name));
            let selector = asked.field_selector.as_ref().map(|selector| text(&selector.raw_selector));
            let access = Access {
                verb: &verb,
                group: &group,
                resource: &plural,
                subresource: &subresource,
                namespace: &namespace,
                name: &name,
                field_selector: selector.as_deref().unwrap_or_default(),
            };
            authz::authorize(user, &Asked::Resource(access), &**api)
        }
        (None, Some(asked)) => {
            let (verb, path) = (text(&asked.verb), text(&asked.path));
            authz::authorize(user, &Asked::Path { verb: &verb, path: &path }, &**api)
        }
        _ => {
            return Err(status::bad_request(
                "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
            .into());
        }
    };
    Ok(match decision {
        Decision::Allow => SubjectAccessReviewStatus { allowed: true, ..SubjectAccessReviewStatus::default() },
        Decision::Deny(reason) => SubjectAccessReviewStatus {
            allowed: false,
            reason: (!reason.is_empty()).then_some(reason),
            ..SubjectAccessReviewStatus::default()
        },
    })
}

fn rules(user: &User) -> SubjectRulesReviewStatus {
    let all = || vec!["*".to_owned()];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let resource = |rule: &Rule| ResourceRule {
        verbs: words(rule.verbs),
        api_groups: Some(words(rule.groups)),
        resources: Some(words(rule.resources)),
        resource_names: (!rule.names.is_empty()).then(|| words(rule.names)),
    };
    let mut resource_rules: Vec<ResourceRule> = authz::rules_of(user).map(resource).collect();
    if user.is_in(MASTERS) {
        resource_rules.insert(
            0,
            ResourceRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), resource_names: None },
        );
    }
    let paths =
        NonResourceRule { verbs: vec!["get".to_owned()], non_resource_urls: Some(words(&authz::paths_of(user))) };
    SubjectRulesReviewStatus {
        resource_rules,
        non_resource_rules: vec![paths],
        // What a node may do depends on its pods, which no list of rules can say.
        incomplete: authz::node_name(user).is_some(),
        evaluation_error: None,
    }
}
