//! What clients did and saw, in the words of a judge that knows nothing of Cairn.

use std::fmt;

/// A value that clients write. No two writes of a history write the same one, so that whoever reads
/// it tells which write it saw.
pub type Value = u64;

/// What a key holds; None: there is no such key, as at the start.
pub type State = Option<Value>;

/// One operation on one key.
///
/// It takes effect at one moment between the two times, which are of any unit that all operations
/// of a history share. Two operations of which one ends when the other begins count as concurrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub client: u64,
    /// The key.
    pub key: u64,
    /// When it was sent, or just before.
    pub invoked: u64,
    /// When its answer was there. None: none came, or one that leaves it open whether it was
    /// executed: it may take effect at any time from `invoked` on, or never.
    pub returned: Option<u64>,
    /// What the key held when it took effect, as far as that is known.
    pub saw: Option<State>,
    /// What it left there; None: what was there.
    pub wrote: Option<Value>,
}

impl Operation {
    /// A write that was acknowledged.
    pub fn write(client: u64, key: u64, value: Value, invoked: u64, returned: u64) -> Operation {
        let returned = Some(returned);
        Operation { client, key, invoked, returned, saw: None, wrote: Some(value) }
    }

    /// A read that was answered.
    pub fn read(client: u64, key: u64, saw: State, invoked: u64, returned: u64) -> Operation {
        let returned = Some(returned);
        Operation { client, key, invoked, returned, saw: Some(saw), wrote: None }
    }

    /// A write that was told, or had demanded, what it replaced: SET with GET, GETSET, a
    /// compare-and-set that succeeded.
    pub fn swap(
        client: u64,
        key: u64,
        (saw, value): (State, Value),
        invoked: u64,
        returned: u64,
    ) -> Operation {
        let returned = Some(returned);
        Operation { client, key, invoked, returned, saw: Some(saw), wrote: Some(value) }
    }

    /// The same without an answer. A compare-and-set keeps what it demands in `saw`; what any other
    /// operation would have seen is forgotten by whoever calls this.
    pub fn unanswered(self) -> Operation {
        Operation { returned: None, ..self }
    }
}

/// Without the times, which mean something beside others only.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = |state: State| state.map_or_else(|| "nothing".into(), |v| v.to_string());
        write!(f, "client {} ", self.client)?;
        match (self.saw, self.wrote) {
            (None, Some(value)) => write!(f, "writes {value}"),
            (Some(saw), Some(value)) => write!(f, "writes {value} in place of {}", state(saw)),
            (Some(saw), None) => write!(f, "reads {}", state(saw)),
            (None, None) => write!(f, "reads"),
        }
    }
}
