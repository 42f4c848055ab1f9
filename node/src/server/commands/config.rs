//! CONFIG.

use cairn_protocol::WireError;
use cairn_protocol::resp::{Argv, Writer};

use super::Context;

/// CONFIG GET pattern ...
pub(super) fn get(cx: &Context<'_>, argv: Argv<'_>, w: &mut Writer<'_>) {
    let patterns: Vec<&[u8]> = argv.iter().skip(2).collect();
    let found = cx.shared.config.matching(&patterns);
    w.map(found.len());
    for (name, value) in found {
        w.bulk(&name);
        w.bulk(value.as_bytes());
    }
}

/// CONFIG SET name value ...
pub(super) fn set(cx: &Context<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Result<(), WireError> {
    if argv.len() % 2 == 1 {
        return Err(WireError::Syntax);
    }
    let args: Vec<&[u8]> = argv.iter().skip(2).collect();
    let pairs: Vec<(&[u8], &[u8])> = args.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let changed =
        cx.shared.config.set(&pairs).map_err(|refusal| WireError::Custom(refusal.text()))?;
    cx.shared.log.set(changed.log_level);
    w.ok();
    Ok(())
}

/// The answer to CONFIG REWRITE: the file is the operator's, with comments that a rewrite would
/// lose.
pub(super) fn no_rewrite() -> WireError {
    WireError::Static(
        "ERR Cairn does not rewrite its configuration file: put the option there by hand",
    )
}
