//! Reads bodies within bounds.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use rootwatch_engine::{Ingest, Room};

use crate::problem::{Problem, refusal};
use crate::{metrics, sns};

/// Bytes that are set aside for a body at once; the rest as it comes.
const BODY_BYTES_AT_ONCE: usize = 256 << 10;
/// Bytes of a body that is no records: a note on an incident.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 16 << 10;

/// Reads a body within bounds: its own, and those of all that is held at one time.
pub(crate) async fn read_body(
    door: &'static str,
    ingest: &Ingest,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<(Bytes, Room), Problem> {
    let too_large = || {
        metrics::refused(door, "too_large");
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    let stated: usize = stated.and_then(|text| text.parse().ok()).unwrap_or(0);
    if stated > bytes_max {
        return Err(too_large());
    }
    let room = if door == sns::DOOR { ingest.room_for_strangers() } else { ingest.room(0) };
    let mut room = room.map_err(|error| refusal(door, error))?;
    let mut bytes = BytesMut::with_capacity(stated.min(BODY_BYTES_AT_ONCE));
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let Ok(frame) = frame else {
            metrics::refused(door, "unreadable");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the body ended early"));
        };
        if bytes.len() + frame.len() > bytes_max {
            return Err(too_large());
        }
        room.grow(frame.len()).map_err(|error| refusal(door, error))?;
        bytes.extend_from_slice(&frame);
    }
    Ok((bytes.freeze(), room))
}
