//! How values are kept: one face a type, encodings hidden from the handlers.

pub(crate) mod lcs;
pub(crate) mod long_double;
pub(crate) mod string;
