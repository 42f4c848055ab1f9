//! The order that SORT brings elements into.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use cairn_protocol::number::parse_f64;
use cairn_store::Value;

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
            let (of, keys) = keys_of(cx, elements, by)?;
            let key = |place: u32| &keys[of[place as usize]];
            places.sort_by(|&a, &b| directed(key(a).cmp(key(b))));
        }
        (false, by) => {
            let scores = match by {
                None => elements.iter().map(score).collect::<Outcome<Vec<f64>>>()?,
                Some(by) => scores_of(cx, elements, by)?,
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

/// What the pattern means for elements; nothing comes before anything.
type Keys = Vec<Option<Vec<u8>>>;

/// What the pattern means, and for each element where that is.
/// Elements that are equal share it: of a huge value that a long list asks for again and again
/// there is one copy.
fn keys_of(
    cx: &mut ReadContext<'_>,
    elements: &Gathered,
    by: &Pattern<'_>,
) -> Outcome<(Vec<usize>, Keys)> {
    let (mut of, mut keys) = (Vec::with_capacity(elements.len()), Vec::new());
    let mut known = BTreeMap::new();
    for element in elements.iter() {
        let place = *known.entry(element).or_insert(keys.len());
        if place == keys.len() {
            by.look_up(cx, element, &mut |value| {
                keys.push(value.map(|value| value.to_vec()).transpose()?);
                Ok(())
            })?;
        }
        of.push(place);
    }
    Ok((of, keys))
}

/// The numbers that the pattern means for each element; nothing is 0.
fn scores_of(cx: &mut ReadContext<'_>, elements: &Gathered, by: &Pattern<'_>) -> Outcome<Vec<f64>> {
    let mut scores = Vec::with_capacity(elements.len());
    for element in elements.iter() {
        by.look_up(cx, element, &mut |value| {
            scores.push(match value {
                None => 0.0,
                Some(Value::Inline(text)) => score(text)?,
                Some(value) => score(&value.to_vec()?)?,
            });
            Ok(())
        })?;
    }
    Ok(scores)
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
