//! An HTTP/1.1 client that hides nothing: one socket, one request at a time, the failure as it was.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use serde_json::Value;

use crate::client::{Address, Connection, Failure, STEP};

/// The largest header line that is read.
const LINE_MAX: u64 = 64 << 10;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.text()))
    }

    /// A header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A connection that is used again and again.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Box<dyn Connection>>,
}

impl Client {
    /// Connects; each step may take [`STEP`].
    ///
    /// # Errors
    /// How it failed.
    pub fn connect(address: &Address) -> Result<Self, Failure> {
        Self::connect_within(address, STEP)
    }

    /// Connects with a bound for each step.
    ///
    /// # Errors
    /// How it failed.
    pub fn connect_within(address: &Address, step: Duration) -> Result<Self, Failure> {
        Ok(Self { stream: BufReader::new(address.connect(step)?) })
    }

    /// One request with its answer.
    ///
    /// # Errors
    /// How it failed.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        body: &[u8],
    ) -> Result<Response, Failure> {
        self.send(method, path, fields, body)?;
        self.receive(method)
    }

    /// A `GET` that leaves the connection open.
    ///
    /// # Errors
    /// How it failed.
    pub fn get(&mut self, path: &str) -> Result<Response, Failure> {
        self.request("GET", path, "", b"")
    }

    /// Sends a request; `fields` are whole header lines.
    ///
    /// # Errors
    /// How it failed.
    pub fn send(&mut self, method: &str, path: &str, fields: &str, body: &[u8]) -> Result<(), Failure> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}").into_bytes();
        if !body.is_empty() {
            request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).map_err(|error| Failure::of(&error))
    }

    /// Receives an answer.
    ///
    /// # Errors
    /// How it failed.
    pub fn receive(&mut self, method: &str) -> Result<Response, Failure> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| Failure::Wrong(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                _ if line.is_empty() => break,
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Err(Failure::Wrong(format!("no header field: {line:?}"))),
            }
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if method != "HEAD" && !matches!(status, 100..=199 | 204 | 304) {
            self.body(&mut response)?;
        }
        Ok(response)
    }

    fn body(&mut self, response: &mut Response) -> Result<(), Failure> {
        if response.header("transfer-encoding") == Some("chunked") {
            return self.chunks(&mut response.body);
        }
        match response.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => self.exactly(length, &mut response.body),
            Some(Err(error)) => Err(Failure::Wrong(error.to_string())),
            None => {
                self.stream.read_to_end(&mut response.body).map(drop).map_err(|error| Failure::of(&error))
            }
        }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| Failure::Wrong(line))?;
            self.exactly(length, body)?;
            self.line()?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn exactly(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), Failure> {
        let from = into.len();
        into.resize(from + length, 0);
        self.stream.read_exact(&mut into[from..]).map_err(|error| Failure::of(&error))
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let count = (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line);
        if count.map_err(|error| Failure::of(&error))? == 0 || !line.ends_with(b"\r\n") {
            return Err(Failure::EarlyEof);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(|error| Failure::Wrong(error.to_string()))
    }

    /// The raw connection, for what is no HTTP any more. Bytes that were read ahead are in the reader.
    pub fn into_stream(self) -> BufReader<Box<dyn Connection>> {
        self.stream
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// How it failed.
pub fn try_once(
    address: &Address,
    method: &str,
    path: &str,
    fields: &str,
    body: &[u8],
) -> Result<Response, Failure> {
    let fields = format!("Connection: close\r\n{fields}");
    Client::connect(address)?.request(method, path, &fields, body)
}

/// `GET` on a connection of its own.
pub fn get(address: &Address, path: &str) -> Response {
    let answer = try_once(address, "GET", path, "", b"");
    answer.unwrap_or_else(|failure| panic!("GET {path} from {address:?}: {failure:?}"))
}

/// `POST` on a connection of its own.
pub fn post(address: &Address, path: &str, content_type: &str, body: &str) -> Response {
    let answer =
        try_once(address, "POST", path, &format!("Content-Type: {content_type}\r\n"), body.as_bytes());
    answer.unwrap_or_else(|failure| panic!("POST {path} to {address:?}: {failure:?}"))
}
