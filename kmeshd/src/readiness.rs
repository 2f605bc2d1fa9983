//! Readiness as tokens: the daemon is ready when nothing holds it back any more.
//!
//! Whoever must do something first takes a [`Token`] with its name and drops it when done; until
//! then the token may say why it takes long. Readiness, once reached, can be lost again by a new
//! token (a reading of the kernel that found it wrong).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What holds the daemon back, by name: why.
type Reasons = BTreeMap<&'static str, String>;

/// Whether the daemon is ready.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reasons: Mutex<Reasons>,
    ready: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        let (ready, _) = watch::channel(false);
        Self(Arc::new(Inner { reasons: Mutex::default(), ready }))
    }
}

impl Readiness {
    /// Holds the daemon back until the token is dropped.
    pub fn hold(&self, name: &'static str, why: impl Into<String>) -> Token {
        self.reasons().insert(name, why.into());
        self.0.ready.send_replace(false);
        Token { name, readiness: self.clone() }
    }

    /// What holds it back: "name: why". Empty when ready.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.reasons().iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }

    /// Follows whether it is ready.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        // A map of texts is whole after any panic.
        self.0.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds readiness back; released by drop.
#[derive(Debug)]
#[must_use = "it holds readiness back only while it lives"]
pub struct Token {
    name: &'static str,
    readiness: Readiness,
}

impl Token {
    /// Says why it takes long.
    pub fn because(&self, why: impl Into<String>) {
        self.readiness.reasons().insert(self.name, why.into());
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut reasons = self.readiness.reasons();
        reasons.remove(self.name);
        let ready = reasons.is_empty();
        drop(reasons);
        self.readiness.0.ready.send_replace(ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_token_is_dropped_and_not_before() {
        let readiness = Readiness::default();
        let first = readiness.hold("first", "not done");
        let second = readiness.hold("second", "not done");
        let watch = readiness.watch();
        drop(first);
        second.because("the file is missing");
        assert_eq!(readiness.pending(), ["second: the file is missing"]);
        assert!(!*watch.borrow());
        drop(second);
        assert!(readiness.pending().is_empty());
        assert!(*watch.borrow());
        let again = readiness.hold("again", "not done");
        assert!(!*watch.borrow());
        drop(again);
        assert!(*watch.borrow());
    }
}
