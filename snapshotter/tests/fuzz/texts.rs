//! Somebody else's texts: documents of registries, containerd's filters, names, and configuration files.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use parapull_snapshotter::config::Config;
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::grpc::Filter;
use parapull_snapshotter::image::{Configuration, Document, Platform, Reference};

/// Parses the text as what its first byte says: it is taken or refused, and what was taken is the same when it is
/// written and read again. Says whether it was taken.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let text = String::from_utf8_lossy(bytes);
    match kind % 7 {
        0 => Document::parse(bytes, None).is_ok(),
        1 => Configuration::parse(bytes).is_ok(),
        2 => filter(&text),
        3 => is_written_as_it_is_read::<Reference>(&text),
        4 => is_written_as_it_is_read::<Platform>(&text),
        5 => is_written_as_it_is_read::<Digest>(&text),
        _ => configuration_file(&text),
    }
}

fn filter(text: &str) -> bool {
    let Ok(filter) = Filter::parse(text) else {
        return false;
    };
    let field = |path: &[String]| match path.first().map(String::as_str) {
        Some("name") => Some("sha256:0".to_owned()),
        Some("labels") => path.get(1).cloned(),
        _ => None,
    };
    let matches = filter.matches(&field);
    assert_eq!(matches, filter.matches(&field));
    true
}

fn is_written_as_it_is_read<T: FromStr + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else {
        return false;
    };
    let again = value.to_string().parse::<T>();
    assert_eq!(again.ok().as_ref(), Some(&value), "{value} of {text:?}");
    true
}

fn configuration_file(text: &str) -> bool {
    let Ok(config) = Config::from_toml(text, "file") else {
        return false;
    };
    let again = Config::from_toml(&config.to_toml(), "written").unwrap();
    assert_eq!(again.settings, config.settings, "{}", config.to_toml());
    true
}
