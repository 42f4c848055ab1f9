//! Texts gathered before it is known how many they are, in one buffer.

use cairn_protocol::resp::Writer;
use cairn_store::Value;

/// Texts, in the order in which they were pushed.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Gathered {
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// Adds a text that may lie in pieces.
    pub(crate) fn push_value(&mut self, value: Value<'_>) -> cairn_store::Result<()> {
        value.read(0..value.len(), |piece| self.bytes.extend_from_slice(piece))?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Replies with the texts, a bulk string each, without a header.
    pub(crate) fn reply(&self, w: &mut Writer<'_>) {
        for text in self.iter() {
            w.bulk(text);
        }
    }
}
