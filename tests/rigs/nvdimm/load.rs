//! Load for a node whose power will be cut, and the judge of what it kept: a client without
//! dependencies, so that it links statically and runs in an initramfs.
//!
//! `nvdimm_load ADDRESS write` writes until it is killed. Each writer sends batches; batch `n` of
//! writer `w` overwrites a string, sets a field of a hash, and appends `n` to a list. Once all of
//! it is acknowledged, `ack w n` goes to standard output.
//! `nvdimm_load ADDRESS verify w:n,w:n...` tells whether everything acknowledged is there, with the
//! value that was written, and nothing that was never written. At most the batches that were on
//! their way may be there beyond that.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const WRITERS: u64 = 4;
/// Batches that a writer sends before it waits for replies.
const AHEAD: u64 = 16;
/// Strings and fields that a writer overwrites in turn.
const PLACES: u64 = 300;

/// What batch `n` of writer `w` puts into string and field: its numbers, and filling that depends
/// on them.
fn value(w: u64, n: u64) -> Vec<u8> {
    let mut text = format!("{w}:{n}:").into_bytes();
    let len = text.len() + (n * 37 % 1500) as usize;
    text.resize(len, b'a' + (n % 26) as u8);
    text
}

struct Client {
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Client {
    fn new(address: &str) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { reader: BufReader::new(stream), out: Vec::new() })
    }

    fn push(&mut self, words: &[&[u8]]) {
        self.out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn send(&mut self) -> Result<()> {
        self.reader.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err("the node closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// A reply: the bytes of a string or number, `None` for a null.
    fn reply(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let rest = line[1..].to_owned();
        match line.as_bytes()[0] {
            b'-' => Err(rest.into()),
            b'$' if rest == "-1" => Ok(None),
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.reader.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Some(bytes))
            }
            _ => Ok(Some(rest.into_bytes())),
        }
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        self.push(words);
        self.send()?;
        self.reply()
    }

    fn number(&mut self, words: &[&[u8]]) -> Result<u64> {
        let text = self.ask(words)?.unwrap_or_default();
        Ok(String::from_utf8(text)?.parse()?)
    }
}

fn names(w: u64, n: u64) -> [String; 4] {
    let place = n % PLACES;
    [format!("s:{w}:{place}"), format!("h:{w}"), format!("f:{place}"), format!("l:{w}")]
}

fn write(address: &str, w: u64) -> Result<()> {
    let mut client = Client::new(address)?;
    // The list has one element a batch, so it tells where to go on.
    let mut next = client.number(&[b"LLEN", format!("l:{w}").as_bytes()])?;
    loop {
        for n in next..next + AHEAD {
            let [string, hash, field, list] = names(w, n);
            let value = value(w, n);
            client.push(&[b"SET", string.as_bytes(), &value]);
            client.push(&[b"HSET", hash.as_bytes(), field.as_bytes(), &value]);
            // Last, for the list is what says how far the writer came.
            client.push(&[b"RPUSH", list.as_bytes(), n.to_string().as_bytes()]);
        }
        client.send()?;
        for _ in 0..3 * AHEAD {
            client.reply()?;
        }
        next += AHEAD;
        println!("ack {w} {next}");
    }
}

/// Batches `0..acked` of writer `w` must be there.
fn verify(client: &mut Client, w: u64, acked: u64) -> Result<u64> {
    let list = format!("l:{w}");
    let there = client.number(&[b"LLEN", list.as_bytes()])?;
    if there < acked {
        return Err(format!("LOST: writer {w} has {there} batches, {acked} were acked").into());
    }
    for n in 0..there {
        client.push(&[b"LINDEX", list.as_bytes(), n.to_string().as_bytes()]);
        if (n + 1) % 256 == 0 || n + 1 == there {
            client.send()?;
            for n in n / 256 * 256..=n {
                if client.reply()? != Some(n.to_string().into_bytes()) {
                    return Err(format!("WRONG: element {n} of {list}").into());
                }
            }
        }
    }
    for place in 0..PLACES {
        verify_place(client, w, place, acked, there)?;
    }
    Ok(there)
}

/// String and field hold what the last batch that wrote them put there: one of those acknowledged
/// last or sent later.
fn verify_place(client: &mut Client, w: u64, place: u64, acked: u64, there: u64) -> Result<()> {
    let [string, hash, field, _] = names(w, place);
    let found = [
        client.ask(&[b"GET", string.as_bytes()])?,
        client.ask(&[b"HGET", hash.as_bytes(), field.as_bytes()])?,
    ];
    // A batch's string and field are written before its list, so one more batch may be there.
    let newest = (place..=there).step_by(PLACES as usize).last();
    let sure = (place..acked).step_by(PLACES as usize).last();
    for (what, found) in ["string", "field"].into_iter().zip(found) {
        let allowed = sure.unwrap_or(place)..=newest.unwrap_or(place);
        let mut candidates = allowed.step_by(PLACES as usize);
        let is_fine = match &found {
            None => sure.is_none(),
            Some(found) => candidates.any(|n| *found == value(w, n)),
        };
        if !is_fine {
            let found = found
                .map(|bytes| String::from_utf8_lossy(&bytes[..20.min(bytes.len())]).into_owned());
            return Err(format!(
                "WRONG: {what} {place} of writer {w} is {found:?}; {acked} acked, {there} there"
            )
            .into());
        }
    }
    Ok(())
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [address, "write"] => {
            let writers = (0..WRITERS).map(|w| {
                let address = address.to_owned();
                std::thread::spawn(move || write(&address, w))
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.join().map_err(|_| "a writer panicked")??;
            }
            Ok(())
        }
        [address, "verify", acks] => {
            let mut client = Client::new(address)?;
            let (mut batches, mut sure) = (0, 0);
            for ack in acks.split(',').filter(|ack| !ack.is_empty()) {
                let (w, acked) = ack.split_once(':').ok_or("acks are w:n,w:n...")?;
                let acked = acked.parse()?;
                batches += verify(&mut client, w.parse()?, acked)?;
                sure += acked;
            }
            println!("VERIFIED {sure} batches acknowledged, {batches} there, none lost or wrong");
            Ok(())
        }
        [address, "info"] => {
            let info = Client::new(address)?.ask(&[b"INFO", b"cairn"])?.unwrap_or_default();
            println!("{}", String::from_utf8_lossy(&info));
            Ok(())
        }
        _ => Err("usage: nvdimm_load ADDRESS write | verify ACKS | info".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED {error}");
            ExitCode::FAILURE
        }
    }
}
