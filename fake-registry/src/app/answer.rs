//! One answer, before it is sent: status, headers, which bytes, and how they are spoiled.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use parapull_scenario::registry::{FaultKind, RangeSupport};

use crate::blob::{BodyPlan, Ending, PacedBody, Source};
use crate::connection::ConnectionHandle;
use crate::journal::JournalPen;
use crate::layout::{Document, OciLayout};
use crate::range::RangeRequest;
use crate::throttle::TokenBucket;

/// What a body is taken from.
#[derive(Debug)]
pub(super) struct Object {
    source: Source,
    length: u64,
}

impl Object {
    pub(super) fn document(document: &Document) -> Self {
        Self::memory(document.bytes.clone())
    }

    fn memory(bytes: Vec<u8>) -> Self {
        Self {
            length: bytes.len() as u64,
            source: Source::Memory(Bytes::from(bytes)),
        }
    }

    /// A blob of a layout, if it is there.
    pub(super) fn open(layout: &OciLayout, digest: &str) -> Option<Self> {
        let path = layout.blob_path(digest).ok()?;
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        Some(Self {
            source: Source::File(file),
            length,
        })
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    object: Object,
    range: Range<u64>,
    /// Whether the body stands for an object, so that the journal tells its range.
    is_object: bool,
    length_delta_bytes: i64,
    spoiled_offset: Option<u64>,
    trickle: Option<Arc<TokenBucket>>,
    ending: Ending,
    fault: Option<FaultKind>,
}

impl Answer {
    pub(super) fn object(object: Object) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Vec::new(),
            range: 0..object.length,
            object,
            is_object: true,
            length_delta_bytes: 0,
            spoiled_offset: None,
            trickle: None,
            ending: Ending::Whole,
            fault: None,
        }
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            is_object: false,
            ..Self::object(Object::memory(Vec::new()))
        }
    }

    pub(super) fn json(bytes: Vec<u8>) -> Self {
        Self::object(Object::memory(bytes)).with_header(header::CONTENT_TYPE, "application/json")
    }

    /// An error in the form the distribution specification wants.
    pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let document = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self {
            status,
            is_object: false,
            ..Self::json(document.to_string().into_bytes())
        }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn with_digest(self, digest: &str) -> Self {
        self.with_header(HeaderName::from_static("docker-content-digest"), digest)
    }

    pub(super) fn with_retry_after(self, seconds: Option<u32>) -> Self {
        match seconds {
            Some(seconds) => self.with_header(header::RETRY_AFTER, &seconds.to_string()),
            None => self,
        }
    }

    /// The bytes a fault is looked up for.
    pub(super) fn asked_range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Narrows the answer to the asked range, in the way the registry supports ranges.
    pub(super) fn with_range(self, support: RangeSupport, header: Option<&str>) -> Self {
        let length = self.object.length;
        let asked = match support {
            RangeSupport::IgnoredWith200 => return self,
            _ => RangeRequest::parse(header, length),
        };
        let answer = match support {
            RangeSupport::NoAcceptRangesHeader => self,
            _ => self.with_header(header::ACCEPT_RANGES, "bytes"),
        };
        match (asked, support) {
            (RangeRequest::Whole, _) => answer,
            (RangeRequest::Unsatisfiable, _)
            | (RangeRequest::Bytes(_), RangeSupport::Refused416) => Self::error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "RANGE_INVALID",
                "no such bytes",
            )
            .with_header(header::CONTENT_RANGE, &format!("bytes */{length}")),
            (RangeRequest::Bytes(range), _) => answer.with_partial(range, support),
        }
    }

    fn with_partial(mut self, range: Range<u64>, support: RangeSupport) -> Self {
        let end = match support {
            RangeSupport::ShortenedTo { bytes } => {
                range.end.min(range.start.saturating_add(bytes.get()))
            }
            _ => range.end,
        };
        let shift = u64::from(support == RangeSupport::WrongContentRange);
        let content_range = format!(
            "bytes {}-{}/{}",
            range.start + shift,
            end - 1 + shift,
            self.object.length
        );
        self.status = StatusCode::PARTIAL_CONTENT;
        self.range = range.start..end;
        match support {
            RangeSupport::NoContentRange => self,
            _ => self.with_header(header::CONTENT_RANGE, &content_range),
        }
    }

    /// The answer a fault makes of this one.
    pub(super) fn spoiled_by(mut self, kind: FaultKind) -> Self {
        match kind {
            FaultKind::ResetAfter { bytes } | FaultKind::TruncatedAfter { bytes } => {
                self.ending = Ending::Cut {
                    after_bytes: bytes,
                    reset: matches!(kind, FaultKind::ResetAfter { .. }),
                };
            }
            FaultKind::StallAfter { bytes, stall_ms } => {
                self.ending = Ending::Stall {
                    after_bytes: bytes,
                    pause: stall_ms.map(|stall_ms| Duration::from_millis(u64::from(stall_ms))),
                };
            }
            FaultKind::CorruptByte { offset } => self.spoiled_offset = Some(offset),
            FaultKind::Trickle { bytes_per_second } => {
                self.trickle = std::num::NonZeroU64::new(bytes_per_second.max(1))
                    .map(TokenBucket::new)
                    .map(Arc::new);
            }
            FaultKind::WrongContentLength { delta_bytes } => {
                self.length_delta_bytes = delta_bytes;
                if delta_bytes > 0 {
                    // What was promised never comes, so the connection has to close once the rest has gone out.
                    self.ending = Ending::Cut {
                        after_bytes: self.range.end - self.range.start,
                        reset: false,
                    };
                }
            }
            FaultKind::WholeBodyForRange => {
                if self.status == StatusCode::PARTIAL_CONTENT {
                    self.status = StatusCode::OK;
                    self.range = 0..self.object.length;
                    self.headers
                        .retain(|(name, _)| *name != header::CONTENT_RANGE);
                }
            }
            FaultKind::WrongRange => {
                let total = self.object.length;
                let (start, end) = (self.range.start + 1, self.range.end);
                for (name, value) in &mut self.headers {
                    if *name == header::CONTENT_RANGE {
                        *value = format!("bytes {start}-{end}/{total}");
                    }
                }
            }
            FaultKind::Status {
                code,
                retry_after_seconds,
            } => {
                let status =
                    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                self = Self::error(status, error_code(status), "a fault")
                    .with_retry_after(retry_after_seconds);
            }
        }
        self.fault = Some(kind);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn fault(&self) -> Option<FaultKind> {
        self.fault
    }

    /// Builds the response; its body writes the journal entry to the end.
    pub(super) fn into_response(
        self,
        is_head: bool,
        mut buckets: Vec<Arc<TokenBucket>>,
        connection: &Arc<ConnectionHandle>,
        pen: JournalPen,
    ) -> Result<Response, http::Error> {
        let body_bytes = self.range.end - self.range.start;
        let content_length = body_bytes.saturating_add_signed(self.length_delta_bytes);
        let shows_range = self.is_object && !is_head;
        pen.edit(|entry| {
            entry.status = self.status.as_u16();
            entry.fault = self.fault;
            entry.range = shows_range.then(|| self.range.clone());
        });
        let mut response = Response::builder()
            .status(self.status)
            .header(header::CONTENT_LENGTH, content_length);
        for (name, value) in &self.headers {
            response = response.header(name, HeaderValue::from_str(value)?);
        }
        if is_head {
            pen.complete();
            return response.body(Body::empty());
        }
        buckets.extend(self.trickle);
        response.body(Body::new(PacedBody::new(BodyPlan {
            source: self.object.source,
            range: self.range,
            buckets,
            spoiled_offset: self.spoiled_offset,
            ending: self.ending,
            connection: Arc::clone(connection),
            pen,
        })))
    }
}

fn error_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "DENIED",
        StatusCode::NOT_FOUND => "BLOB_UNKNOWN",
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        StatusCode::RANGE_NOT_SATISFIABLE => "RANGE_INVALID",
        _ => "UNKNOWN",
    }
}
