//! Hashes and sets: members by name, a hash's with a value each. Packed or in a tree, one face.
//!
//! A packed hash has two entries a field, its name and its value; a packed set one a member.
//! [`Members`] reads, [`MembersEdit`] changes.

use std::collections::BTreeSet;

use cairn_protocol::WireError;
use cairn_store::{Edit, Encoding, Record, StoreError, Tree, Type, Value, View};

use super::packed::{Damage, Entries, Packed, PackedBuf, Spot};
use crate::failure::{Failure, Outcome};
use crate::seed::Draws;

/// What a walk does with a member; `false` ends it.
pub(crate) type Visit<'v> = dyn FnMut(&[u8], Value<'_>) -> cairn_store::Result<bool> + 'v;

/// Refuses keys that hold something else.
#[inline]
pub(crate) fn require(record: &Record<'_>, ty: Type) -> Outcome {
    if record.ty() == ty { Ok(()) } else { Err(WireError::WrongType.into()) }
}

/// A hash or a set, to read.
pub(crate) enum Members<'a> {
    Packed(Packed<'a>, Type),
    Tree(Tree<'a>),
}

impl<'a> Members<'a> {
    /// The collection at a key, which must be of the type.
    #[inline]
    pub(crate) fn of(view: &View<'a>, record: &Record<'a>, ty: Type) -> Outcome<Members<'a>> {
        require(record, ty)?;
        Ok(match view.tree(record) {
            Some(tree) => Members::Tree(tree),
            None => Members::Packed(Packed::of(record)?, ty),
        })
    }

    /// Members.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self {
            Members::Packed(packed, ty) => (packed.len() / width(*ty)) as u64,
            Members::Tree(tree) => tree.len(),
        }
    }

    /// The value beside a member, if there is that member.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Outcome<Option<Value<'_>>> {
        match self {
            Members::Packed(packed, ty) => Ok(find(packed, *ty, name)?.map(|found| found.value())),
            Members::Tree(tree) => Ok(tree.member(name)?.map(|record| record.value())),
        }
    }

    /// Whether there is that member.
    #[inline]
    pub(crate) fn contains(&self, name: &[u8]) -> Outcome<bool> {
        Ok(self.get(name)?.is_some())
    }

    /// Shows `visit` the members, in their order: as they came, or by hash in a tree.
    pub(crate) fn for_each(&self, visit: &mut Visit<'_>) -> Outcome {
        match self {
            Members::Packed(packed, ty) => {
                let mut entries = packed.iter();
                while let Some(name) = entries.next() {
                    let value = value_after(&mut entries, *ty)?;
                    if !visit(name?, Value::Inline(value))? {
                        break;
                    }
                }
                Ok(())
            }
            Members::Tree(tree) => {
                Ok(tree.for_each(&mut |record| visit(record.key(), record.value()))?)
            }
        }
    }

    /// Shows `visit` the members from `cursor` on, until after it said `false`; returns the cursor
    /// to go on from. What is packed comes all at once.
    pub(crate) fn scan(&self, cursor: u64, visit: &mut Visit<'_>) -> Outcome<u64> {
        match self {
            Members::Packed(..) => {
                self.for_each(&mut |name, value| visit(name, value).map(|_| true))?;
                Ok(0)
            }
            Members::Tree(tree) => {
                Ok(tree.scan(cursor, &mut |record| visit(record.key(), record.value()))?)
            }
        }
    }

    /// Shows `visit` a member drawn by `draws`, each as likely as any other.
    #[inline]
    pub(crate) fn random(&self, draws: &mut Draws, visit: &mut Visit<'_>) -> Outcome {
        match self {
            Members::Packed(packed, ty) => {
                let mut entries = packed.iter();
                for _ in 0..draws.below(self.len().max(1)) as usize * width(*ty) {
                    entries.next().transpose()?;
                }
                if let Some(name) = entries.next() {
                    let value = value_after(&mut entries, *ty)?;
                    visit(name?, Value::Inline(value))?;
                }
            }
            Members::Tree(tree) => {
                if let Some(record) = tree.random(draws.bits())? {
                    visit(record.key(), record.value())?;
                }
            }
        }
        Ok(())
    }

    /// Shows `visit` so many different members, each choice as likely as any other; all of them
    /// when there are no more.
    pub(crate) fn sample(&self, count: u64, draws: &mut Draws, visit: &mut Visit<'_>) -> Outcome {
        match self {
            // Few of many: what is drawn twice is drawn again.
            Members::Tree(tree) if count.saturating_mul(3) < tree.len() => {
                let mut seen = BTreeSet::new();
                while (seen.len() as u64) < count {
                    let Some(record) = tree.random(draws.bits())? else { break };
                    if seen.insert(record.key()) && !visit(record.key(), record.value())? {
                        break;
                    }
                }
                Ok(())
            }
            // Going through all, each is taken with the chance that is left for it.
            _ => {
                let (mut left, mut wanted) = (self.len(), count.min(self.len()));
                self.for_each(&mut |name, value| {
                    if draws.below(left.max(1)) < wanted {
                        wanted -= 1;
                        visit(name, value)?;
                    }
                    left = left.saturating_sub(1);
                    Ok(wanted > 0)
                })
            }
        }
    }
}

/// Entries of a packed form that a member takes.
#[inline]
fn width(ty: Type) -> usize {
    if ty == Type::Hash { 2 } else { 1 }
}

