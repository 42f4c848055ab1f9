//! The settings of the running node: read everywhere, changed by `CONFIG SET`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_protocol::glob;
use parking_lot::RwLock;

use super::options::{Change, OPTIONS, OptionRow};
use super::settings::Settings;

/// Parameters that tools ask for under Redis's names and that have one true value here: what
/// Cairn always does. `CONFIG SET` accepts that value and refuses any other.
///
/// `appendonly` is yes because every acknowledged write is in a log first; `save` is empty because
/// there are no dump files; `notify-keyspace-events` is empty because none are sent.
const FACTS: &[(&str, &str)] = &[
    ("save", ""),
    ("appendonly", "yes"),
    ("daemonize", "no"),
    ("cluster-enabled", "no"),
    ("notify-keyspace-events", ""),
    ("unixsocket", ""),
    ("maxmemory-clients", "0"),
];

/// Why `CONFIG SET` changed nothing. [`SetError::text`] is Redis's wording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no such parameter.
    Unknown(String),
    /// A parameter refuses what is asked of it.
    Refused {
        /// The parameter.
        name: String,
        /// Why.
        reason: String,
    },
}

impl SetError {
    /// The error reply, code first.
    pub fn text(&self) -> String {
        match self {
            SetError::Unknown(name) => {
                format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            SetError::Refused { name, reason } => {
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
            }
        }
    }
}

/// The current settings behind one lock, with a version that tells cheaply whether they changed.
#[derive(Debug)]
pub struct Config {
    current: RwLock<Arc<Settings>>,
    version: AtomicU64,
}

impl Config {
    /// Starts from `settings`.
    pub fn new(settings: Settings) -> Config {
        Config { current: RwLock::new(Arc::new(settings)), version: AtomicU64::new(1) }
    }

    /// The settings as they are now.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.current.read())
    }

    /// Rises with each change, so that who holds an older [`Config::get`] knows to ask again.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Names and values of the parameters that match any of `patterns`, each once. A pattern
    /// without wildcards is answered under the name as it was asked for, as Redis does.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, String)> {
        let settings = self.get();
        let mut found = Vec::new();
        for (name, value) in parameters(&settings) {
            if let Some(asked) = patterns.iter().find(|p| glob::matches(p, name.as_bytes(), true)) {
                let literal = asked.eq_ignore_ascii_case(name.as_bytes());
                found.push((if literal { asked.to_vec() } else { name.into() }, value));
            }
        }
        found
    }

    /// Sets all of `pairs`, or none of them. Returns the settings as changed.
    pub fn set(&self, pairs: &[(&[u8], &[u8])]) -> Result<Arc<Settings>, SetError> {
        let mut current = self.current.write();
        let mut changed = Settings::clone(&current);
        for (at, (name, value)) in pairs.iter().enumerate() {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if pairs[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes())) {
                return Err(SetError::Refused { name, reason: "duplicate parameter".into() });
            }
            set_one(&mut changed, name, value)?;
        }
        *current = Arc::new(changed);
        self.version.fetch_add(1, Ordering::Release);
        Ok(Arc::clone(&current))
    }
}

fn set_one(settings: &mut Settings, name: String, value: &[u8]) -> Result<(), SetError> {
    let value = String::from_utf8_lossy(value);
    let outcome = if let Some(row) = row_of(&name) {
        match row.change {
            Change::Live => (row.set)(settings, &value),
            Change::AtStart => Err("can't set immutable config".into()),
        }
    } else if let Some((_, fact)) = FACTS.iter().find(|(fact, _)| *fact == name) {
        match *fact == value {
            true => Ok(()),
            false => Err(format!("Cairn supports only '{fact}'")),
        }
    } else {
        return Err(SetError::Unknown(name));
    };
    outcome.map_err(|reason| SetError::Refused { name, reason })
}

fn row_of(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.config_name == name)
}

fn parameters(settings: &Settings) -> impl Iterator<Item = (&'static str, String)> {
    let rows = OPTIONS.iter().map(|row| (row.config_name, (row.get)(settings)));
    let facts = FACTS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let fsync = ("appendfsync", settings.durability.name().to_owned());
    rows.chain(facts).chain(std::iter::once(fsync))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(Settings::defaults())
    }

    fn names(config: &Config, patterns: &[&[u8]]) -> Vec<String> {
        let found = config.matching(patterns);
        found.into_iter().map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect()
    }

    #[test]
    fn get_matches_globs_once_each_and_keeps_the_case_of_a_literal() {
        let config = config();
        assert_eq!(names(&config, &[b"maxmem*", b"maxmemory"]).len(), 4);
        assert_eq!(names(&config, &[b"MaxClients"]), ["MaxClients"]);
        assert_eq!(names(&config, &[b"nothing"]), [""; 0]);
        assert_eq!(config.matching(&[b"save"]), [(b"save".to_vec(), String::new())]);
    }

    #[test]
    fn set_changes_all_or_nothing() {
        let config = config();
        let before = config.version();
        let refusal = config.set(&[(b"maxclients", b"5"), (b"timeout", b"x")]);
        assert_eq!(
            refusal.expect_err("timeout is no number").text(),
            "ERR CONFIG SET failed (possibly related to argument 'timeout') - \
             argument couldn't be parsed into an integer"
        );
        assert_eq!((config.get().maxclients, config.version()), (10_000, before));
        config.set(&[(b"MAXCLIENTS", b"5"), (b"timeout", b"7")]).expect("both are good");
        assert_eq!((config.get().maxclients, config.get().timeout_seconds), (5, 7));
        assert_ne!(config.version(), before);
    }

    #[test]
    fn set_refuses_in_redis_words() {
        for (pairs, text) in [
            (
                vec![(&b"foo"[..], &b"bar"[..])],
                "ERR Unknown option or number of arguments for CONFIG SET - 'foo'",
            ),
            (
                vec![(b"timeout", b"1"), (b"TIMEOUT", b"2")],
                "ERR CONFIG SET failed (possibly related to argument 'timeout') - \
                 duplicate parameter",
            ),
            (
                vec![(b"databases", b"3")],
                "ERR CONFIG SET failed (possibly related to argument 'databases') - \
                 can't set immutable config",
            ),
            (
                vec![(b"appendonly", b"no")],
                "ERR CONFIG SET failed (possibly related to argument 'appendonly') - \
                 Cairn supports only 'yes'",
            ),
        ] {
            assert_eq!(config().set(&pairs).expect_err(text).text(), text);
        }
        config().set(&[(b"save", b""), (b"appendonly", b"yes")]).expect("both are so already");
    }
}
