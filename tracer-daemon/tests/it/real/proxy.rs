//! A proxy between a scraper and leakline that notes which format the one asks for and the other gives.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// One request with its answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// What the scraper accepts.
    pub(super) accept: String,
    /// What it got.
    pub(super) content_type: String,
}

/// Serves until the tests end.
pub(super) struct RecordingProxy {
    pub(super) address: SocketAddr,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl RecordingProxy {
    pub(super) fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&exchanges);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A scraper that gives up is no reason to stop: it sees a failed scrape, and so does the test.
                if let Ok(exchange) = pass_on(client, upstream) {
                    noted.lock().unwrap().push(exchange);
                }
            }
        });
        Self { address, exchanges }
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }
}

/// Passes on one request and its answer, and closes both connections.
fn pass_on(client: TcpStream, upstream: SocketAddr) -> io::Result<Exchange> {
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut server = TcpStream::connect(upstream)?;
    let head = request.trim_end_matches("\r\n");
    write!(server, "{head}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    reader.into_inner().write_all(&answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(Exchange { accept: header(&request, "accept"), content_type: header(&answer, "content-type") })
}

/// The value of a header, empty where it is missing.
fn header(message: &str, name: &str) -> String {
    let fields = message.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(": "));
    let value = fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
    value.map_or_else(String::new, |(_, value)| value.to_owned())
}