/// The value that follows a name, as far as members have one.
#[inline]
fn value_after<'p>(entries: &mut Entries<'p>, ty: Type) -> Result<&'p [u8], Damage> {
    if width(ty) == 1 {
        return Ok(&[]);
    }
    entries.next().unwrap_or(Err(entries.damage()))
}

/// A member of a packed form.
struct Found<'p> {
    name: Spot,
    value: (Spot, &'p [u8]),
}

impl<'p> Found<'p> {
    fn value(&self) -> Value<'p> {
        Value::Inline(self.value.1)
    }
}

#[inline]
fn find<'p>(packed: &'p Packed<'_>, ty: Type, name: &[u8]) -> Result<Option<Found<'p>>, Damage> {
    let mut entries = packed.iter();
    loop {
        let spot = entries.spot();
        let Some(entry) = entries.next() else { return Ok(None) };
        let value_spot = entries.spot();
        let value = value_after(&mut entries, ty)?;
        if entry? == name {
            return Ok(Some(Found { name: spot, value: (value_spot, value) }));
        }
    }
}

/// Why a change to members stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The packed form has no room: the change starts over on a tree.
    Outgrown,
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Failure(error.into())
    }
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Stop {
        Stop::Failure(damage.into())
    }
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Stop {
        Stop::Failure(error.into())
    }
}

impl Stop {
    /// What it means where there is nothing left to outgrow.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Stop::Failure(failure) => failure,
            Stop::Outgrown => Failure::reply("ERR a collection that fits nowhere"),
        }
    }
}

/// A hash or a set, to change.
pub(crate) enum MembersEdit<'e, 's> {
    Packed { buf: &'e mut PackedBuf, ty: Type, encoding: &'e mut Encoding },
    Tree(&'e mut Edit<'s>),
}

impl MembersEdit<'_, '_> {
    /// Members.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self {
            MembersEdit::Packed { buf, ty, .. } => (buf.len() / width(*ty)) as u64,
            MembersEdit::Tree(edit) => edit.len(),
        }
    }

    /// The encoding to report.
    #[inline]
    pub(crate) fn encoding(&self) -> Encoding {
        match self {
            MembersEdit::Packed { encoding, .. } => **encoding,
            MembersEdit::Tree(edit) => edit.encoding(),
        }
    }

    /// Changes the encoding to report.
    pub(crate) fn set_encoding(&mut self, new: Encoding) {
        match self {
            MembersEdit::Packed { encoding, .. } => **encoding = new,
            MembersEdit::Tree(edit) => edit.set_encoding(new),
        }
    }

    /// What `read` makes of the collection as it is now.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Members<'_>) -> Outcome<T>) -> Result<T, Stop> {
        Ok(match self {
            MembersEdit::Packed { buf, ty, .. } => read(&Members::Packed(buf.view(), *ty))?,
            MembersEdit::Tree(edit) => read(&Members::Tree(edit.tree()?))?,
        })
    }

    /// Adds a member, or gives one another value; says whether it is new.
    #[inline]
    pub(crate) fn put(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Stop> {
        match self {
            MembersEdit::Packed { buf, ty, .. } => put_packed(buf, *ty, name, value),
            MembersEdit::Tree(edit) => Ok(edit.put(name, value)?),
        }
    }

    /// Removes a member; says whether it was there.
    #[inline]
    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<bool, Stop> {
        match self {
            MembersEdit::Packed { buf, ty, .. } => {
                let Some(spot) = find(&buf.view(), *ty, name)?.map(|found| found.name) else {
                    return Ok(false);
                };
                buf.remove(spot, width(*ty))?;
                Ok(true)
            }
            MembersEdit::Tree(edit) => Ok(edit.remove(name)?),
        }
    }

    /// Removes a member drawn by `draws`, each as likely as any other, and shows it to `visit`.
    #[inline]
    pub(crate) fn take_random(
        &mut self,
        draws: &mut Draws,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), Stop> {
        match self {
            MembersEdit::Packed { buf, ty, .. } => {
                let members = (buf.len() / width(*ty)) as u64;
                let index = draws.below(members.max(1)) as usize * width(*ty);
                let spot = buf.spot(index)?;
                visit(buf.entry(spot)?);
                buf.remove(spot, width(*ty))?;
            }
            MembersEdit::Tree(edit) => {
                let Some(name) = edit.tree()?.random(draws.bits())?.map(|r| r.key().to_vec())
                else {
                    return Ok(());
                };
                visit(&name);
                edit.remove(&name)?;
            }
        }
        Ok(())
    }
}

fn put_packed(buf: &mut PackedBuf, ty: Type, name: &[u8], value: &[u8]) -> Result<bool, Stop> {
    let found = find(&buf.view(), ty, name)?.map(|found| found.value.0);
    let fits = match found {
        Some(_) if width(ty) == 1 => true,
        Some(spot) => buf.replace(spot, value)?,
        None => buf.push(name) && (width(ty) == 1 || buf.push(value)),
    };
    if fits { Ok(found.is_none()) } else { Err(Stop::Outgrown) }
}

/// Moves what is packed into a tree.
pub(crate) fn move_to_tree(buf: &PackedBuf, ty: Type, edit: &mut Edit<'_>) -> Outcome {
    Members::Packed(buf.view(), ty).for_each(&mut |name, value| {
        // Packed values are in one piece.
        edit.put(name, value.as_inline().unwrap_or_default())?;
        Ok(true)
    })
}
