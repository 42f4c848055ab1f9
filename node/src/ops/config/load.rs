//! Values from the command line, the environment and the file, laid over the defaults.

use std::path::{Path, PathBuf};

use super::options::{OPTIONS, OptionRow};
use super::settings::Settings;

/// Why the configuration cannot be used. The text says where the fault is and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML, or holds something that is no option.
    Content {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A value that its option refuses.
    Value {
        /// The flag, variable or file key that gave it.
        source: String,
        /// The value.
        value: String,
        /// Why it is refused.
        reason: String,
    },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::File { path, reason } => {
                write!(f, "cannot read the configuration file {}: {reason}", path.display())
            }
            ConfigError::Content { path, reason } => {
                write!(f, "in the configuration file {}: {reason}", path.display())
            }
            ConfigError::Value { source, value, reason } => {
                write!(f, "{source} '{value}': {reason} (see cairn --help)")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// A value with the place it came from, for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub source: String,
    pub value: String,
}

/// What one of the places where options are given says of an option.
pub(super) type Source<'a> = dyn Fn(&OptionRow) -> Option<Given> + 'a;

/// Lays what is given over the defaults: for each option the flag, else the environment, else
/// the file. Each source answers for one row; the file has been read already.
pub(super) fn settings_from(sources: &[&Source<'_>]) -> Result<Settings, ConfigError> {
    let mut settings = Settings::defaults();
    for row in OPTIONS {
        let Some(given) = sources.iter().find_map(|source| source(row)) else { continue };
        (row.set)(&mut settings, &given.value).map_err(|reason| ConfigError::Value {
            source: given.source,
            value: given.value,
            reason,
        })?;
    }
    Ok(settings)
}

/// The file's values by option, read and checked as a whole.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    path: PathBuf,
    table: toml::Table,
}

impl FileValues {
    pub(super) fn read(path: &Path) -> Result<FileValues, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        FileValues::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<FileValues, ConfigError> {
        let content = |reason| ConfigError::Content { path: path.to_owned(), reason };
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| content(error.to_string()))?;
        for (key, value) in &table {
            if !OPTIONS.iter().any(|row| row.name == key) {
                return Err(content(format!("'{key}' is not an option (see cairn --help)")));
            }
            if plain_text(value).is_none() {
                return Err(content(format!("'{key}' must be a string, a number or a list")));
            }
        }
        Ok(FileValues { path: path.to_owned(), table })
    }

    pub(super) fn get(&self, row: &OptionRow) -> Option<Given> {
        let value = self.table.get(row.name).and_then(plain_text)?;
        Some(Given { source: format!("{} in {}", row.name, self.path.display()), value })
    }
}

/// A TOML value as one would type it after a flag; None for dates and tables.
fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        toml::Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(plain_text).collect();
            Some(words?.join(" "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &'static str, value: &'static str) -> impl Fn(&OptionRow) -> Option<Given> {
        move |row| {
            (row.name == name).then(|| Given { source: format!("--{name}"), value: value.into() })
        }
    }

    #[test]
    fn the_earlier_source_wins_and_the_default_fills_in() {
        let file = FileValues::parse(
            Path::new("c.toml"),
            "port = 3\nmaxclients = 30\nbind = [\"127.0.0.1\", \"::1\"]\nprotected-mode = false\n",
        )
        .expect("a good file");
        let settings =
            settings_from(&[&given("port", "1"), &given("port", "2"), &|row| file.get(row)])
                .expect("good values");
        assert_eq!(settings.port, 1);
        assert_eq!(settings.maxclients, 30);
        assert_eq!(settings.bind.len(), 2);
        assert!(!settings.protected_mode);
        assert_eq!(settings.databases, 16);
    }

    #[test]
    fn a_bad_value_names_its_source() {
        let error = settings_from(&[&given("port", "http")]).expect_err("not a number");
        assert_eq!(
            error.to_string(),
            "--port 'http': argument couldn't be parsed into an integer (see cairn --help)"
        );
    }

    #[test]
    fn a_file_with_an_unknown_or_odd_entry_is_refused_as_a_whole() {
        for (text, part) in [
            ("prot = 1", "'prot' is not an option"),
            ("port = 1979-05-27", "'port' must be"),
            ("[port]\nx = 1", "'port' must be"),
            ("port = = 1", "c.toml"),
        ] {
            let error = FileValues::parse(Path::new("c.toml"), text).expect_err(text);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
