//! The command line, built from the table of options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::load::{ConfigError, FileValues, Given, settings_from};
use super::options::{OPTIONS, OptionRow};
use super::settings::Settings;
use crate::ops::versions;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Serve clients.
    Server(Box<Settings>),
    /// Verify a pool offline.
    Check(CheckArgs),
    /// Show what a node's directory is made of.
    Inspect(InspectArgs),
    /// Ask a running node whether it answers, or is ready to serve.
    Health(HealthArgs),
    /// Run a cluster on this machine.
    Dev(DevArgs),
}

/// Arguments of `cairn check`.
#[derive(Debug)]
pub struct CheckArgs {
    /// The node's directory.
    pub dir: PathBuf,
    /// Read every value and verify its checksum too.
    pub deep: bool,
}

/// Arguments of `cairn inspect`.
#[derive(Debug)]
pub struct InspectArgs {
    /// The node's directory.
    pub dir: PathBuf,
    /// Look at superblocks and files only, in O(1).
    pub summary: bool,
    /// Print JSON.
    pub json: bool,
}

/// Arguments of `cairn health`.
#[derive(Debug)]
pub struct HealthArgs {
    /// Host name or address.
    pub host: String,
    /// Port of the Redis protocol.
    pub port: u16,
    /// Password for AUTH, empty for none.
    pub password: String,
    /// Ask for more than that it runs: that it reads what was agreed.
    pub ready: bool,
}

/// Arguments of `cairn dev`.
#[derive(Debug)]
pub struct DevArgs {
    /// How many nodes.
    pub nodes: u16,
    /// The first node's port; the others have those after it.
    pub port: u16,
    /// Where their data lie, a directory each.
    pub dir: PathBuf,
    /// What each may take, as `--memory` says it.
    pub memory: String,
}

/// Why the command line yields no [`Invocation`].
#[derive(Debug)]
pub enum CommandLineError {
    /// Help or version was asked for, or the flags are wrong; clap knows what to print and which
    /// exit code to use.
    Usage(clap::Error),
    /// A value, variable or file that cannot be used.
    Config(ConfigError),
}

const ABOUT: &str = "Cairn: a Redis-compatible key-value server whose data lives in persistent \
memory.\nA node restarts in milliseconds whatever it holds, and answers a write when it is durable.";

const AFTER: &str = "\
Bytes take units: k, m, g, t (powers of 1000) and kb, mb, gb, tb (powers of 1024).
Every option is also an environment variable (in brackets above) and a key of the TOML file given
with --config. A flag wins over the environment, that over the file, that over the default.

Examples:
  cairn                                       a node on 127.0.0.1:6379, data in ./cairn-data
  cairn --dir /dev/shm/cairn --memory 8gb     data in memory that outlives the process
  cairn --bind 0.0.0.0 --config cairn.toml    all interfaces; the password in the file
  cairn check --dir ./cairn-data --deep       verify a stopped node's pool, every checksum
  cairn inspect --dir ./cairn-data            what a pool and a log are made of
  cairn health --port 6379                    exit code 0 when the node answers PING
  cairn dev --nodes 3                         a cluster on this machine, until Ctrl-C

Signals: SIGTERM and SIGINT finish what was accepted, commit, and exit with 0.";

const EXIT_CODES: &str = "\
Exit codes, as fsck's: 0 clean; 1 nothing is lost and the next start mends it; 4 damaged; 8 could
not be looked at (no pool, a running node, a newer format); 2 wrong usage.
Nothing is changed. Takes about half a percent of the pool's size in memory.";

/// Reads the command line `args` (the program's name first) and the process's environment.
pub fn parse_command_line(
    args: impl IntoIterator<Item = OsString>,
) -> Result<Invocation, CommandLineError> {
    let matches = command().try_get_matches_from(args).map_err(CommandLineError::Usage)?;
    match matches.subcommand() {
        Some(("check", sub)) => Ok(Invocation::Check(check_args(sub))),
        Some(("inspect", sub)) => Ok(Invocation::Inspect(inspect_args(sub))),
        Some(("health", sub)) => Ok(Invocation::Health(health_args(sub))),
        Some(("dev", sub)) => Ok(Invocation::Dev(dev_args(sub))),
        Some((_, sub)) => server_settings(sub),
        None => server_settings(&matches),
    }
    .map_err(CommandLineError::Config)
}

