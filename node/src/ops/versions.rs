//! What this build speaks and writes, in versions: for `cairn --version`.

use cairn_engine::ENGINE_VERSION;
use cairn_protocol::cluster::envelope;
use cairn_store::layout::{log, pool};

/// A line for each thing that two builds must agree on to work on the same data or in one cluster.
pub fn text() -> String {
    format!(
        "{}\n\
         node protocol {}, features {:#x}\n\
         log format {}, features {}\n\
         pool format {}, features {}\n\
         engine {ENGINE_VERSION}",
        env!("CARGO_PKG_VERSION"),
        envelope::VERSION,
        envelope::FEATURES,
        log::VERSION,
        masks(log::COMPAT, log::INCOMPAT, log::RO_COMPAT),
        pool::VERSION,
        masks(pool::COMPAT, pool::INCOMPAT, pool::RO_COMPAT),
    )
}

fn masks(compat: u32, incompat: u32, ro_compat: u32) -> String {
    format!("compat {compat:#x}, incompat {incompat:#x}, ro_compat {ro_compat:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_builds_must_agree_on_is_told() {
        let text = text();
        let protocol =
            format!("\nnode protocol {}, features {:#x}\n", envelope::VERSION, envelope::FEATURES);
        assert!(text.starts_with(env!("CARGO_PKG_VERSION")) && text.contains(&protocol), "{text}");
        assert_eq!(masks(1, 2, 0x30), "compat 0x1, incompat 0x2, ro_compat 0x30");
    }
}
