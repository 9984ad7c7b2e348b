//! All routes and their OpenAPI description.

use axum::Json;
use axum::http::StatusCode;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;
use crate::state::AppState;
use crate::{api, events, health, sns_endpoint};

/// All routes, and their description.
pub(crate) fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(overview())
        .merge(api::routes())
        .routes(routes!(description))
        .merge(events::routes())
        .merge(sns_endpoint::routes())
        .merge(health::routes())
}

/// The OpenAPI description of the API, as JSON.
#[must_use]
pub fn openapi() -> String {
    let (_, description) = described().split_for_parts();
    description.to_pretty_json().unwrap_or_default()
}

/// The description of the API as a whole.
fn overview() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Rootwatch hub")
        .version("v1")
        .description(Some("Root use of AWS accounts: records in, incidents out."))
        .build();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key")));
    let components = ComponentsBuilder::new()
        .security_scheme("token", token)
        .security_scheme("api_key", key)
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// This description
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "health", operation_id = "described",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
async fn description() -> Result<Json<serde_json::Value>, Problem> {
    serde_json::from_str(&openapi()).map(Json).map_err(|error| {
        let detail = "the description is not available";
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail);
        problem.with_internal(Some(format!("the description is not JSON: {error}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_of_the_api_is_as_written() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/reference/openapi.json");
        let described = openapi() + "\n";
        if std::env::var_os("INSTA_UPDATE").is_some_and(|word| word == "always") {
            std::fs::write(&path, &described).expect("docs can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == described,
            "docs/reference/openapi.json differs from the code: run this test with INSTA_UPDATE=always"
        );
    }
}
