//! Every byte on media, one submodule a file kind. Little-endian, reserved bytes zero.

pub mod log;
pub mod pool;
pub mod transfer;
