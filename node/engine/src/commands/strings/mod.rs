//! Commands on strings.

mod counter;
mod edit;
mod lcs;
mod multi;
mod range;
mod set;

pub(super) use counter::{decr, decrby, incr, incrby, incrbyfloat};
pub(super) use edit::{append, setrange};
pub(super) use lcs::lcs;
pub(super) use multi::{mget, mset, msetnx};
pub(super) use range::{get, getrange, strlen};
pub(super) use set::{getdel, getex, getset, psetex, set, setex, setnx};
