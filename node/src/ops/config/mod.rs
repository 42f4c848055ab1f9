//! Configuration: every option is one row of [`OPTIONS`], and the command line, the environment,
//! the TOML file, `CONFIG GET` / `SET` and `--help` are all derived from that row.
//!
//! Precedence: flag, then `CAIRN_*` environment, then the file, then the default.

mod cli;
mod live;
mod load;
mod options;
mod settings;

pub use cli::{
    CheckArgs, CommandLineError, DevArgs, HealthArgs, InspectArgs, Invocation, parse_command_line,
};
pub use live::{Config, SetError};
pub use load::ConfigError;
pub use options::{Change, Group, OPTIONS, OptionRow};
pub use settings::{Durability, MEMORY_MIN, OutputLimit, PEER_PORT_OFFSET, Reads, Settings};
