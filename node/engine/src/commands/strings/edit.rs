//! Changing a string in place.

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Key, Store};

use crate::data::string;
use crate::failure::Outcome;
use crate::keyspace::WriteContext;

/// APPEND key value
pub(crate) fn append(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (key, value) = (cx.key(&argv[1]), &argv[2]);
    let len = match stored(cx, &key)? {
        None => {
            cx.put_string(&key, value, string::encoding_of(value), None)?;
            value.len() as u64
        }
        Some(old) => {
            string::check_len(old.len, value.len())?;
            write_at(cx, &key, old, old.len, value)?
        }
    };
    w.int(len as i64);
    Ok(())
}

/// SETRANGE key offset value
pub(crate) fn setrange(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let (key, value) = (cx.key(&argv[1]), &argv[3]);
    let offset = parse_i64(&argv[2]).ok_or(WireError::NotInteger)?;
    let offset = u64::try_from(offset).map_err(|_| WireError::OffsetOutOfRange)?;
    let old = stored(cx, &key)?.unwrap_or_default();
    if value.is_empty() {
        w.int(old.len as i64);
        return Ok(());
    }
    string::check_len(offset, value.len())?;
    let len = write_at(cx, &key, old, offset, value)?;
    w.int(len as i64);
    Ok(())
}

/// What a string takes; nothing when the key is absent.
#[derive(Clone, Copy, Default)]
struct Stored {
    len: u64,
    /// Bytes of content, as the store counts them.
    bytes: u64,
}

fn stored(cx: &mut WriteContext<'_>, key: &Key<'_>) -> Outcome<Option<Stored>> {
    cx.find(key, |record| {
        string::require(record)?;
        Ok(Stored { len: record.value().len(), bytes: record.bytes() })
    })
}

/// Writes into the string at the key, which is made when there is none; returns its length.
fn write_at(
    cx: &mut WriteContext<'_>,
    key: &Key<'_>,
    old: Stored,
    offset: u64,
    value: &[u8],
) -> Outcome<u64> {
    let len = old.len.max(offset + value.len() as u64);
    cx.reserve(Store::cost(key.bytes.len(), len).saturating_sub(old.bytes))?;
    cx.store.write_at(cx.db, key, Encoding::Raw, offset, value)?;
    cx.note_change(key);
    Ok(len)
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";

    #[test]
    fn appends() {
        let mut bench = Bench::new();
        bench.check(&[
            ("APPEND k 12", ":2"),
            ("OBJECT ENCODING k", "$3|int"),
            ("APPEND k 3", ":3"),
            ("OBJECT ENCODING k", "$3|raw"),
            ("GET k", "$3|123"),
            ("SET t x EX 10", "+OK"),
            ("APPEND t y", ":2"),
            ("TTL t", ":10"),
        ]);
        bench.advance_ms(10_000);
        bench.check(&[("APPEND t z", ":1"), ("TTL t", ":-1"), ("OBJECT ENCODING t", "$6|embstr")]);
        assert_eq!(bench.run(&[b"APPEND", b"t", b""]), b":1\r\n");
        bench.check(&[("OBJECT ENCODING t", "$3|raw")]);
        assert_eq!(bench.run(&[b"APPEND", b"empty", b""]), b":0\r\n");
        bench.check(&[("EXISTS empty", ":1"), ("OBJECT ENCODING empty", "$6|embstr")]);
    }

    #[test]
    fn a_value_grows_from_inline_to_chunks() {
        let mut bench = Bench::new();
        let piece = [b'x'; 5000];
        let mut whole = Vec::new();
        for _ in 0..10 {
            bench.run(&[b"APPEND", b"k", &piece]);
            whole.extend_from_slice(&piece);
        }
        bench.check(&[("SETRANGE k 16380 0123456789", ":50000")]);
        whole[16380..16390].copy_from_slice(b"0123456789");
        let reply = bench.run(&[b"GET", b"k"]);
        assert_eq!(reply, [&b"$50000\r\n"[..], &whole, b"\r\n"].concat());
    }

    #[test]
    fn writes_ranges() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SETRANGE k 3 abc", ":6"),
            ("GET k", "$6|\0\0\0abc"),
            ("OBJECT ENCODING k", "$3|raw"),
            ("SETRANGE k 0 xyz", ":6"),
            ("GET k", "$6|xyzabc"),
            ("SETRANGE k 8 !", ":9"),
            ("GET k", "$9|xyzabc\0\0!"),
            ("SET n 12345", "+OK"),
            ("SETRANGE n 1 x", ":5"),
            ("GET n", "$5|1x345"),
            ("OBJECT ENCODING n", "$3|raw"),
            ("SETRANGE k -1 x", "-ERR offset is out of range"),
            ("SETRANGE k x x", "-ERR value is not an integer or out of range"),
            ("SETRANGE k 536870912 x", TOO_LONG),
            ("SETRANGE k 9223372036854775807 x", TOO_LONG),
            ("SETRANGE new 536870912 x", TOO_LONG),
            ("EXISTS new", ":0"),
        ]);
        for (key, len) in [(&b"k"[..], &b":9\r\n"[..]), (b"absent", b":0\r\n")] {
            assert_eq!(bench.run(&[b"SETRANGE", key, b"536870912", b""]), len);
        }
        bench.check(&[("EXISTS absent", ":0")]);
    }

    #[test]
    fn the_longest_string_can_be_made_and_no_longer_one() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SETRANGE k 536870911 x", ":536870912"),
            ("APPEND k y", TOO_LONG),
            ("SETRANGE k 536870911 yz", TOO_LONG),
            ("GETRANGE k -2 -1", "$2|\0x"),
            ("SETRANGE k 0 y", ":536870912"),
            ("GETRANGE k 0 1", "$2|y\0"),
            ("DEL k", ":1"),
        ]);
    }

    #[test]
    fn a_full_store_keeps_what_it_has() {
        let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
        let mut bench = Bench::full_at(256 * 1024);
        let value = vec![b'x'; 300 * 1024];
        bench.check(&[("SET k abc", "+OK")]);
        assert_eq!(bench.run(&[b"APPEND", b"k", &value]), oom);
        assert_eq!(bench.run(&[b"SET", b"k", &value]), oom);
        assert_eq!(bench.run(&[b"SET", b"k", &value, b"GET"]), oom);
        assert_eq!(bench.run(&[b"SETRANGE", b"k", b"300000", b"x"]), oom);
        assert_eq!(bench.run(&[b"SETRANGE", b"new", b"300000", b"x"]), oom);
        bench.check(&[("GET k", "$3|abc"), ("EXISTS new", ":0"), ("DEL k", ":1")]);
    }

    #[test]
    fn a_large_value_needs_room_only_for_what_it_grows_by() {
        let mut bench = Bench::full_at(1024 * 1024);
        let value = vec![b'x'; 600 * 1024];
        bench.run(&[b"SET", b"k", &value]);
        bench.check(&[("APPEND k y", ":614401"), ("SETRANGE k 614400 z", ":614401")]);
        let reply = bench.run(&[b"APPEND", b"k", &value]);
        assert!(reply.starts_with(b"-OOM"), "{}", reply.escape_ascii());
        bench.check(&[("STRLEN k", ":614401")]);
    }
}
