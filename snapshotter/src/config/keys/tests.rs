//! That every key is one of its own and every setting has one.

use std::collections::BTreeSet;

use super::*;
use crate::config::foreign;
use crate::config::values::Found;

#[test]
fn every_key_has_a_path_a_name_and_a_meaning_of_its_own() {
    let paths: BTreeSet<_> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(paths.len(), KEYS.len());
    let settings: Vec<_> = KEYS.iter().filter(|key| key.alias_of.is_none()).collect();
    let names: BTreeSet<_> = settings.iter().map(|key| key.override_name()).collect();
    assert_eq!(names.len(), settings.len());
    for key in KEYS {
        assert!(foreign::reason(key.path).is_none(), "{}", key.path);
        assert!(
            key.doc.ends_with('.') && !key.doc.contains("\n\n"),
            "{}",
            key.path
        );
        assert!(overridden_by(key.path).is_some_and(|it| it.setting() == key.setting()));
    }
}

#[test]
fn a_table_is_written_once() {
    let mut tables: Vec<_> = KEYS.iter().map(Key::table).collect();
    tables.dedup();
    let distinct: BTreeSet<_> = tables.iter().collect();
    assert_eq!(tables.len(), distinct.len(), "{tables:?}");
    assert!(tables.iter().skip(1).all(|table| !table.is_empty()));
}

#[test]
fn what_works_where_something_is_missing_is_our_default() {
    for key in KEYS {
        if let Some(missing) = key.missing {
            let default = key.kind.written(&Settings::default());
            assert_eq!(default, missing.only, "{}", key.path);
        }
    }
}

/// Setting one key changes what is written for it and for its other name, and nothing else.
#[test]
fn every_key_has_a_setting_of_its_own() {
    for key in KEYS {
        let mut settings = Settings::default();
        key.kind.read(&another(key.kind), &mut settings).unwrap();
        for other in KEYS {
            let is_changed =
                other.kind.written(&settings) != other.kind.written(&Settings::default());
            let is_same = other.setting() == key.setting();
            assert_eq!(is_changed, is_same, "{} by {}", other.path, key.path);
        }
    }
}

/// A value no key has by default.
fn another(kind: Kind) -> Found {
    match kind {
        Kind::Flag(of) => Found::Flag(!*of(&mut Settings::default())),
        Kind::Concurrency(_) | Kind::Count(_) | Kind::Number(_) | Kind::Amount(_) => {
            Found::Integer(77)
        }
        Kind::SizeOrAuto(_) | Kind::SizeOrOff(_) | Kind::Chunk(_) | Kind::Size(_) => {
            Found::Text("77MiB".into())
        }
        Kind::Duration { .. } => Found::Text("77s".into()),
        Kind::Strategy(_) => Found::Text("multipart".into()),
        Kind::Sync(_) => Found::Text("layer".into()),
        Kind::Resume(_) => Found::Text("bytes".into()),
        Kind::Path(_) | Kind::Text(_) => Found::Text("77".into()),
        Kind::Options(_) => Found::Texts(vec!["77".into()]),
        Kind::Streams(_) => Found::Table(vec!["77".into()]),
    }
}
