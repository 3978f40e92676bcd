//! Streams of events, taken apart. A stream that broke is told apart from one that ended.

use std::marker::PhantomData;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::ClientError;
use crate::api::Dropped;

/// The longest event, in bytes.
const EVENT_BYTES: usize = 4 << 20;
/// The daemon shows four times as often that it lives.
const SILENCE: Duration = Duration::from_secs(60);

/// A stream of events.
#[derive(Debug)]
pub struct Events<T> {
    body: Incoming,
    cutter: Cutter,
    name: &'static str,
    item: PhantomData<fn() -> T>,
}

/// What a stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// The next item.
    Item(T),
    /// So many items are missing here, because they were not read fast enough.
    Dropped(u64),
}

impl<T> Events<T> {
    pub(super) fn new(body: Incoming, name: &'static str) -> Self {
        Self { body, cutter: Cutter::default(), name, item: PhantomData }
    }
}

impl<T: DeserializeOwned> Events<T> {
    /// The next event, once there is one; `None` when the daemon has ended the stream. May be given up and called
    /// again: nothing is lost then.
    ///
    /// # Errors
    /// The connection broke ([`ClientError::Broken`]): what happens from now on is told by a new stream only.
    pub async fn next(&mut self) -> Result<Option<Told<T>>, ClientError> {
        loop {
            while let Some(event) = self.cutter.next_event() {
                if let Some(told) = self.read(&event)? {
                    return Ok(Some(told));
                }
            }
            let Some(bytes) = self.more().await? else { return Ok(None) };
            self.cutter.add(&bytes)?;
        }
    }

    async fn more(&mut self) -> Result<Option<Bytes>, ClientError> {
        let broken = |what: String| ClientError::Broken { what };
        let silent = |_| broken(format!("nothing came for {} s", SILENCE.as_secs()));
        match timeout(SILENCE, self.body.frame()).await.map_err(silent)? {
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(broken(error.to_string())),
            None => Ok(None),
        }
    }

    /// An event of a name that this client does not know is passed over.
    fn read(&self, event: &Event) -> Result<Option<Told<T>>, ClientError> {
        let strange = |error: serde_json::Error| ClientError::Strange { what: error.to_string() };
        if event.name == self.name {
            return serde_json::from_str(&event.data).map(|item| Some(Told::Item(item))).map_err(strange);
        }
        if event.name == "dropped" {
            let dropped: Dropped = serde_json::from_str(&event.data).map_err(strange)?;
            return Ok(Some(Told::Dropped(dropped.count)));
        }
        Ok(None)
    }
}

/// An event as it came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Cuts bytes into events; comments vanish.
#[derive(Debug, Default)]
struct Cutter {
    bytes: Vec<u8>,
    /// What of `bytes` is used up.
    used: usize,
    event: Event,
}

impl Cutter {
    fn add(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() + self.event.data.len() > EVENT_BYTES {
            return Err(ClientError::Strange {
                what: format!("an event is longer than {EVENT_BYTES} bytes"),
            });
        }
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event> {
        loop {
            let rest = self.bytes.get(self.used..)?;
            let length = rest.iter().position(|byte| *byte == b'\n')?;
            let line = String::from_utf8_lossy(rest.get(..length)?).into_owned();
            self.used += length + 1;
            if let Some(event) = self.on_line(line.trim_end_matches('\r')) {
                return Some(event);
            }
        }
    }

    fn on_line(&mut self, line: &str) -> Option<Event> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let event = std::mem::take(&mut self.event);
                return (!event.data.is_empty()).then_some(event);
            }
            "event" => self.event.name = value.to_owned(),
            "data" => self.event.data.push_str(value),
            _ => (),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_wherever_the_bytes_were() {
        let stream =
            ":\n\nevent: line\ndata: {\"a\":\"b: c\"}\n\n: x\nevent: dropped\r\ndata: {\"count\":3}\r\n\r\n";
        for step in 1..stream.len() {
            let mut cutter = Cutter::default();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(step) {
                cutter.add(piece).unwrap();
                events.extend(std::iter::from_fn(|| cutter.next_event()));
            }
            let found: Vec<_> =
                events.iter().map(|event| (event.name.as_str(), event.data.as_str())).collect();
            assert_eq!(found, [("line", "{\"a\":\"b: c\"}"), ("dropped", "{\"count\":3}")], "step {step}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut cutter = Cutter::default();
        let mut piece = || cutter.add(&[b'x'; 1 << 20]);
        assert!((0..4).all(|_| piece().is_ok()));
        assert!(piece().is_err());
    }
}
