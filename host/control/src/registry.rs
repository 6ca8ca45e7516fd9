//! Routes of the registry: browse packages of connectors, see what each may touch and what was verified, install one.
//!
//! Must never trust a package for being in the registry: what is installed is checked like an upload, and by its digest.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use thimble_record::Failure;
use thimble_registry::{Index, Limits, Release};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    extract::{Body, Params, Place},
    page::{Page, PageParams, cut, page_size},
    plugins::{self, Activate},
    runs::Run,
};

/// Where packages come from.
#[async_trait]
pub trait Packages: Send + Sync + 'static {
    /// What there is.
    async fn index(&self) -> Result<Arc<Index>, Failure>;

    /// The bytes of a release's component, as they came: the caller compares the digest.
    async fn component(&self, release: &Release) -> Result<Vec<u8>, Failure>;
}

/// A package, at one of its versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// Who published it, as whoever keeps the registry says.
    pub publisher: String,
    pub title: String,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// Version of the plugin interface.
    pub api_version: String,
    /// What it asks for: `hosts`, `memory_mib`, `reads_secrets`.
    #[schema(value_type = Object)]
    pub permissions: thimble_registry::Permissions,
    /// Names of its streams, where they are the same for everyone.
    pub streams: Vec<String>,
    /// Markdown.
    pub docs: String,
    /// What was checked before it was taken in.
    pub verified: Vec<String>,
}

fn package(name: &str, version: &semver::Version, release: &Release) -> Package {
    let Release { digest, size, api_version, title, docs, permissions, streams, publisher, verified } = release.clone();
    Package {
        name: name.to_owned(),
        version: version.to_string(),
        publisher,
        title,
        digest,
        size,
        api_version: api_version.to_string(),
        permissions,
        streams,
        docs,
        verified,
    }
}

/// Which packages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SearchParams {
    /// Words that all occur in the name, the title, a host or a stream; absent: all packages.
    q: Option<String>,
    /// Items of a page, 1 to 1,000; 100 where absent.
    limit: Option<u32>,
    /// `next` of the page before; without `q` only.
    cursor: Option<String>,
}

/// What is to be installed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InstallSpec {
    /// Absent: the newest.
    pub version: Option<String>,
    /// The digest that was looked at; the installation is refused where the registry has another one by now.
    pub digest: Option<String>,
    /// `safe` (absent): runs use it unless it asks for more than the active version; `never`.
    pub activate: Activate,
}

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    OpenApiRouter::new().routes(routes!(search)).routes(routes!(versions)).routes(routes!(get)).routes(routes!(install))
}

async fn index(settings: &ControlSettings) -> Result<Arc<Index>, Problem> {
    let Some(packages) = &settings.packages else {
        return Err(Problem::invalid("this installation has no registry: name one by the setting `registry`"));
    };
    packages.index().await.map_err(|failure| Problem::registry(&failure))
}

/// The packages at their newest versions, by name, or the best matches first.
#[utoipa::path(get, path = "/registry/packages", operation_id = "searchPackages",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "registry", params(SearchParams),
    responses((status = 200, body = Page<Package>), (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn search(
    State(settings): State<ControlSettings>,
    Params(SearchParams { q, limit, cursor }): Params<SearchParams>,
) -> Result<Json<Page<Package>>, Problem> {
    let index = index(&settings).await?;
    if let Some(query) = q.filter(|query| !query.trim().is_empty()) {
        let found = index.search(&query, &Limits::default());
        let items = found.into_iter().take(page_size(limit) as usize);
        let items = items.map(|found| package(found.name, found.version, found.release)).collect();
        return Ok(Json(Page { items, next: None }));
    }
    let latest = index.entries().filter_map(|(name, entry)| {
        let (version, release) = entry.latest()?;
        Some(package(name, version, release))
    });
    Ok(Json(cut(latest.collect(), &PageParams { limit, cursor }, |package| package.name.as_str())))
}

/// The versions of a package, the newest first.
#[utoipa::path(get, path = "/registry/packages/{name}", operation_id = "listPackageVersions",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "registry",
    params(("name" = String, Path, description = "The package's name.")),
    responses((status = 200, body = Page<Package>), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn versions(
    State(settings): State<ControlSettings>,
    Place(name): Place<String>,
) -> Result<Json<Page<Package>>, Problem> {
    let index = index(&settings).await?;
    let entry = index.entry(&name).ok_or_else(|| Problem::not_found("package", &name))?;
    let items = entry.versions.iter().rev().map(|(version, release)| package(&name, version, release)).collect();
    Ok(Json(Page { items, next: None }))
}

/// One version of a package.
#[utoipa::path(get, path = "/registry/packages/{name}/{version}", operation_id = "getPackage",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "registry",
    params(("name" = String, Path, description = "The package's name."),
        ("version" = String, Path, description = "The version.")),
    responses((status = 200, body = Package), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(settings): State<ControlSettings>,
    Place((name, version)): Place<(String, String)>,
) -> Result<Json<Package>, Problem> {
    let index = index(&settings).await?;
    let (version, release) = find(&index, &name, Some(&version))?;
    Ok(Json(package(&name, &version, release)))
}

fn find<'a>(index: &'a Index, name: &str, version: Option<&str>) -> Result<(semver::Version, &'a Release), Problem> {
    let entry = index.entry(name).ok_or_else(|| Problem::not_found("package", name))?;
    let Some(wanted) = version else {
        let newest = entry.latest().ok_or_else(|| Problem::not_found("package", name))?;
        return Ok((newest.0.clone(), newest.1));
    };
    let unknown = || Problem::not_found("version", &format!("{name} {wanted}"));
    let wanted: semver::Version = wanted.parse().map_err(|_| unknown())?;
    let release = entry.versions.get(&wanted).ok_or_else(unknown)?;
    Ok((wanted, release))
}

/// Fetches a package and queues its installation, as of an upload.
#[utoipa::path(post, path = "/registry/packages/{name}/install", operation_id = "installPackage",
    extensions(("x-roles" = json!(["operator", "admin"]))), tag = "registry",
    params(("name" = String, Path, description = "The package's name.")), request_body = InstallSpec,
    responses((status = 202, body = Run, headers(("Location" = String, description = "Path of the run."))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")))]
async fn install(
    State(settings): State<ControlSettings>,
    caller: Caller,
    Place(name): Place<String>,
    Body(InstallSpec { version, digest, activate }): Body<InstallSpec>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let index = index(&settings).await?;
    let (version, release) = find(&index, &name, version.as_deref())?;
    if digest.is_some_and(|looked_at| looked_at != release.digest) {
        let detail = format!("{name} {version} has the digest {} in the registry, not the one given", release.digest);
        return Err(Problem::conflict(detail));
    }
    plugins::refuse_too_many(&settings).await?;
    let packages = settings.packages.as_ref().ok_or_else(Problem::internal)?;
    let bytes = packages.component(release).await.map_err(|failure| Problem::registry(&failure))?;
    if hex::encode(Sha256::digest(&bytes)) != release.digest {
        let detail =
            format!("the component of {name} {version} is not the one that the registry lists: do not trust it");
        return Err(Problem::conflict(detail));
    }
    let origin = json!({"package": name, "version": version.to_string()});
    plugins::install(&settings, &caller, bytes, activate, origin).await
}
