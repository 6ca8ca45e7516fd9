//! Routes of grants: the hosts that each plugin may reach.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, GrantPatterns, Problem,
    extract::{Body, Params, Place},
    limits::{MAX_GRANTS, MAX_PATTERN_BYTES},
};

/// The grants of a plugin.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Host patterns (`name[:port]`, `*.name[:port]`) or templates over a connection's configuration that
    /// the plugin asked for (`{{ url }}`). At most 1,000 of at most 512 bytes.
    #[schema(example = json!(["api.example.org", "{{ url }}"]))]
    pub grants: Vec<String>,
}

/// One grant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GrantParams {
    /// The grant to take back; absent: all of them.
    pub pattern: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(get, put, revoke))
}

/// The hosts that a plugin may reach.
#[utoipa::path(get, path = "/plugins/{name}/grants", operation_id = "getGrants",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")),
    responses((status = 200, body = Grants), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(State(settings): State<ControlSettings>, Place(name): Place<String>) -> Result<Json<Grants>, Problem> {
    settings.store.plugin(&name).await?;
    Ok(Json(Grants { grants: settings.store.grants(&name).await? }))
}

/// Makes exactly these the hosts that a plugin may reach. Takes effect with the next run.
#[utoipa::path(put, path = "/plugins/{name}/grants", operation_id = "putGrants",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")), request_body = Grants,
    responses((status = 200, body = Grants), (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    Body(Grants { grants }): Body<Grants>,
) -> Result<Json<Grants>, Problem> {
    let plugin = settings.store.plugin(&name).await?;
    check(&grants, &asked(&plugin.permissions), settings.grant_patterns.as_ref())?;
    let now_ms = settings.now_ms();
    settings.store.set_grants(&name, &grants, now_ms).await?;
    settings.store.append_audit(caller.actor(), "plugin.grant", &name, &json!({"grants": grants}), now_ms).await?;
    Ok(Json(Grants { grants: settings.store.grants(&name).await? }))
}

/// Takes one grant back, or all.
#[utoipa::path(delete, path = "/plugins/{name}/grants", operation_id = "revokeGrants",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name."), GrantParams),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn revoke(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    Params(GrantParams { pattern }): Params<GrantParams>,
) -> Result<StatusCode, Problem> {
    let now_ms = settings.now_ms();
    match &pattern {
        Some(pattern) => settings.store.revoke(&name, pattern).await?,
        None => settings.store.set_grants(&name, &[], now_ms).await?,
    }
    settings.store.append_audit(caller.actor(), "plugin.revoke", &name, &json!({"pattern": pattern}), now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The hosts that a plugin asks for.
fn asked(permissions: &Value) -> Vec<String> {
    let hosts = permissions.get("hosts").and_then(Value::as_array);
    hosts.into_iter().flatten().filter_map(|host| host.as_str().map(str::to_owned)).collect()
}

/// Refuses what can be no grant: with it, every run would fail.
fn check(grants: &[String], asked: &[String], patterns: &dyn GrantPatterns) -> Result<(), Problem> {
    if grants.len() > MAX_GRANTS {
        return Err(Problem::invalid(format!("{} grants are more than the limit of {MAX_GRANTS}", grants.len())));
    }
    for grant in grants {
        let template = grant.trim_start().starts_with("{{") && grant.trim_end().ends_with("}}");
        let blank = grant.trim().is_empty() || (!template && grant.contains(char::is_whitespace));
        if blank || grant.len() > MAX_PATTERN_BYTES || grant.contains(char::is_control) {
            let detail = format!(
                "{grant:?} is no grant: use 'name[:port]', '*.name[:port]' or '{{{{ setting }}}}', at most {MAX_PATTERN_BYTES} bytes"
            );
            return Err(Problem::invalid(detail));
        }
        patterns.check(grant, asked).map_err(Problem::invalid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct AnyPattern;

    impl GrantPatterns for AnyPattern {
        fn check(&self, _: &str, _: &[String]) -> Result<(), String> {
            Ok(())
        }
    }

    fn check(grants: &[String]) -> Result<(), Problem> {
        super::check(grants, &[], &AnyPattern)
    }

    #[test]
    fn hosts_and_templates_pass_and_nonsense_does_not() {
        let verdict = |grant: &str| check(&[grant.to_owned()]).is_ok();
        for good in ["example.org", "*.example.org:8443", "{{ url }}", "[::1]:80"] {
            assert!(verdict(good), "{good}");
        }
        for bad in ["", "  ", "a b", "a\nb", "{{ url", &"x".repeat(MAX_PATTERN_BYTES + 1)] {
            assert!(!verdict(bad), "{bad:?}");
        }
        assert!(verdict(&"x".repeat(MAX_PATTERN_BYTES)));
        assert!(check(&vec!["a".to_owned(); MAX_GRANTS]).is_ok());
        assert!(check(&vec!["a".to_owned(); MAX_GRANTS + 1]).is_err());
    }
}
