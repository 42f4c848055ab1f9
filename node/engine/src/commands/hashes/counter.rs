//! Fields that are numbers.

use cairn_protocol::WireError;
use cairn_protocol::number::{IntText, MAX_INT_TEXT, parse_i64};
use cairn_protocol::resp::{Argv, Writer};
use cairn_store::{Store, Value};

use super::edit::plan;
use crate::data::hash;
use crate::data::long_double::LongDouble;
use crate::failure::{Failure, Outcome};
use crate::keyspace::WriteContext;

/// HINCRBY key field increment
pub(crate) fn hincrby(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    let field = &argv[2];
    let increment = parse_i64(&argv[3]).ok_or(WireError::NotInteger)?;
    hash::check_name("a field", field)?;
    let plan = plan(Store::member_cost(field.len(), MAX_INT_TEXT as u64));
    let limit = cx.limits.hash();
    let sum = cx.change_members(
        &cx.key(&argv[1]),
        plan,
        |_| Ok(None),
        |hash| {
            let old = hash.read(|hash| hash.get(field)?.map_or(Ok(0), integer))?;
            let sum = old.checked_add(increment).ok_or(WireError::Overflow)?;
            hash.put(field, IntText::signed(sum).as_bytes())?;
            hash::settle_encoding(limit, hash, limit.is_long(field));
            Ok((sum, true))
        },
    )?;
    w.int(sum);
    Ok(())
}

fn integer(value: Value<'_>) -> Outcome<i64> {
    let text = value.as_inline().unwrap_or_default();
    parse_i64(text).ok_or(Failure::reply("ERR hash value is not an integer"))
}

/// HINCRBYFLOAT key field increment
pub(crate) fn hincrbyfloat(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    w: &mut Writer<'_>,
) -> Outcome {
    let field = &argv[2];
    let increment = LongDouble::parse(&argv[3]).ok_or(WireError::NotFloat)?;
    if matches!(increment, LongDouble::Infinite { .. }) {
        return Err(Failure::reply("ERR value is NaN or Infinity"));
    }
    hash::check_name("a field", field)?;
    let plan = plan(Store::member_cost(field.len(), LongDouble::TEXT_BYTES_MAX as u64));
    let limit = cx.limits.hash();
    let sum = cx.change_members(
        &cx.key(&argv[1]),
        plan,
        |_| Ok(None),
        |hash| {
            let old =
                hash.read(|hash| hash.get(field)?.map_or(Ok(LongDouble::from_i64(0)), float))?;
            let sum = old.add(increment).ok_or(WireError::NanOrInfinity)?.to_human();
            hash.put(field, &sum)?;
            hash::settle_encoding(limit, hash, limit.is_long(field) || limit.is_long(&sum));
            Ok((sum, true))
        },
    )?;
    w.bulk(&sum);
    Ok(())
}

fn float(value: Value<'_>) -> Outcome<LongDouble> {
    let number = if value.len() > LongDouble::TEXT_BYTES_MAX as u64 {
        None
    } else {
        LongDouble::parse(&value.to_vec()?)
    };
    number.ok_or(Failure::reply("ERR hash value is not a float"))
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn integers() {
        let mut bench = Bench::new();
        let not_integer = "-ERR hash value is not an integer";
        let overflow = "-ERR increment or decrement would overflow";
        bench.check(&[
            ("HINCRBY h n 5", ":5"),
            ("HINCRBY h n -7", ":-2"),
            ("HGET h n", "$2|-2"),
            ("HSET h s text f 1.0 max 9223372036854775807 min -9223372036854775808", ":4"),
            ("HINCRBY h s 1", not_integer),
            ("HINCRBY h f 1", not_integer),
            ("HINCRBY h max 1", overflow),
            ("HINCRBY h min -1", overflow),
            ("HINCRBY h max -9223372036854775808", ":-1"),
            ("HINCRBY h n 1.5", "-ERR value is not an integer or out of range"),
            ("HINCRBY absent n x", "-ERR value is not an integer or out of range"),
            ("EXISTS absent", ":0"),
        ]);
        bench.run(&[b"HSET", b"h", b"long", &[b'1'; 20_000]]);
        bench.check(&[("HINCRBY h long 1", not_integer), ("HGET h n", "$2|-2")]);
    }

    #[test]
    fn floats() {
        let mut bench = Bench::new();
        let not_float = "-ERR hash value is not a float";
        bench.check(&[
            ("HINCRBYFLOAT h n 10.50", "$4|10.5"),
            ("HINCRBYFLOAT h n 0.1", "$4|10.6"),
            ("HINCRBYFLOAT h n -5e0", "$3|5.6"),
            ("HSET h s text inf inf", ":2"),
            ("HINCRBYFLOAT h s 1", not_float),
            ("HINCRBYFLOAT h inf 1", "-ERR increment would produce NaN or Infinity"),
            ("HINCRBYFLOAT h n inf", "-ERR value is NaN or Infinity"),
            ("HINCRBYFLOAT h n nan", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT h n x", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT absent n inf", "-ERR value is NaN or Infinity"),
            ("EXISTS absent", ":0"),
            ("HGET h n", "$3|5.6"),
            ("OBJECT ENCODING h", "$8|listpack"),
        ]);
        bench.run(&[b"HINCRBYFLOAT", b"h", b"n", b"1e100"]);
        bench.check(&[("OBJECT ENCODING h", "$9|hashtable"), ("HSTRLEN h n", ":100")]);
        bench.run(&[b"HSET", b"h", b"long", &[b'1'; 20_000]]);
        bench.check(&[("HINCRBYFLOAT h long 1", not_float)]);
    }
}
