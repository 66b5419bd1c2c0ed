//! A plain HTTP/1.1 GET over one loopback connection, for readiness and for measuring the registry's raw rate.
//!
//! It follows redirects and hands the body to a callback without keeping it. It speaks no TLS and sends no
//! credentials: the registry client under test is the snapshotter's, not this one.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Why a GET failed; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is not `http://host:port/path`.
    #[error("get {url}: only http:// URLs with a port are spoken here")]
    Url {
        /// The URL.
        url: String,
    },
    /// The connection broke.
    #[error("get {url}: {source}")]
    Connection {
        /// The URL.
        url: String,
        /// The cause.
        source: io::Error,
    },
    /// What came back is not HTTP, or a redirect without end.
    #[error("get {url}: {reason}")]
    Answer {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a GET brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Body bytes received.
    pub bytes: u64,
}

/// Gets `url`, optionally only a byte `range` (first, last), and passes the body on piece by piece.
///
/// # Errors
/// [`HttpError`]; a status other than 2xx is an answer, not an error.
pub fn get(
    url: &str,
    range: Option<(u64, u64)>,
    mut body: impl FnMut(&[u8]),
) -> Result<Response, HttpError> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTS_MAX {
        match once(&url, range, &mut body)? {
            Once::Done(response) => return Ok(response),
            Once::Redirect(location) => url = absolute(&url, &location),
        }
    }
    Err(HttpError::Answer {
        url,
        reason: "too many redirects".into(),
    })
}

enum Once {
    Done(Response),
    Redirect(String),
}

fn once(
    url: &str,
    range: Option<(u64, u64)>,
    body: &mut dyn FnMut(&[u8]),
) -> Result<Once, HttpError> {
    let (authority, path) = split(url).ok_or_else(|| HttpError::Url { url: url.into() })?;
    let broken = |source| HttpError::Connection {
        url: url.into(),
        source,
    };
    let mut stream = TcpStream::connect(authority).map_err(broken)?;
    stream
        .set_read_timeout(Some(READ_TIMEOUT))
        .map_err(broken)?;
    let range = range.map_or_else(String::new, |(first, last)| {
        format!("Range: bytes={first}-{last}\r\n")
    });
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\n{range}Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, stream);
    let head = head(&mut reader).map_err(broken)?;
    let answer = |reason: &str| HttpError::Answer {
        url: url.into(),
        reason: reason.into(),
    };
    let status = head
        .status
        .ok_or_else(|| answer("the answer is not HTTP"))?;
    if let (300..=399, Some(location)) = (status, head.location) {
        return Ok(Once::Redirect(location));
    }
    let bytes = if head.chunked {
        chunks(&mut reader, body).map_err(broken)?
    } else {
        drain(&mut reader, head.length, body).map_err(broken)?
    };
    if head.length.is_some_and(|length| length != bytes) {
        return Err(answer("the connection ended before the body"));
    }
    Ok(Once::Done(Response { status, bytes }))
}

#[derive(Default)]
struct Head {
    status: Option<u16>,
    length: Option<u64>,
    location: Option<String>,
    chunked: bool,
}

fn head(reader: &mut BufReader<TcpStream>) -> io::Result<Head> {
    let mut head = Head::default();
    let mut first = true;
    loop {
        let mut line = Vec::new();
        reader
            .by_ref()
            .take(HEADER_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(head);
        }
        if first {
            head.status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            first = false;
        } else if let Some((name, value)) = line.split_once(':') {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().ok(),
                "location" => head.location = Some(value.into()),
                "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
    }
}

fn drain(
    reader: &mut BufReader<TcpStream>,
    length: Option<u64>,
    body: &mut dyn FnMut(&[u8]),
) -> io::Result<u64> {
    let mut total = 0;
    while length.is_none_or(|length| total < length) {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        let left = length.map_or(u64::MAX, |length| length - total);
        let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        body(&piece[..take]);
        total += take as u64;
        reader.consume(take);
    }
    Ok(total)
}

fn chunks(reader: &mut BufReader<TcpStream>, body: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        reader
            .by_ref()
            .take(HEADER_BYTES_MAX)
            .read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if size == 0 {
            return Ok(total);
        }
        if drain(reader, Some(size), body)? != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        total += size;
        reader.by_ref().take(2).read_until(b'\n', &mut Vec::new())?;
    }
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    authority
        .contains(':')
        .then_some((authority, if path.is_empty() { "/" } else { path }))
}

fn absolute(base: &str, location: &str) -> String {
    match (location.starts_with('/'), split(base)) {
        (true, Some((authority, _))) => format!("http://{authority}{location}"),
        _ => location.into(),
    }
}

const REDIRECTS_MAX: u32 = 5;
const HEADER_BYTES_MAX: u64 = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Serves each answer to one connection.
    fn serve(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}/start")
    }

    #[test]
    fn reads_bodies_however_they_are_framed() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhellotrailing",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        ] {
            let url = serve(vec![answer.into()]);
            let mut body = Vec::new();
            let response = get(&url, None, |piece| body.extend_from_slice(piece)).unwrap();
            assert_eq!(
                (response.status, response.bytes, body.as_slice()),
                (200, 5, &b"hello"[..]),
                "{answer}"
            );
        }
    }

    #[test]
    fn follows_redirects_and_refuses_short_bodies() {
        let url = serve(vec![
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: /blob\r\nContent-Length: 0\r\n\r\n"
                .into(),
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nok".into(),
        ]);
        assert_eq!(get(&url, Some((0, 1)), |_| {}).unwrap().status, 206);
        let url = serve(vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".into(),
        ]);
        assert!(get(&url, None, |_| {}).is_err());
        assert!(get("https://registry.example/v2/", None, |_| {}).is_err());
    }
}
