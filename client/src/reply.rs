//! From replies to Rust types.

use cairn_protocol::number::parse_f64;
use cairn_protocol::resp::Value;

use crate::error::Error;

/// A type that some replies can be read as. RESP2's stand-ins for RESP3's types are accepted.
pub trait FromValue: Sized {
    /// Reads a reply that is not an error.
    ///
    /// # Errors
    /// [`Error::UnexpectedReply`] when it is of another type.
    fn from_value(value: Value) -> Result<Self, Error>;
}

/// Makes an error reply an error, and anything else the type that is wanted.
pub(crate) fn read<T: FromValue>(value: Value) -> Result<T, Error> {
    match value {
        Value::Error(text) => Err(Error::Server(text)),
        value => T::from_value(value),
    }
}

pub(crate) fn unexpected<T>(wanted: &'static str, value: &Value) -> Result<T, Error> {
    let mut got = format!("{value:?}");
    got.truncate(got.floor_char_boundary(120));
    Err(Error::UnexpectedReply { wanted, got })
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self, Error> {
        Ok(value)
    }
}

/// OK, or any other status.
impl FromValue for () {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Simple(_) => Ok(()),
            other => unexpected("a status", &other),
        }
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Int(int) => Ok(int),
            other => unexpected("an integer", &other),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Int(int) if int >= 0 => Ok(int as u64),
            other => unexpected("an integer that is not negative", &other),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Bool(value) => Ok(value),
            Value::Int(value @ 0..=1) => Ok(value == 1),
            other => unexpected("true or false", &other),
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Double(double) => return Ok(double),
            Value::Int(int) => return Ok(int as f64),
            _ => {}
        }
        match value.as_bytes().and_then(parse_f64) {
            Some(double) => Ok(double),
            None => unexpected("a number", &value),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Bulk(bytes) => Ok(bytes),
            Value::Simple(text) | Value::BigNumber(text) | Value::Verbatim { text, .. } => {
                Ok(text.into_bytes())
            }
            other => unexpected("a string", &other),
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, Error> {
        let bytes = Vec::from_value(value)?;
        String::from_utf8(bytes).or_else(|e| unexpected("UTF-8 text", &Value::Bulk(e.into_bytes())))
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// A list of things that are no bytes: `Vec<u8>` is a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromValue> FromValue for List<T> {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(items) | Value::Set(items) => {
                items.into_iter().map(read).collect::<Result<_, _>>().map(Self)
            }
            other => unexpected("a list", &other),
        }
    }
}

/// Names with something each: RESP3's map or list of pairs, RESP2's flat list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs<A, B>(pub Vec<(A, B)>);

impl<A: FromValue, B: FromValue> FromValue for Pairs<A, B> {
    fn from_value(value: Value) -> Result<Self, Error> {
        let pairs = match value {
            Value::Map(pairs) => pairs,
            Value::Array(items) if matches!(items.first(), Some(Value::Array(_))) => {
                return items.into_iter().map(read).collect::<Result<_, _>>().map(Self);
            }
            Value::Array(items) if items.len() % 2 == 0 => {
                let mut items = items.into_iter();
                std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
            }
            other => return unexpected("pairs", &other),
        };
        pairs.into_iter().map(|(a, b)| Ok((read(a)?, read(b)?))).collect::<Result<_, _>>().map(Self)
    }
}

impl<A: FromValue, B: FromValue> FromValue for (A, B) {
    fn from_value(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(items) if items.len() == 2 => {
                let mut items = items.into_iter();
                let mut next = || items.next().unwrap_or(Value::Null);
                Ok((read(next())?, read(next())?))
            }
            other => unexpected("a pair", &other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_as_what_is_wanted() {
        let bulk = |s: &str| Value::Bulk(s.as_bytes().to_vec());
        assert_eq!(read::<Option<Vec<u8>>>(Value::Null).unwrap(), None);
        assert_eq!(read::<Option<String>>(bulk("a")).unwrap(), Some("a".to_owned()));
        assert_eq!(read::<f64>(bulk("1.5")).unwrap(), 1.5);
        assert!(read::<bool>(Value::Int(1)).unwrap());
        let list = Value::Array(vec![Value::Null, bulk("x")]);
        assert_eq!(read::<List<Option<String>>>(list).unwrap().0, [None, Some("x".to_owned())]);
        let pair = Value::Array(vec![Value::Int(1), bulk("x")]);
        assert_eq!(read::<(i64, String)>(pair).unwrap(), (1, "x".to_owned()));
    }

    #[test]
    fn pairs_come_in_three_shapes() {
        let bulk = |s: &str| Value::Bulk(s.as_bytes().to_vec());
        let flat = Value::Array(vec![bulk("a"), bulk("1"), bulk("b"), bulk("2")]);
        let nested = Value::Array(vec![
            Value::Array(vec![bulk("a"), bulk("1")]),
            Value::Array(vec![bulk("b"), bulk("2")]),
        ]);
        let map = Value::Map(vec![(bulk("a"), bulk("1")), (bulk("b"), bulk("2"))]);
        let wanted = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        for value in [flat, nested, map] {
            assert_eq!(read::<Pairs<String, String>>(value).unwrap().0, wanted);
        }
        assert!(read::<Pairs<String, String>>(Value::Array(vec![])).unwrap().0.is_empty());
        let odd = Value::Array(vec![bulk("a")]);
        assert!(matches!(read::<Pairs<String, String>>(odd), Err(Error::UnexpectedReply { .. })));
    }

    #[test]
    fn other_types_are_errors() {
        assert!(matches!(read::<()>(Value::Null), Err(Error::UnexpectedReply { .. })));
        assert!(matches!(read::<u64>(Value::Int(-1)), Err(Error::UnexpectedReply { .. })));
        assert!(matches!(
            read::<String>(Value::Bulk(vec![0xff])),
            Err(Error::UnexpectedReply { .. })
        ));
        let error = Value::Error("ERR x".into());
        assert!(matches!(read::<Value>(error), Err(Error::Server(text)) if text == "ERR x"));
        let long = Value::Bulk(vec![0; 10_000]);
        let Err(Error::UnexpectedReply { got, .. }) = read::<i64>(long) else { panic!() };
        assert!(got.len() <= 120);
    }
}