fn server_settings(matches: &ArgMatches) -> Result<Invocation, ConfigError> {
    let path = matches.get_one::<PathBuf>("config");
    let file = match path {
        Some(path) => FileValues::read(path)?,
        None => FileValues::default(),
    };
    let mut settings = settings_from(&[&|row| from_matches(matches, row), &|row| file.get(row)])?;
    settings.config_file = path.map(|path| std::path::absolute(path).unwrap_or(path.clone()));
    Ok(Invocation::Server(Box::new(settings)))
}

/// What the flag or else the variable gives; clap has already let the flag win.
fn from_matches(matches: &ArgMatches, row: &OptionRow) -> Option<Given> {
    let words: Vec<&str> = matches.get_many::<String>(row.name)?.map(String::as_str).collect();
    let source = match matches.value_source(row.name) {
        Some(ValueSource::EnvVariable) => row.env_name(),
        _ => format!("--{}", row.name),
    };
    Some(Given { source, value: words.join(" ") })
}

fn check_args(matches: &ArgMatches) -> CheckArgs {
    CheckArgs {
        dir: matches.get_one::<PathBuf>("dir").cloned().unwrap_or_default(),
        deep: matches.get_flag("deep"),
    }
}

fn inspect_args(matches: &ArgMatches) -> InspectArgs {
    InspectArgs {
        dir: matches.get_one::<PathBuf>("dir").cloned().unwrap_or_default(),
        summary: matches.get_flag("summary"),
        json: matches.get_flag("json"),
    }
}

fn health_args(matches: &ArgMatches) -> HealthArgs {
    HealthArgs {
        host: matches.get_one::<String>("host").cloned().unwrap_or_default(),
        port: matches.get_one::<u16>("port").copied().unwrap_or_default(),
        password: matches.get_one::<String>("requirepass").cloned().unwrap_or_default(),
        ready: matches.get_flag("ready"),
    }
}

fn dev_args(matches: &ArgMatches) -> DevArgs {
    DevArgs {
        nodes: matches.get_one::<u16>("nodes").copied().unwrap_or_default(),
        port: matches.get_one::<u16>("port").copied().unwrap_or_default(),
        dir: matches.get_one::<PathBuf>("dir").cloned().unwrap_or_default(),
        memory: matches.get_one::<String>("memory").cloned().unwrap_or_default(),
    }
}

fn command() -> Command {
    Command::new("cairn")
        .version(versions::text())
        .about(ABOUT)
        .after_help(AFTER)
        .args_conflicts_with_subcommands(true)
        .max_term_width(100)
        .args(server_args())
        .subcommand(
            Command::new("server")
                .about("Serve clients; what `cairn` alone does")
                .args(server_args()),
        )
        .subcommand(check_command())
        .subcommand(inspect_command())
        .subcommand(health_command())
        .subcommand(dev_command())
}

fn check_command() -> Command {
    Command::new("check")
        .about("Verify the pool and log of a stopped node")
        .after_help(EXIT_CODES)
        .arg(dir_arg())
        .arg(
            Arg::new("deep")
                .long("deep")
                .action(ArgAction::SetTrue)
                .help("Read every value too and verify its checksum"),
        )
}

