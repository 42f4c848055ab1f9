//! Sorted sets: members with their scores as values, and beside them their order.

use super::{Edit, Tree};
use crate::blob::Record;
use crate::error::{Result, StoreError};
use crate::order::{self, Bound};
use crate::pool::Store;

/// What a member's entry takes in a node of the order two thirds full, and its share of the
/// nodes above.
pub(crate) const RANK_BYTES: u64 = 26;

/// The score of a member.
fn score_of(member: &Record<'_>) -> Result<f64> {
    match member.value().as_inline().and_then(|value| value.try_into().ok()) {
        Some(bytes) => Ok(f64::from_bits(u64::from_le_bytes(bytes))),
        None => Err(StoreError::corrupt("a member without a score", member.at)),
    }
}

impl Tree<'_> {
    /// The score of a member.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when something on the way is not what it should be.
    pub fn score(&self, name: &[u8]) -> Result<Option<f64>> {
        self.member(name)?.map(|member| score_of(&member)).transpose()
    }

    /// How many members stand below the one of this score and name; `None` when it is not there.
    ///
    /// # Errors
    /// As [`Tree::score`].
    pub fn rank_of(&self, score: f64, name: &[u8]) -> Result<Option<u64>> {
        order::rank_of(self.mem(), self.roots.order, score, name)
    }

    /// How many members stand below a place.
    ///
    /// # Errors
    /// As [`Tree::score`].
    pub fn count_below(&self, bound: Bound<'_>) -> Result<u64> {
        order::count_below(self.mem(), self.roots.order, &bound)
    }

    /// Shows `visit` the members and their scores from rank `from_rank` upwards, or with
    /// `reverse` downwards (beginning with the last when `from_rank` lies behind it), until it
    /// says `false`.
    ///
    /// # Errors
    /// As [`Tree::score`]; what `visit` returns.
    pub fn ranked(
        &self,
        from_rank: u64,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], f64) -> Result<bool>,
    ) -> Result<()> {
        order::walk(self.mem(), self.roots.order, from_rank, reverse, &mut |member| {
            visit(member.key(), score_of(member)?)
        })
    }
}

impl Edit<'_> {
    /// Adds a member, or gives one another score; returns the score it had. Equal scores, zeros of
    /// either sign among them, are left as they are. A score is a number.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::TooLong`].
    pub fn rank_put(&mut self, name: &[u8], score: f64) -> Result<Option<f64>> {
        assert!(!score.is_nan(), "a score that has no place in an order");
        let old_score = self.tree()?.score(name)?;
        if old_score == Some(score) {
            return Ok(old_score);
        }
        let at = self.write_member(name, &score.to_bits().to_le_bytes())?;
        let cell = self.order_cell();
        if let Some(old_score) = old_score {
            order::remove(&mut self.store.heap, cell, old_score, name)?;
        } else {
            self.bytes += RANK_BYTES;
        }
        if let Some(old) = self.place_member(name, at)? {
            self.store.free_blob(old)?;
        }
        order::insert(&mut self.store.heap, cell, score, at)?;
        Ok(old_score)
    }

    /// Removes a member; returns its score.
    ///
    /// # Errors
    /// [`StoreError::Full`] when not even the reserve has room; [`StoreError::Corrupt`].
    pub fn rank_remove(&mut self, name: &[u8]) -> Result<Option<f64>> {
        let Some(score) = self.tree()?.score(name)? else { return Ok(None) };
        let cell = self.order_cell();
        order::remove(&mut self.store.heap, cell, score, name)?;
        if let Some(old) = self.take_member(name)? {
            self.store.free_blob(old)?;
            self.bytes -= RANK_BYTES;
        }
        Ok(Some(score))
    }
}

impl Store {
    /// Upper bound of what a new member of a sorted set adds to [`Store::content_bytes`].
    pub fn ranked_cost(name_len: usize) -> u64 {
        super::member_bytes(name_len, size_of::<f64>() as u64) + RANK_BYTES
    }
}
