//! Every byte on media, one submodule a file kind.

pub mod log;
