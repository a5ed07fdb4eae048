//! A server on this machine that speaks as much of the Hugging Face Hub as a download needs.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::Result;

/// The parts of a request that the tests look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// An answer, written as it is; the connection ends with it.
pub type Answer = Vec<u8>;

pub struct Server {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers every request by `answer`, which is told how many have been before it.
    pub fn start(answer: impl Fn(usize, &Request) -> Answer + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no fault of the server.
                let _ = stream.and_then(|stream| serve(stream, &answer, &log));
            }
        });
        Ok(Self { endpoint, requests })
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("requests").clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(usize, &Request) -> Answer,
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut request = Request::default();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_lowercase().as_str() {
                "range" => request.range = Some(value.into()),
                "authorization" => request.authorization = Some(value.into()),
                _ => {}
            }
        } else if let Some(path) = line.split(' ').nth(1) {
            request.path = path.into();
        }
    }
    let count = {
        let mut log = log.lock().expect("log");
        log.push(request.clone());
        log.len() - 1
    };
    stream.write_all(&answer(count, &request))
}

pub fn status(code: u16) -> Answer {
    format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

/// The answer to a request for a list of files.
pub fn list(names: &[&str]) -> Answer {
    let files: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"rfilename":"{name}"}}"#))
        .collect();
    let json = format!(r#"{{"sha":"c0ffee","siblings":[{}]}}"#, files.join(","));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{json}", json.len()).into_bytes()
}

/// The answer to a request for `file` or for the rest of it.
pub fn part(file: &[u8], request: &Request) -> Answer {
    part_named(file, request, "e7a9")
}

/// [`part`] with a given etag.
pub fn part_named(file: &[u8], request: &Request, etag: &str) -> Answer {
    let range = request
        .range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes="));
    let (start, end) = range
        .and_then(|range| range.split_once('-'))
        .unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap_or(0);
    let end = end.parse().map_or(file.len(), |end: usize| end + 1);
    if start >= end {
        return status(416);
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nX-Repo-Commit: c0ffee\r\n\
         ETag: \"{etag}\"\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\r\n",
        end - 1,
        file.len(),
        end - start
    );
    [head.as_bytes(), &file[start..end]].concat()
}

/// True if a request asks for more than the size of the file.
pub fn wants_data(request: &Request) -> bool {
    request.range.as_deref() != Some("bytes=0-0")
}
