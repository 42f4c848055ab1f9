//! How values are kept: one face a type, encodings hidden from the handlers.

pub(crate) mod gathered;
pub(crate) mod hash;
pub(crate) mod lcs;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod long_double;
pub(crate) mod members;
pub(crate) mod packed;
pub(crate) mod set;
pub(crate) mod string;
pub(crate) mod zset;