fn inspect_command() -> Command {
    Command::new("inspect")
        .about("Show what a node's pool and log are made of; of a running node, the summary")
        .after_help(EXIT_CODES)
        .arg(dir_arg())
        .arg(
            Arg::new("summary")
                .long("summary")
                .action(ArgAction::SetTrue)
                .help("Superblocks and files only: O(1), whatever the pool holds"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON"))
}

fn dir_arg() -> Arg {
    Arg::new("dir")
        .long("dir")
        .value_name("PATH")
        .env("CAIRN_DIR")
        .default_value("./cairn-data")
        .value_parser(value_parser!(PathBuf))
        .help("The node's directory")
}

fn health_command() -> Command {
    Command::new("health")
        .about("Exit with 0 when a node answers: a probe for images without a shell")
        .arg(Arg::new("host").long("host").default_value("127.0.0.1").help("Where the node is"))
        .arg(
            Arg::new("port")
                .long("port")
                .env("CAIRN_PORT")
                .default_value("6379")
                .value_parser(value_parser!(u16))
                .help("Its port"),
        )
        .arg(
            Arg::new("requirepass")
                .long("requirepass")
                .env("CAIRN_REQUIREPASS")
                .hide_env_values(true)
                .help("Its password, if it asks for one"),
        )
        .arg(Arg::new("ready").long("ready").action(ArgAction::SetTrue).help(
            "Ask whether it can read what its cluster has agreed on: not without a majority, nor \
             when it was taken out. PING alone it answers then too",
        ))
}

fn dev_command() -> Command {
    let port = value_parser!(u16);
    Command::new("dev")
        .about(
            "Run a cluster on this machine until Ctrl-C: for trying out, not for keeping data safe",
        )
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .default_value("3")
                .value_parser(value_parser!(u16).range(1..=7))
                .help("How many nodes, 1 to 7"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .default_value("6379")
                .value_parser(port)
                .help("The first node's port; the others have those after it, peers 10000 above"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("PATH")
                .default_value("./cairn-dev")
                .value_parser(value_parser!(PathBuf))
                .help("Where their data, logs and secret lie; a later start goes on with them"),
        )
        .arg(
            Arg::new("memory")
                .long("memory")
                .value_name("BYTES")
                .default_value("1gb")
                .help("What each of them may take"),
        )
}

fn server_args() -> Vec<Arg> {
    let config = Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .env("CAIRN_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .help_heading("Configuration")
        .help("TOML file with options by their long names");
    std::iter::once(config).chain(OPTIONS.iter().map(option_arg)).collect()
}

fn option_arg(row: &'static OptionRow) -> Arg {
    let help = match row.default {
        "" => row.help.to_owned(),
        default => format!("{} [default: {default}]", row.help),
    };
    let action = if row.several { ArgAction::Append } else { ArgAction::Set };
    Arg::new(row.name)
        .long(row.name)
        .value_name(row.value_name)
        .env(row.env_name())
        .hide_env_values(true)
        .allow_hyphen_values(true)
        .help_heading(row.group.heading())
        .help(help)
        .action(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Invocation, CommandLineError> {
        parse_command_line(std::iter::once("cairn").chain(args.iter().copied()).map(OsString::from))
    }

    fn settings(args: &[&str]) -> Settings {
        match parse(args) {
            Ok(Invocation::Server(settings)) => *settings,
            other => panic!("{args:?} gives {other:?}"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn cairn_alone_is_cairn_server() {
        assert_eq!(settings(&["--port", "7000"]), settings(&["server", "--port", "7000"]));
        assert_eq!(settings(&[]), Settings::defaults());
    }

    #[test]
    fn a_flag_may_hold_several_addresses_and_negative_numbers() {
        let two = settings(&["--bind", "127.0.0.1", "--bind", "::1"]);
        assert_eq!(two.bind.len(), 2);
        assert_eq!(settings(&["--slowlog-log-slower-than", "-1"]).slowlog_slower_than_us, -1);
    }

    #[test]
    fn help_tells_units_variables_and_defaults_of_every_option() {
        let help = command().render_help().to_string();
        for row in OPTIONS {
            assert!(help.contains(&format!("--{}", row.name)), "--{} is missing", row.name);
            assert!(help.contains(&row.env_name()), "{} is missing", row.env_name());
        }
        assert!(help.contains("[default: 6379]"));
    }

    #[test]
    fn an_unknown_flag_is_a_usage_error_and_a_bad_value_a_config_error() {
        assert!(matches!(parse(&["--nope"]), Err(CommandLineError::Usage(_))));
        assert!(matches!(parse(&["--port", "x"]), Err(CommandLineError::Config(_))));
        let file = ["--config", "/no/such/file.toml"];
        assert!(matches!(parse(&file), Err(CommandLineError::Config(ConfigError::File { .. }))));
    }
}
