//! Strings that are numbers.

use cairn_protocol::WireError;
use cairn_protocol::number::{IntText, parse_i64};
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Encoding, Record};

use crate::data::long_double::LongDouble;
use crate::data::string;
use crate::failure::{Failure, Outcome};
use crate::keyspace::WriteContext;

/// INCR key
pub(crate) fn incr(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    add(cx, argv, w, 1)
}

/// DECR key
pub(crate) fn decr(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    add(cx, argv, w, -1)
}

/// INCRBY key increment
pub(crate) fn incrby(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let increment = parse_i64(&argv[2]).ok_or(WireError::NotInteger)?;
    add(cx, argv, w, increment)
}

/// DECRBY key decrement
pub(crate) fn decrby(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let decrement = parse_i64(&argv[2]).ok_or(WireError::NotInteger)?;
    let increment =
        decrement.checked_neg().ok_or(Failure::reply("ERR decrement would overflow"))?;
    add(cx, argv, w, increment)
}

fn add(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>, increment: i64) -> Outcome {
    let key = cx.key(&argv[1]);
    let (old, deadline) = cx
        .find(&key, |record| {
            string::require(record)?;
            Ok((string::integer(record)?, record.deadline_ms()))
        })?
        .unwrap_or_default();
    let sum = old.checked_add(increment).ok_or(WireError::Overflow)?;
    cx.put_string(&key, IntText::signed(sum).as_bytes(), Encoding::Int, deadline)?;
    w.int(sum);
    Ok(())
}

/// INCRBYFLOAT key increment
pub(crate) fn incrbyfloat(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let key = cx.key(&argv[1]);
    let (old, deadline) = cx
        .find(&key, |record| {
            string::require(record)?;
            Ok((float(record)?, record.deadline_ms()))
        })?
        .unwrap_or((LongDouble::from_i64(0), None));
    let increment = LongDouble::parse(&argv[2]).ok_or(WireError::NotFloat)?;
    let sum = old.add(increment).ok_or(WireError::NanOrInfinity)?.to_human();
    cx.put_string(&key, &sum, string::text_encoding(&sum), deadline)?;
    w.bulk(&sum);
    Ok(())
}

fn float(record: &Record<'_>) -> Outcome<LongDouble> {
    // No text that parses is stored in chunks: there is nothing to copy but what is refused.
    if record.value().len() > LongDouble::TEXT_BYTES_MAX as u64 {
        return Err(WireError::NotFloat.into());
    }
    Ok(LongDouble::parse(&string::bytes(record)?).ok_or(WireError::NotFloat)?)
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";
    const OVERFLOW: &str = "-ERR increment or decrement would overflow";
    const NOT_FLOAT: &str = "-ERR value is not a valid float";

    #[test]
    fn integers() {
        let mut bench = Bench::new();
        bench.check(&[
            ("INCR k", ":1"),
            ("INCRBY k 41", ":42"),
            ("DECR k", ":41"),
            ("DECRBY k 50", ":-9"),
            ("DECRBY k -9", ":0"),
            ("GET k", "$1|0"),
            ("OBJECT ENCODING k", "$3|int"),
            ("INCRBY k 1.5", NOT_INTEGER),
            ("INCRBY k +1", NOT_INTEGER),
            ("SET k 9223372036854775807", "+OK"),
            ("INCR k", OVERFLOW),
            ("DECRBY k -1", OVERFLOW),
            ("DECRBY k -9223372036854775808", "-ERR decrement would overflow"),
            ("SET k -9223372036854775808", "+OK"),
            ("DECR k", OVERFLOW),
            ("GET k", "$20|-9223372036854775808"),
            ("SET k 9223372036854775808", "+OK"),
            ("INCR k", NOT_INTEGER),
            ("SET k abc", "+OK"),
            ("INCR k", NOT_INTEGER),
        ]);
    }

    #[test]
    fn an_appended_number_counts_and_becomes_int_again() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k 1", "+OK"),
            ("APPEND k 0", ":2"),
            ("OBJECT ENCODING k", "$3|raw"),
            ("INCR k", ":11"),
            ("OBJECT ENCODING k", "$3|int"),
        ]);
    }

    #[test]
    fn deadlines_stay() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k 1 EX 10", "+OK"),
            ("INCR k", ":2"),
            ("TTL k", ":10"),
            ("INCRBYFLOAT k 0.5", "$3|2.5"),
            ("TTL k", ":10"),
        ]);
        bench.advance_ms(10_000);
        bench.check(&[("INCR k", ":1"), ("TTL k", ":-1")]);
    }

    #[test]
    fn floats() {
        let mut bench = Bench::new();
        bench.check(&[
            ("INCRBYFLOAT k 10.50", "$4|10.5"),
            ("INCRBYFLOAT k 0.1", "$4|10.6"),
            ("INCRBYFLOAT k -5", "$3|5.6"),
            ("OBJECT ENCODING k", "$6|embstr"),
            ("SET k 5.0e3", "+OK"),
            ("INCRBYFLOAT k 2.0e2", "$4|5200"),
            ("OBJECT ENCODING k", "$6|embstr"),
            ("INCRBYFLOAT k inf", "-ERR increment would produce NaN or Infinity"),
            ("INCRBYFLOAT k nan", NOT_FLOAT),
            ("INCRBYFLOAT k abc", NOT_FLOAT),
            ("GET k", "$4|5200"),
            ("SET k abc", "+OK"),
            ("INCRBYFLOAT k 1", NOT_FLOAT),
            ("SET k 1e45", "+OK"),
            ("INCRBYFLOAT k 0", "$46|1000000000000000000010386253980881820456058880"),
        ]);
        bench.check(&[("OBJECT ENCODING k", "$3|raw")]);
        bench.run(&[b"SET", b"k", b"1\x001"]);
        bench.check(&[("INCRBYFLOAT k 1", NOT_FLOAT)]);
    }
}
