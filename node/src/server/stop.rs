//! How the process is told to end: by a signal, by SHUTDOWN, or because the shard has failed.

use std::sync::OnceLock;

use tokio::sync::Notify;

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A signal of this name asked for it.
    Signal(&'static str),
    /// A client sent SHUTDOWN.
    Command,
    /// The shard cannot go on; what happened and what to do.
    Failed(String),
}

/// Asked once; everyone may look.
#[derive(Debug, Default)]
pub struct Stop {
    why: OnceLock<Why>,
    asked: Notify,
}

impl Stop {
    /// Asks the process to end. The first reason stays.
    pub fn ask(&self, why: Why) {
        if self.why.set(why).is_ok() {
            self.asked.notify_one();
        }
    }

    /// The reason, once there is one.
    pub fn why(&self) -> Option<&Why> {
        self.why.get()
    }

    /// Waits until the process is asked to end.
    pub async fn wait(&self) -> Why {
        loop {
            if let Some(why) = self.why.get() {
                return why.clone();
            }
            self.asked.notified().await;
        }
    }
}
