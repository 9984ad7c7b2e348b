//! Reads bodies within bounds.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use rootwatch_engine::{EngineHandle, MemoryPermit};

use crate::problem::{Problem, refusal};
use crate::{metrics, sns};

/// Bytes that are allocated for a body at once; the rest as it arrives.
const BODY_BYTES_AT_ONCE: usize = 256 << 10;
/// Largest body in bytes that holds no records: a note on an incident.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 16 << 10;

/// Reads a body within its own bound and that of all waiting bytes.
pub(crate) async fn read_body(
    endpoint: &'static str,
    engine: &EngineHandle,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<(Bytes, MemoryPermit), Problem> {
    let too_large = || {
        metrics::refused(endpoint, "too_large");
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    let stated: usize = stated.and_then(|text| text.parse().ok()).unwrap_or(0);
    if stated > bytes_max {
        return Err(too_large());
    }
    let permit =
        if endpoint == sns::ENDPOINT { engine.permit_for_stranger() } else { engine.permit(0) };
    let mut permit = permit.map_err(|error| refusal(endpoint, error))?;
    let mut bytes = BytesMut::with_capacity(stated.min(BODY_BYTES_AT_ONCE));
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let Ok(frame) = frame else {
            metrics::refused(endpoint, "unreadable");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the body ended early"));
        };
        if bytes.len() + frame.len() > bytes_max {
            return Err(too_large());
        }
        permit.grow(frame.len()).map_err(|error| refusal(endpoint, error))?;
        bytes.extend_from_slice(&frame);
    }
    Ok((bytes.freeze(), permit))
}
