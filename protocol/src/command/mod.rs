//! The command table and what follows from it.
//!
//! [`table`] holds one row a command; [`lookup()`] finds rows by name, [`resolve()`] checks a request
//! against its row, [`keys`] says which arguments are keys, [`args`] reads arguments, [`describe`]
//! and [`help`] answer COMMAND and HELP. What a command *does* is the engine's and the server's.

pub mod args;
pub mod describe;
pub mod help;
pub mod id;
pub mod keys;
mod lookup;
mod resolve;
pub mod spec;
pub mod table;

pub use args::Args;
pub use id::CommandId;
pub use lookup::{lookup, lookup_full, lookup_subcommand};
pub use resolve::resolve;
pub use spec::{Categories, Flags, Place, Spec};
pub use table::TABLE;
