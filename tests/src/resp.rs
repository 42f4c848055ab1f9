//! A blocking client for RESP2 and RESP3, written without Cairn's codec so that it can judge it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply as it came, nothing interpreted: comparing two of these compares their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// One line: its type byte (`+`, `-`, `:`, `,`, `#`, `_`, `(`) and the rest.
    Line(u8, Vec<u8>),
    /// Counted bytes: `$`, `=` or `!`; None for RESP2's null.
    Bulk(u8, Option<Vec<u8>>),
    /// Counted replies: `*`, `%` (keys and values in turn), `~` or `>`; None for RESP2's null.
    List(u8, Option<Vec<Reply>>),
}

impl Reply {
    /// Is it an error?
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Line(b'-', _) | Reply::Bulk(b'!', _))
    }

    /// Is it the null of either protocol?
    pub fn is_null(&self) -> bool {
        matches!(self, Reply::Line(b'_', _) | Reply::Bulk(_, None) | Reply::List(_, None))
    }

    /// Bytes of a line or of counted bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Line(b'_', _) => None,
            Reply::Line(_, text) => Some(text),
            Reply::Bulk(_, bytes) => bytes.as_deref(),
            Reply::List(..) => None,
        }
    }

    /// Text of a line or of counted bytes, for messages and searches.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes().unwrap_or_default()).into_owned()
    }

    /// An integer reply.
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Line(b':', text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The parts of a list, none for anything else.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::List(_, Some(items)) => items,
            _ => &[],
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Line(kind, text) => write!(f, "{}{}", char::from(*kind), text.escape_ascii()),
            Reply::Bulk(kind, None) => write!(f, "{}-1", char::from(*kind)),
            Reply::Bulk(kind, Some(bytes)) if bytes.len() > 200 => {
                let start = bytes[..100].escape_ascii();
                write!(f, "{}{}:{start}...", char::from(*kind), bytes.len())
            }
            Reply::Bulk(kind, Some(bytes)) => {
                write!(f, "{}{}:{}", char::from(*kind), bytes.len(), bytes.escape_ascii())
            }
            Reply::List(kind, None) => write!(f, "{}-1", char::from(*kind)),
            Reply::List(kind, Some(items)) => {
                write!(f, "{}", char::from(*kind))?;
                f.debug_list().entries(items).finish()
            }
        }
    }
}

/// Adds a request to `out`.
pub fn push_request<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    at: usize,
}

impl Conn {
    /// Connects; a reply that takes longer than half a minute is an error.
    pub fn open(address: SocketAddr) -> io::Result<Conn> {
        Conn::open_within(address, Duration::from_secs(30))
    }

    /// Connects; nothing may take longer than `patience`, neither this nor a reply.
    pub fn open_within(address: SocketAddr, patience: Duration) -> io::Result<Conn> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Conn { stream, out: Vec::new(), input: Vec::new(), at: 0 })
    }

    /// Connects and says HELLO with `version`, 2 or 3.
    pub fn open_with(address: SocketAddr, version: u8) -> io::Result<Conn> {
        let mut conn = Conn::open(address)?;
        let reply = conn.call(&["HELLO", &version.to_string()])?;
        if reply.is_error() {
            return Err(io::Error::other(reply.text()));
        }
        Ok(conn)
    }

    /// The socket, for tests that misbehave.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the server has closed it. Only for a connection on which no reply is awaited.
    pub fn is_closed(&self) -> bool {
        let mut byte = [0];
        let waits = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut byte));
        let is_open = matches!(&waits, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_err() || !is_open
    }

    /// Puts a request into the next [`Conn::flush`].
    pub fn queue<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        push_request(&mut self.out, args);
    }

    /// Sends what was queued.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One request, one reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        self.queue(args);
        self.flush()?;
        self.receive()
    }

    /// A pipeline.
    pub fn call_all<A: AsRef<[u8]>>(&mut self, requests: &[Vec<A>]) -> io::Result<Vec<Reply>> {
        requests.iter().for_each(|args| self.queue(args));
        self.flush()?;
        requests.iter().map(|_| self.receive()).collect()
    }

    /// The next reply. The end of the stream is an error.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let Some((&kind, rest)) = line.split_first() else {
            return Err(bad("an empty line"));
        };
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => Ok(Reply::Line(kind, rest.to_vec())),
            b'$' | b'=' | b'!' => Ok(Reply::Bulk(kind, self.counted(rest)?)),
            b'*' | b'~' | b'>' | b'%' => {
                let Some(count) = length(rest)? else { return Ok(Reply::List(kind, None)) };
                let count = if kind == b'%' { count * 2 } else { count };
                let items: io::Result<Vec<Reply>> = (0..count).map(|_| self.receive()).collect();
                Ok(Reply::List(kind, Some(items?)))
            }
            _ => Err(bad(&format!("a reply that begins with {}", line.escape_ascii()))),
        }
    }

    /// Reads until the peer closes, and returns all that came. A reset counts as a close.
    pub fn drain(&mut self) -> io::Result<Vec<u8>> {
        let mut all = self.input.split_off(self.at);
        match self.stream.read_to_end(&mut all) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(all),
        }
    }

    fn counted(&mut self, rest: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(len) = length(rest)? else { return Ok(None) };
        while self.input.len() - self.at < len + 2 {
            self.fill()?;
        }
        let bytes = self.input[self.at..self.at + len].to_vec();
        if &self.input[self.at + len..self.at + len + 2] != b"\r\n" {
            return Err(bad("counted bytes that do not end where they say"));
        }
        self.at += len + 2;
        Ok(Some(bytes))
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut seen = self.at;
        loop {
            if let Some(end) = self.input[seen..].windows(2).position(|two| two == b"\r\n") {
                let line = self.input[self.at..seen + end].to_vec();
                self.at = seen + end + 2;
                return Ok(line);
            }
            let pending = self.input.len() - self.at;
            self.fill()?;
            seen = self.at + pending.saturating_sub(1);
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.input.drain(..self.at);
        self.at = 0;
        let held = self.input.len();
        self.input.resize(held + 64 * 1024, 0);
        let read = self.stream.read(&mut self.input[held..]);
        self.input.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed")),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn length(text: &[u8]) -> io::Result<Option<usize>> {
    let text = std::str::from_utf8(text).map_err(|_| bad("a length that is no text"))?;
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(count) if (0..=1 << 30).contains(&count) => Ok(Some(count as usize)),
        _ => Err(bad(&format!("the length {text}"))),
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}
