//! Names of keys made from elements: `weight_*`, `user_*->age`, and `#` for the element itself.

use cairn_store::{Type, Value};

use crate::data::members::Members;
use crate::failure::Outcome;
use crate::keyspace::{ReadContext, Touch};

/// A pattern, taken apart.
pub(super) struct Pattern<'a> {
    whole: &'a [u8],
    /// Around the star; `None` when there is none.
    around: Option<(&'a [u8], &'a [u8])>,
    /// The field of a hash.
    field: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Pattern<'a> {
        let Some(star) = whole.iter().position(|&byte| byte == b'*') else {
            return Pattern { whole, around: None, field: None };
        };
        let (prefix, rest) = (&whole[..star], &whole[star + 1..]);
        let arrow = rest.windows(2).position(|pair| pair == b"->");
        // An arrow to nothing belongs to the name.
        match arrow.filter(|&arrow| arrow + 2 < rest.len()) {
            Some(arrow) => {
                let around = Some((prefix, &rest[..arrow]));
                Pattern { whole, around, field: Some(&rest[arrow + 2..]) }
            }
            None => Pattern { whole, around: Some((prefix, rest)), field: None },
        }
    }

    /// Whether it makes names.
    pub(super) fn is_a_pattern(&self) -> bool {
        self.around.is_some()
    }

    /// Shows `visit` what the pattern means for an element; `None` when there is no such value.
    pub(super) fn look_up(
        &self,
        cx: &mut ReadContext<'_>,
        element: &[u8],
        visit: &mut dyn FnMut(Option<Value<'_>>) -> Outcome,
    ) -> Outcome {
        if self.whole == b"#" {
            return visit(Some(Value::Inline(element)));
        }
        let Some((prefix, suffix)) = self.around else { return visit(None) };
        let name = [prefix, element, suffix].concat();
        match (cx.find(&name, Touch::Use)?, self.field) {
            (Some(record), None) if record.ty() == Type::String => visit(Some(record.value())),
            (Some(record), Some(field)) if record.ty() == Type::Hash => {
                let hash = Members::of(&cx.view, &record, Type::Hash)?;
                visit(hash.get(field)?)
            }
            _ => visit(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_taken_apart() {
        type Row<'r> = (&'r str, Option<(&'r str, &'r str)>, Option<&'r str>);
        let rows: &[Row<'_>] = &[
            ("w_*", Some(("w_", "")), None),
            ("a*b", Some(("a", "b")), None),
            ("*", Some(("", "")), None),
            ("a**", Some(("a", "*")), None),
            ("h_*->f", Some(("h_", "")), Some("f")),
            ("h_*x->f->g", Some(("h_", "x")), Some("f->g")),
            ("h_*->", Some(("h_", "->")), None),
            ("->*", Some(("->", "")), None),
            ("#", None, None),
            ("h->f", None, None),
            ("", None, None),
        ];
        for (text, around, field) in rows {
            let pattern = Pattern::new(text.as_bytes());
            let wanted = around.map(|(a, b)| (a.as_bytes(), b.as_bytes()));
            assert_eq!(pattern.around, wanted, "{text}");
            assert_eq!(pattern.field, field.map(str::as_bytes), "{text}");
        }
    }
}
