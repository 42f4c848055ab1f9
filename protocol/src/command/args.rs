//! A cursor over a command's arguments, with Redis's error for each thing that is missing.

pub use crate::number::{parse_f64, parse_i64, parse_u64};

use crate::error::WireError;
use crate::resp::Argv;

/// Reads arguments one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    argv: Argv<'a>,
    next: usize,
}

impl<'a> Args<'a> {
    /// Starts at argument `from`; 1 is the first after the name.
    #[must_use]
    pub fn new(argv: Argv<'a>, from: usize) -> Self {
        Self { argv, next: from }
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.argv.len().saturating_sub(self.next)
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// The position of the next argument.
    #[must_use]
    pub fn position(&self) -> usize {
        self.next
    }

    /// The next argument, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.argv.get(self.next)
    }

    /// Takes the next argument. Not an `Iterator`: a missing argument is a syntax error.
    ///
    /// # Errors
    /// Syntax error when there is none.
    pub fn take(&mut self) -> Result<&'a [u8], WireError> {
        let arg = self.peek().ok_or(WireError::Syntax)?;
        self.next += 1;
        Ok(arg)
    }

    /// Takes a signed integer.
    ///
    /// # Errors
    /// Syntax error when there is none, [`WireError::NotInteger`] when it is not one.
    pub fn int(&mut self) -> Result<i64, WireError> {
        parse_i64(self.take()?).ok_or(WireError::NotInteger)
    }

    /// Takes an integer that must not be negative.
    ///
    /// # Errors
    /// As [`Args::int`]; [`WireError::MustBePositive`] when it is negative.
    pub fn uint(&mut self) -> Result<u64, WireError> {
        u64::try_from(self.int()?).map_err(|_| WireError::MustBePositive)
    }

    /// Takes a double.
    ///
    /// # Errors
    /// Syntax error when there is none, [`WireError::NotFloat`] when it is not one.
    pub fn float(&mut self) -> Result<f64, WireError> {
        parse_f64(self.take()?).ok_or(WireError::NotFloat)
    }

    /// Takes the next argument if it is this word, in any case.
    pub fn keyword(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        self.next += usize::from(found);
        found
    }

    /// Takes this word and the argument after it, if both are there. A word that comes last is
    /// left: the caller's fall-through makes it the syntax error that Redis answers.
    pub fn keyword_with_value(&mut self, word: &str) -> Option<&'a [u8]> {
        if self.left() < 2 || !self.keyword(word) {
            return None;
        }
        self.take().ok()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Syntax error when something is.
    pub fn expect_end(&self) -> Result<(), WireError> {
        if self.is_empty() { Ok(()) } else { Err(WireError::Syntax) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_in_order() {
        let argv: [&[u8]; 9] = [b"cmd", b"key", b"-5", b"7", b"1.5", b"Nx", b"ex", b"10", b"match"];
        let mut args = Args::new(Argv::from(&argv), 1);
        assert_eq!(args.take(), Ok(&b"key"[..]));
        assert_eq!(args.int(), Ok(-5));
        assert_eq!(args.uint(), Ok(7));
        assert_eq!(args.float(), Ok(1.5));
        assert!(!args.keyword("XX"));
        assert!(args.keyword("NX"));
        assert_eq!(args.keyword_with_value("EX"), Some(&b"10"[..]));
        assert_eq!(args.keyword_with_value("MATCH"), None);
        assert_eq!(args.expect_end(), Err(WireError::Syntax));
        assert!(args.keyword("MATCH"));
        assert_eq!(args.expect_end(), Ok(()));
        assert_eq!(args.take(), Err(WireError::Syntax));
        assert!(!args.keyword("MATCH"));
        assert_eq!(args.left(), 0);
    }

    #[test]
    fn bad_numbers_get_redis_errors() {
        let argv: [&[u8]; 3] = [b"cmd", b"1.5", b"-1"];
        let args = Args::new(Argv::from(&argv), 1);
        assert_eq!(args.clone().int(), Err(WireError::NotInteger));
        let mut args = Args::new(Argv::from(&argv), 2);
        assert_eq!(args.clone().uint(), Err(WireError::MustBePositive));
        assert_eq!(args.float(), Ok(-1.0));
        assert_eq!(Args::new(Argv::EMPTY, 1).int(), Err(WireError::Syntax));
    }
}
