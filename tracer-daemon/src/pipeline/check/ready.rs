//! `--ready-url`: whether a server answers.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one question.
const PATIENCE: Duration = Duration::from_secs(2);
/// So much of the answer is read: the first line and more.
const ANSWER_BYTES: usize = 64;

/// Why a text is no URL that can be asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("must be like http://127.0.0.1:8080/healthz (no https, no user, no fragment)")]
pub struct UrlError;

/// `http://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyUrl {
    /// `HOST:PORT`, to connect to.
    address: String,
    /// As in the URL.
    host: String,
    path: String,
}

impl FromStr for ReadyUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let rest = url.strip_prefix("http://").ok_or(UrlError)?;
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_bad = |text: &str| text.contains(|letter: char| letter.is_control() || letter.is_whitespace());
        if host.is_empty() || host.contains('@') || is_bad(url) || url.contains('#') {
            return Err(UrlError);
        }
        // The colons of an IPv6 address are in brackets.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { address, host: host.to_owned(), path: format!("{slash}{path}") })
    }
}

impl ReadyUrl {
    /// Whether the answer is 2xx. Nobody listening, another status, and no answer in two seconds are all no.
    pub(super) async fn answers(&self) -> bool {
        timeout(PATIENCE, self.ask()).await.ok().flatten().is_some_and(|status| (200..300).contains(&status))
    }

    async fn ask(&self) -> Option<u16> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.host);
        let mut left = request.as_bytes();
        while !left.is_empty() {
            stream.ready(Interest::WRITABLE).await.ok()?;
            match stream.try_write(left) {
                Ok(written) => left = left.get(written..)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        while answer.len() < ANSWER_BYTES && !answer.contains(&b'\n') {
            stream.ready(Interest::READABLE).await.ok()?;
            let mut part = [0; ANSWER_BYTES];
            match stream.try_read(&mut part) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(part.get(..read)?),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        status(&answer)
    }
}

/// `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = str::from_utf8(answer.split(|byte| *byte == b'\n').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn urls_are_split() {
        let of = |url: &str| url.parse::<ReadyUrl>().map(|url| (url.address, url.path));
        assert_eq!(of("http://127.0.0.1:8080/ready?x=1"), Ok(("127.0.0.1:8080".into(), "/ready?x=1".into())));
        assert_eq!(of("http://localhost"), Ok(("localhost:80".into(), "/".into())));
        assert_eq!(of("http://[::1]:9/"), Ok(("[::1]:9".into(), "/".into())));
        assert_eq!(of("http://[::1]"), Ok(("[::1]:80".into(), "/".into())));
        assert_eq!(of("http://h?q"), Ok(("h:80".into(), "/?q".into())));
        for bad in ["https://h/", "h", "http://", "http://a@b/", "http://h/\r\nX: y", "http://h/#x"] {
            assert_eq!(of(bad), Err(UrlError), "{bad}");
        }
    }

    #[test]
    fn only_an_answer_of_2xx_is_ready() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"SSH-2.0-x\r\n"), None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: ReadyUrl = format!("http://{}/ready", listener.local_addr().unwrap()).parse().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 503 Wait\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /ready HTTP/1.0\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(async { [url.answers().await, url.answers().await] }), [false, true]);
        server.join().unwrap();
        assert!(!runtime.block_on(url.answers()), "nobody listens");
    }
}
