//! One request under construction.

use cairn_protocol::number::IntText;
use cairn_protocol::resp::{Proto, Writer};

/// A request: a command's name and its arguments, encoded as they are added.
#[derive(Clone, Debug)]
pub struct Cmd {
    /// The arguments as bulk strings, without the count that goes before them.
    body: Vec<u8>,
    count: usize,
}

impl Cmd {
    /// Starts a request; `name` may hold a subcommand after a space, as in `"CONFIG GET"`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let cmd = Self { body: Vec::with_capacity(64), count: 0 };
        name.split(' ').fold(cmd, Self::arg)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        Writer::new(&mut self.body, Proto::Resp2).bulk(arg.as_ref());
        self.count += 1;
        self
    }

    /// Adds several.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds an integer.
    #[must_use]
    pub fn int(self, value: i64) -> Self {
        self.arg(IntText::signed(value).as_bytes())
    }

    /// Adds an unsigned integer.
    #[must_use]
    pub fn uint(self, value: u64) -> Self {
        self.arg(IntText::unsigned(value).as_bytes())
    }

    /// Adds a word if `present`.
    #[must_use]
    pub fn flag(self, word: &str, present: bool) -> Self {
        if present { self.arg(word) } else { self }
    }

    /// Appends the whole request to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.body.len() + 16);
        Writer::new(out, Proto::Resp2).array(self.count);
        out.extend_from_slice(&self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_encoded_with_their_count() {
        let mut out = Vec::new();
        Cmd::new("CONFIG SET").arg("a").int(-1).flag("X", false).args(["b"]).encode(&mut out);
        assert_eq!(out, b"*5\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n-1\r\n$1\r\nb\r\n");
    }
}
