//! Signature Version 4 of one call.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use url::Url;

use crate::{Call, Service};

/// The headers of a signed call, except for its content type. The error is in words.
pub(crate) fn headers(
    call: &Call,
    url: &Url,
    region: &str,
    credentials: &Credentials,
    at: SystemTime,
) -> Result<Vec<(String, String)>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the call cannot be signed: {error}");
    let mut settings = SigningSettings::default();
    if call.service == Service::S3 {
        // S3 takes paths as they are, percent-encoded once, and requires the body's hash as a header.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(call.service.name)
        .time(at)
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let own = call.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let request = SignableRequest::new(
        call.method.as_str(),
        url.as_str(),
        own.chain([("content-type", call.content_type)]),
        SignableBody::Bytes(&call.body),
    )
    .map_err(|error| failed(&error))?;
    let (instructions, _) =
        sign(request, &parameters).map_err(|error| failed(&error))?.into_parts();
    let mut all: Vec<(String, String)> =
        call.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let (more, _) = instructions.into_parts();
    all.extend(
        more.into_iter().map(|header| (header.name().to_owned(), header.value().to_owned())),
    );
    Ok(all)
}
