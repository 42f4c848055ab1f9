//! The `cairn` binary: what the command line asks for, and what became of it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cairn_node::ops::clock;
use cairn_node::ops::config::{CommandLineError, Invocation, parse_command_line};
use cairn_node::tools::Verdict;
use cairn_node::{node, tools};

fn main() -> ExitCode {
    let started = clock::now();
    let outcome = match parse_command_line(std::env::args_os()) {
        Ok(Invocation::Server(settings)) => node::serve(*settings, started),
        Ok(Invocation::Check(args)) => return looked(tools::check(&args)),
        Ok(Invocation::Inspect(args)) => return looked(tools::inspect(&args)),
        Ok(Invocation::Health(args)) => tools::health(&args),
        Ok(Invocation::Dev(args)) => tools::dev(&args),
        Err(CommandLineError::Usage(usage)) => usage.exit(),
        Err(CommandLineError::Config(error)) => Err(error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("cairn: {what}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a look at a node's directory.
fn looked(outcome: Result<Verdict, String>) -> ExitCode {
    let verdict = outcome.unwrap_or_else(|what| {
        eprintln!("cairn: {what}");
        Verdict::Refused
    });
    verdict.into()
}
