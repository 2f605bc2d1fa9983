//! The end as tokens: a thread that must come to a good place before the process ends holds a
//! [`Running`]; [`Shutdown::finished`] waits until all are dropped. It never waits for ever: what
//! is left behind is safe at every instruction, waiting is only tidy.

use std::time::Duration;

use tokio::sync::mpsc;

/// Waits for the threads that hold a [`Running`].
#[derive(Debug)]
pub struct Shutdown {
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// Lives as long as its thread works; released by drop.
#[derive(Clone, Debug)]
pub struct Running {
    _alive: mpsc::Sender<()>,
}

impl Default for Shutdown {
    fn default() -> Self {
        let (alive, ended) = mpsc::channel(1);
        Self { alive, ended }
    }
}

impl Shutdown {
    /// A token for one more thread.
    #[must_use]
    pub fn running(&self) -> Running {
        Running { _alive: self.alive.clone() }
    }

    /// Waits until every token is dropped; false if that took longer than `patience`.
    pub async fn finished(self, patience: Duration) -> bool {
        let Self { alive, mut ended } = self;
        drop(alive);
        tokio::time::timeout(patience, ended.recv()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_for_every_token_but_not_for_ever() {
        let end = Shutdown::default();
        let running = end.running();
        assert!(!end.finished(Duration::from_millis(20)).await);
        drop(running);
        let end = Shutdown::default();
        let running = end.running();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(running);
        });
        assert!(end.finished(Duration::from_secs(5)).await);
    }
}
