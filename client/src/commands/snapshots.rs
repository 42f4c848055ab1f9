//! Snapshots of all the data: CAIRN.SNAPSHOT.

use cairn_protocol::resp::Value;

use crate::client::Client;
use crate::cmd::Cmd;
use crate::error::Error;
use crate::reply::{FromValue, List, Pairs, unexpected};

/// What is known of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: Vec<u8>,
    /// When it was taken, in ms since the Unix epoch.
    pub taken_ms: u64,
    /// The last log entry that is whole in it.
    pub log_index: u64,
    /// Bytes that the data took when it was taken.
    pub live_bytes: u64,
    /// Blocks kept for it and for older ones alone.
    pub kept_blocks: u64,
}

/// What is known of all snapshots together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTotals {
    /// How many there are.
    pub count: u64,
    /// How many there may be.
    pub count_max: u64,
    /// Bytes that are kept for snapshots alone.
    pub kept_bytes: u64,
}

/// What a rollback does with snapshots that were taken after the one it goes back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaterSnapshots {
    /// Stand in the way: the rollback is refused.
    #[default]
    Refuse,
    /// Are dropped.
    Drop,
}

impl FromValue for Snapshot {
    fn from_value(value: Value) -> Result<Self, Error> {
        let mut snapshot = Snapshot::default();
        for (name, value) in Pairs::<String, Value>::from_value(value)?.0 {
            match name.as_str() {
                "name" => snapshot.name = Vec::from_value(value)?,
                "taken-ms" => snapshot.taken_ms = u64::from_value(value)?,
                "log-index" => snapshot.log_index = u64::from_value(value)?,
                "live-bytes" => snapshot.live_bytes = u64::from_value(value)?,
                "kept-blocks" => snapshot.kept_blocks = u64::from_value(value)?,
                // A newer server may know more.
                _ => {}
            }
        }
        match snapshot.name.is_empty() {
            true => unexpected("a snapshot with a name", &Value::Null),
            false => Ok(snapshot),
        }
    }
}

impl FromValue for SnapshotTotals {
    fn from_value(value: Value) -> Result<Self, Error> {
        let mut totals = SnapshotTotals::default();
        for (name, value) in Pairs::<String, Value>::from_value(value)?.0 {
            match name.as_str() {
                "count" => totals.count = u64::from_value(value)?,
                "count-max" => totals.count_max = u64::from_value(value)?,
                "kept-bytes" => totals.kept_bytes = u64::from_value(value)?,
                _ => {}
            }
        }
        Ok(totals)
    }
}

fn cmd(subcommand: &str) -> Cmd {
    Cmd::new("CAIRN.SNAPSHOT").arg(subcommand)
}

/// # Errors
/// All methods: see [`Error`]. Names have 1 to 255 bytes.
impl Client {
    /// CAIRN.SNAPSHOT CREATE: keeps the data of all databases as they are.
    pub async fn snapshot_create(&self, name: impl AsRef<[u8]>) -> Result<(), Error> {
        self.call(cmd("CREATE").arg(name)).await
    }

    /// CAIRN.SNAPSHOT DROP.
    pub async fn snapshot_drop(&self, name: impl AsRef<[u8]>) -> Result<(), Error> {
        self.call(cmd("DROP").arg(name)).await
    }

    /// CAIRN.SNAPSHOT ROLLBACK: makes the data those of the snapshot again, which stays.
    pub async fn snapshot_rollback(
        &self,
        name: impl AsRef<[u8]>,
        later: LaterSnapshots,
    ) -> Result<(), Error> {
        let cmd = cmd("ROLLBACK").arg(name);
        self.call(if later == LaterSnapshots::Drop { cmd.arg("DROPLATER") } else { cmd }).await
    }

    /// CAIRN.SNAPSHOT LIST: the newest first.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        Ok(self.call::<List<Snapshot>>(cmd("LIST")).await?.0)
    }

    /// CAIRN.SNAPSHOT INFO of one.
    pub async fn snapshot_info(&self, name: impl AsRef<[u8]>) -> Result<Snapshot, Error> {
        self.call(cmd("INFO").arg(name)).await
    }

    /// CAIRN.SNAPSHOT INFO of all together.
    pub async fn snapshot_totals(&self) -> Result<SnapshotTotals, Error> {
        self.call(cmd("INFO")).await
    }
}
