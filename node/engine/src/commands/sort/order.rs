//! The order that SORT brings elements into.

use std::cmp::Ordering;

use cairn_protocol::number::parse_f64;

use super::Options;
use super::pattern::Pattern;
use crate::data::gathered::Gathered;
use crate::failure::{Failure, Outcome};
use crate::keyspace::ReadContext;

/// Brings places of `elements` into the order that is asked for. What compares equal keeps the
/// order it had.
pub(super) fn sorted(
    cx: &mut ReadContext<'_>,
    elements: &Gathered,
    places: &mut [u32],
    by: Option<&Pattern<'_>>,
    options: &Options<'_>,
) -> Outcome {
    let directed = |order: Ordering| if options.descending { order.reverse() } else { order };
    let element = |place: u32| elements.get(place as usize);
    match (options.alphabetic, by) {
        (true, None) => places.sort_by(|&a, &b| directed(element(a).cmp(element(b)))),
        (true, Some(by)) => {
            let keys = keys_of(cx, elements, by)?;
            places.sort_by(|&a, &b| directed(keys[a as usize].cmp(&keys[b as usize])));
        }
        (false, by) => {
            let scores = match by {
                None => elements.iter().map(score).collect::<Outcome<Vec<f64>>>()?,
                Some(by) => {
                    let keys = keys_of(cx, elements, by)?;
                    let score = |key: &Option<Vec<u8>>| key.as_deref().map_or(Ok(0.0), score);
                    keys.iter().map(score).collect::<Outcome<Vec<f64>>>()?
                }
            };
            places.sort_by(|&a, &b| {
                // No score is NaN, and -0 is 0.
                let by_score = scores[a as usize].partial_cmp(&scores[b as usize]);
                let by_score = by_score.unwrap_or(Ordering::Equal);
                directed(by_score.then_with(|| element(a).cmp(element(b))))
            });
        }
    }
    Ok(())
}

/// What the pattern means for each element; nothing comes before anything.
fn keys_of(
    cx: &mut ReadContext<'_>,
    elements: &Gathered,
    by: &Pattern<'_>,
) -> Outcome<Vec<Option<Vec<u8>>>> {
    let mut keys = Vec::with_capacity(elements.len());
    for element in elements.iter() {
        by.look_up(cx, element, &mut |value| {
            keys.push(value.map(|value| value.to_vec()).transpose()?);
            Ok(())
        })?;
    }
    Ok(keys)
}

/// The number that `strtod` reads from a whole text, which C ends at the first zero byte.
fn score(text: &[u8]) -> Outcome<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0.0);
    }
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let number = parse_f64(&text[spaces..]);
    // Below the normal numbers `strtod` reports an underflow.
    number
        .filter(|number| *number == 0.0 || number.abs() >= f64::MIN_POSITIVE)
        .ok_or(Failure::reply("ERR One or more scores can't be converted into double"))
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        let rows: &[(&str, Option<f64>)] = &[
            ("1", Some(1.0)),
            (" \t1.5", Some(1.5)),
            ("+2", Some(2.0)),
            ("", Some(0.0)),
            ("1\0x", Some(1.0)),
            ("\0", Some(0.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("0x10", Some(16.0)),
            (" ", None),
            ("1 ", None),
            ("nan", None),
            ("1e400", None),
            ("1e-310", None),
            ("1x", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(score(text.as_bytes()).ok(), *wanted, "{text:?}");
        }
    }
}
