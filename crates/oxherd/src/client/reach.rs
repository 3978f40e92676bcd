//! Calls that reach workers, files and the snapshot without changing what is to run.

use oxherd_core::{Signal, Slot};

use super::call::escape;
use super::{Client, ClientError, Nothing};
use crate::api::{
    EnvView, Reached, SendLine, SendMessage, SignalApp, Snapshot, Specs, TriggerApp, Triggered,
};

impl Client {
    /// The configurations of apps.
    ///
    /// # Errors
    /// There is no such app (404), or see [`ClientError`].
    pub async fn specs(&self, selector: &str) -> Result<Specs, ClientError> {
        self.get(&format!("/v1/apps/{}/spec", escape(selector))).await
    }

    /// The environment of a worker: of the first slot unless another is meant.
    ///
    /// # Errors
    /// There is no such app or slot (404), the selector names several (400), or see [`ClientError`].
    pub async fn env(&self, selector: &str, slot: Option<Slot>) -> Result<EnvView, ClientError> {
        let query = slot.map(|slot| format!("?slot={}", slot.0)).unwrap_or_default();
        self.get(&format!("/v1/apps/{}/env{query}", escape(selector))).await
    }

    /// Sends a signal to the workers of apps, or of one slot of an app.
    ///
    /// # Errors
    /// There is no such app or slot (404), or see [`ClientError`].
    pub async fn signal(
        &self,
        selector: &str,
        signal: Signal,
        slot: Option<Slot>,
    ) -> Result<Reached, ClientError> {
        self.reach(selector, "signal", &SignalApp { signal: signal.to_string(), slot }).await
    }

    /// Writes a line to the standard input of workers.
    ///
    /// # Errors
    /// As for [`Self::signal`], and a worker does not read (409).
    pub async fn send_line(
        &self,
        selector: &str,
        line: &str,
        slot: Option<Slot>,
    ) -> Result<Reached, ClientError> {
        self.reach(selector, "send", &SendLine { line: line.to_owned(), slot }).await
    }

    /// Sends a message, one JSON value, to each worker that has a channel.
    ///
    /// # Errors
    /// As for [`Self::signal`], and it is no JSON ([`ClientError::Strange`]), or too much waits to be sent (409).
    pub async fn message(
        &self,
        selector: &str,
        message: &str,
        slot: Option<Slot>,
    ) -> Result<Reached, ClientError> {
        let message = serde_json::value::RawValue::from_string(message.to_owned())
            .map_err(|error| ClientError::Strange { what: format!("the message: {error}") })?;
        self.reach(selector, "message", &SendMessage { message, slot }).await
    }

    /// Has programs do an action that they have a name for, and waits for what they reply.
    ///
    /// # Errors
    /// As for [`Self::message`].
    pub async fn trigger(&self, selector: &str, action: &TriggerApp) -> Result<Triggered, ClientError> {
        self.change("POST", &format!("/v1/apps/{}/trigger", escape(selector)), action).await
    }

    /// Counts restarts and exits of apps anew.
    ///
    /// # Errors
    /// There is no such app (404), or see [`ClientError`].
    pub async fn reset(&self, selector: &str) -> Result<Reached, ClientError> {
        self.reach(selector, "reset", &Nothing {}).await
    }

    /// Empties the log files of the apps that `selector` names, or of all.
    ///
    /// # Errors
    /// There is no such app (404), a file cannot be cut (500), or see [`ClientError`].
    pub async fn flush_logs(&self, selector: Option<&str>) -> Result<Reached, ClientError> {
        let query = selector.map(|app| format!("?app={}", escape(app))).unwrap_or_default();
        self.change("POST", &format!("/v1/logs/flush{query}"), &Nothing {}).await
    }

    /// Saves what is wanted now as a snapshot, which [`Client::resurrect`] goes back to.
    ///
    /// # Errors
    /// It cannot be saved (409), or see [`ClientError`].
    pub async fn save(&self) -> Result<Snapshot, ClientError> {
        self.change("POST", "/v1/save", &Nothing {}).await
    }

    /// Removes the snapshot.
    ///
    /// # Errors
    /// It cannot be removed (409), or see [`ClientError`].
    pub async fn delete_save(&self) -> Result<Snapshot, ClientError> {
        self.change("DELETE", "/v1/save", &Nothing {}).await
    }

    async fn reach<B: serde::Serialize>(
        &self,
        selector: &str,
        what: &str,
        body: &B,
    ) -> Result<Reached, ClientError> {
        self.change("POST", &format!("/v1/apps/{}/{what}", escape(selector)), body).await
    }
}
