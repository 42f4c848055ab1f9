//! Glob patterns as KEYS, SCAN and CONFIG GET match them.
//!
//! Source: the KEYS page and the behaviour of Redis's `stringmatchlen`, unclosed classes and
//! trailing backslashes included. It looks back at the last `*` only, so its work is bounded by
//! pattern length times text length whatever the pattern; Redis's recursion is not.

/// Whether `text` as a whole matches `pattern`: `*` any run of bytes, `?` any byte, `[a-z]` and
/// `[^a-z]` classes, `\` the next byte as it is. With `ignore_case`, ASCII letters match either case.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        // As Redis has it: no pattern but the empty one matches the empty text, not even `*`.
        // KEYS and SCAN take a lone `*` for all keys without asking here.
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to resume when what follows the last `*` fails: one byte further into the text.
    let mut resume: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            resume = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        match step(&pattern[p..], text[t], ignore_case) {
            Some(used) => (p, t) = (p + used, t + 1),
            None => match resume {
                Some((star, from)) => {
                    (p, t) = (star, from + 1);
                    resume = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
}

/// Whether the first element of `pattern` (not a `*`) matches `byte`: how many pattern bytes it takes.
fn step(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (matched, used) = class_matches(class, byte, ignore_case);
            matched.then_some(used + 1)
        }
        [b'\\', literal, ..] => same(*literal, byte, ignore_case).then_some(2),
        [literal, ..] => same(*literal, byte, ignore_case).then_some(1),
    }
}

/// Matches a class whose `[` has been read; also how many bytes it takes, `]` included. A class
/// that the pattern does not close ends with the pattern.
fn class_matches(class: &[u8], byte: u8, ignore_case: bool) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', literal, ..] => {
                found |= literal == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                found |= in_range(from, to, byte, ignore_case);
                at += 3;
            }
            [literal, ..] => {
                found |= same(literal, byte, ignore_case);
                at += 1;
            }
        }
    }
    (found != negated, at)
}

fn in_range(from: u8, to: u8, byte: u8, ignore_case: bool) -> bool {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    // The bounds may come in either order.
    let (low, high) = if from <= to { (from, to) } else { (to, from) };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

fn same(a: u8, b: u8, ignore_case: bool) -> bool {
    a == b || ignore_case && a.eq_ignore_ascii_case(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_redis_matches_them() {
        let rows = [
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("**", "", false),
            ("**", "abc", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abd", false),
            ("a*b*c", "aXbXbXc", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("h[ae]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("[]a]", "a", false),
            ("[", "a", false),
            ("[^", "a", true),
            ("[a", "a", true),
            ("[a-", "-", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("ab", "a", false),
            ("a", "ab", false),
            ("a*?", "a", false),
            ("*[0-9]", "key:7", true),
        ];
        for (pattern, text, wanted) in rows {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), false),
                wanted,
                "{pattern} against {text}"
            );
        }
    }

    #[test]
    fn case_is_ignored_when_asked() {
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(!matches(b"MAX*", b"maxmemory", false));
        assert!(matches(b"[A-C]x", b"bX", true));
    }

    #[test]
    fn hostile_patterns_stay_cheap() {
        let pattern = b"a*".repeat(5_000);
        let mut text = vec![b'a'; 20_000];
        assert!(matches(&pattern, &text, false));
        text.push(b'c');
        let pattern = [&b"a*".repeat(2_000)[..], b"b"].concat();
        assert!(!matches(&pattern, &text, false));
        assert!(!matches(&b"*?".repeat(50_000), b"short", false));
    }
}
