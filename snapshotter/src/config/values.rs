//! What a key may hold: reading a value into its setting, and writing it as TOML.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use parapull_engine::Strategy;
use parapull_scenario::{ByteSize, Setting};
use toml::de::DeValue;

use super::settings::{Concurrency, Resume, SYNC_NAMES, Settings};
use crate::store::SyncPolicy;

/// What a key may hold, and the setting it is held in.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag(fn(&mut Settings) -> &mut bool),
    /// How many at once; -1 and 0 are no limit.
    Concurrency(fn(&mut Settings) -> &mut Concurrency),
    /// A number from 1, or `"auto"`.
    Count(fn(&mut Settings) -> &mut Setting<u32>),
    /// A number from 1.
    Number(fn(&mut Settings) -> &mut u32),
    /// A number from 1 that nothing is multiplied with.
    Amount(fn(&mut Settings) -> &mut u64),
    /// A size from 1, or `"auto"`.
    SizeOrAuto(fn(&mut Settings) -> &mut Setting<ByteSize>),
    /// A size, nothing at all for a whole layer, or `"auto"`.
    Chunk(fn(&mut Settings) -> &mut Setting<ByteSize>),
    /// A size from 1, `"off"`, which is 0, or `"auto"`.
    SizeOrOff(fn(&mut Settings) -> &mut Setting<ByteSize>),
    /// A size from 1.
    Size(fn(&mut Settings) -> &mut ByteSize),
    /// A time within bounds.
    Duration {
        /// The setting.
        of: fn(&mut Settings) -> &mut Duration,
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A strategy.
    Strategy(fn(&mut Settings) -> &mut Strategy),
    /// When to sync.
    Sync(fn(&mut Settings) -> &mut SyncPolicy),
    /// What to resume.
    Resume(fn(&mut Settings) -> &mut Resume),
    /// A path, or nothing.
    Path(fn(&mut Settings) -> &mut Option<PathBuf>),
    /// A text, or nothing.
    Text(fn(&mut Settings) -> &mut Option<String>),
    /// Mount options, in their order.
    Options(fn(&mut Settings) -> &mut Vec<String>),
    /// A table for each algorithm.
    Streams(fn(&mut Settings) -> &mut Vec<String>),
}

/// A value as it was found, before anybody asked what it should be.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// A table; only its keys matter.
    Table(Vec<String>),
    /// Something no key takes, as it is to be shown.
    Other(String),
}

impl Found {
    /// What stands in a file.
    pub(super) fn in_file(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::Boolean(flag) => Self::Flag(*flag),
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .map_or_else(|_| Self::Other(digits.to_string()), Self::Integer),
            DeValue::Float(number) => Self::Other(number.to_string()),
            DeValue::Datetime(time) => Self::Other(time.to_string()),
            DeValue::Array(array) => {
                let texts = array.iter().map(|value| match value.get_ref() {
                    DeValue::String(text) => Some(text.clone().into_owned()),
                    _ => None,
                });
                let texts: Option<Vec<String>> = texts.collect();
                texts.map_or_else(|| Self::Other("an array".to_owned()), Self::Texts)
            }
            DeValue::Table(table) => {
                Self::Table(table.keys().map(|key| key.get_ref().to_string()).collect())
            }
        }
    }

    /// What was given as an override: quotes may be left out, so what it is follows from what the key takes.
    pub(super) fn overriding(kind: Kind, text: &str) -> Self {
        let text = text.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| {
            text.strip_prefix(*quote)
                .and_then(|text| text.strip_suffix(*quote))
        });
        if let Some(text) = quoted {
            return Self::Text(text.to_owned());
        }
        match (kind, text, text.parse()) {
            (Kind::Path(_) | Kind::Text(_), ..) => Self::Text(text.to_owned()),
            (Kind::Options(_), "", _) => Self::Texts(Vec::new()),
            (Kind::Options(_), ..) => Self::Texts(text.split(',').map(str::to_owned).collect()),
            (_, "true", _) => Self::Flag(true),
            (_, "false", _) => Self::Flag(false),
            (.., Ok(number)) => Self::Integer(number),
            (.., Err(_)) => Self::Text(text.to_owned()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => quoted(&text.chars().take(SHOWN_CHARS_MAX).collect::<String>()),
            Self::Texts(_) => "an array".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Other(text) => text.chars().take(SHOWN_CHARS_MAX).collect(),
        }
    }

    fn is_auto(&self) -> bool {
        matches!(self, Self::Text(text) if text == AUTO)
    }

    fn size(&self) -> Option<ByteSize> {
        let size = match self {
            Self::Integer(bytes) => ByteSize(u64::try_from(*bytes).ok()?),
            Self::Text(text) => text.parse().ok()?,
            Self::Flag(_) | Self::Texts(_) | Self::Table(_) | Self::Other(_) => return None,
        };
        (size <= SIZE_MAX).then_some(size)
    }

    fn amount(&self) -> Option<u64> {
        let Self::Integer(number) = self else {
            return None;
        };
        u64::try_from(*number).ok().filter(|number| *number > 0)
    }

    fn count(&self) -> Option<u32> {
        let Self::Integer(number) = self else {
            return None;
        };
        u32::try_from(*number)
            .ok()
            .filter(|number| (1..=COUNT_MAX).contains(number))
    }
}

impl Kind {
    /// Reads what was found into its setting.
    ///
    /// # Errors
    /// What was found and what is allowed.
    pub(super) fn read(self, found: &Found, settings: &mut Settings) -> Result<(), String> {
        self.try_read(found, settings)
            .ok_or_else(|| format!("must be {}, not {}", self.allowed(), found.shown()))
    }

    fn try_read(self, found: &Found, settings: &mut Settings) -> Option<()> {
        match self {
            Self::Flag(of) => {
                let Found::Flag(flag) = found else {
                    return None;
                };
                *of(settings) = *flag;
            }
            Self::Concurrency(of) => *of(settings) = concurrency(found)?,
            Self::Count(of) => *of(settings) = or_auto(found, Found::count)?,
            Self::Number(of) => *of(settings) = found.count()?,
            Self::Amount(of) => *of(settings) = found.amount()?,
            Self::SizeOrAuto(of) => *of(settings) = or_auto(found, size_of_something)?,
            Self::Chunk(of) => *of(settings) = or_auto(found, chunk)?,
            Self::SizeOrOff(of) => *of(settings) = or_auto(found, size_or_off)?,
            Self::Size(of) => *of(settings) = size_of_something(found)?,
            Self::Duration { of, min, max } => *of(settings) = duration(found, min, max)?,
            Self::Strategy(of) => *of(settings) = text(found)?.parse().ok()?,
            Self::Sync(of) => *of(settings) = named(found, &SYNC_NAMES)?,
            Self::Resume(of) => *of(settings) = named(found, &Resume::NAMES)?,
            Self::Path(of) => *of(settings) = not_empty(text(found)?).map(PathBuf::from),
            Self::Text(of) => *of(settings) = not_empty(text(found)?).map(str::to_owned),
            Self::Options(of) => of(settings).clone_from(options(found)?),
            Self::Streams(of) => {
                let Found::Table(algorithms) = found else {
                    return None;
                };
                of(settings).clone_from(algorithms);
            }
        }
        Some(())
    }

    /// What is allowed, to be read after "must be".
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Flag(_) => "true or false".to_owned(),
            Self::Concurrency(_) => {
                format!("a number up to {COUNT_MAX}, -1 for no limit, or \"auto\"")
            }
            Self::Count(_) => format!("a number from 1 to {COUNT_MAX}, or \"auto\""),
            Self::Number(_) => format!("a number from 1 to {COUNT_MAX}"),
            Self::Amount(_) => "a number from 1".to_owned(),
            Self::SizeOrAuto(_) => {
                "a size such as \"64MiB\" (up to 1024TiB), or \"auto\"".to_owned()
            }
            Self::Chunk(_) => {
                "a size such as \"8MiB\", \"\" for whole layers, or \"auto\"".to_owned()
            }
            Self::SizeOrOff(_) => {
                "a size such as \"64MiB\" (up to 1024TiB), \"off\", or \"auto\"".to_owned()
            }
            Self::Size(_) => "a size such as \"100GiB\" (up to 1024TiB)".to_owned(),
            Self::Duration { min, max, .. } => format!(
                "a time such as \"30s\" or \"2m\", from {} to {}",
                humantime::format_duration(min),
                humantime::format_duration(max)
            ),
            Self::Strategy(_) => one_of(Strategy::ALL.map(Strategy::name)),
            Self::Sync(_) => one_of(SYNC_NAMES.map(|(name, _)| name)),
            Self::Resume(_) => one_of(Resume::NAMES.map(|(name, _)| name)),
            Self::Path(_) => "a path, or \"\" for none".to_owned(),
            Self::Text(_) => "a text, or \"\" for none".to_owned(),
            Self::Options(_) => {
                "an array of texts without commas, none of them a directory".to_owned()
            }
            Self::Streams(_) => "a table for each algorithm".to_owned(),
        }
    }

    /// The value of its setting, as TOML.
    pub(super) fn written(self, settings: &Settings) -> String {
        // The way to a setting is one for reading and writing; what it reads here is a copy.
        let mut copy = settings.clone();
        let settings = &mut copy;
        match self {
            Self::Flag(of) => of(settings).to_string(),
            Self::Concurrency(of) => match of(settings) {
                Concurrency::Auto => quoted(AUTO),
                Concurrency::Unlimited => UNLIMITED.to_string(),
                Concurrency::AtMost(number) => number.to_string(),
            },
            Self::Count(of) => match of(settings) {
                Setting::Auto => quoted(AUTO),
                Setting::Is(number) => number.to_string(),
            },
            Self::Number(of) => of(settings).to_string(),
            Self::Amount(of) => of(settings).to_string(),
            Self::Chunk(of) if *of(settings) == Setting::Is(ByteSize(0)) => quoted(""),
            Self::SizeOrOff(of) if *of(settings) == Setting::Is(ByteSize(0)) => quoted(OFF),
            Self::SizeOrAuto(of) | Self::Chunk(of) | Self::SizeOrOff(of) => match of(settings) {
                Setting::Auto => quoted(AUTO),
                Setting::Is(size) => quoted(&size.to_string()),
            },
            Self::Size(of) => quoted(&of(settings).to_string()),
            Self::Duration { of, .. } => {
                quoted(&humantime::format_duration(*of(settings)).to_string())
            }
            Self::Strategy(of) => quoted(of(settings).name()),
            Self::Sync(of) => quoted(name_of(*of(settings), &SYNC_NAMES)),
            Self::Resume(of) => quoted(name_of(*of(settings), &Resume::NAMES)),
            Self::Path(of) => quoted(
                &of(settings)
                    .as_ref()
                    .map_or_else(String::new, |path| path.display().to_string()),
            ),
            Self::Text(of) => quoted(of(settings).as_deref().unwrap_or_default()),
            Self::Options(of) => {
                let texts: Vec<_> = of(settings).iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Self::Streams(of) => {
                let entries: Vec<_> = of(settings)
                    .iter()
                    .map(|algorithm| format!("{} = {{}}", quoted(algorithm)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}

/// A text as TOML, on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            _ if character.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn or_auto<T>(found: &Found, value: impl Fn(&Found) -> Option<T>) -> Option<Setting<T>> {
    if found.is_auto() {
        return Some(Setting::Auto);
    }
    value(found).map(Setting::Is)
}

fn concurrency(found: &Found) -> Option<Concurrency> {
    match found {
        Found::Integer(number) if *number <= 0 => Some(Concurrency::Unlimited),
        Found::Integer(_) => NonZeroU32::new(found.count()?).map(Concurrency::AtMost),
        _ => found.is_auto().then_some(Concurrency::Auto),
    }
}

fn chunk(found: &Found) -> Option<ByteSize> {
    match found {
        Found::Text(text) if text.trim().is_empty() => Some(ByteSize(0)),
        _ => found.size(),
    }
}

fn size_of_something(found: &Found) -> Option<ByteSize> {
    found.size().filter(|size| size.0 > 0)
}

fn size_or_off(found: &Found) -> Option<ByteSize> {
    match found {
        Found::Text(text) if text == OFF => Some(ByteSize(0)),
        _ => size_of_something(found),
    }
}

fn duration(found: &Found, min: Duration, max: Duration) -> Option<Duration> {
    let duration = humantime::parse_duration(text(found)?).ok()?;
    (min..=max).contains(&duration).then_some(duration)
}

fn text(found: &Found) -> Option<&str> {
    match found {
        Found::Text(text) => Some(text),
        Found::Flag(_)
        | Found::Integer(_)
        | Found::Texts(_)
        | Found::Table(_)
        | Found::Other(_) => None,
    }
}

/// Mount options that a snapshot's own can stand beside.
fn options(found: &Found) -> Option<&Vec<String>> {
    let Found::Texts(texts) = found else {
        return None;
    };
    let is_own = |text: &String| {
        let name = text.split('=').next().unwrap_or_default();
        ["lowerdir", "upperdir", "workdir"].contains(&name)
    };
    let is_usable = |text: &String| !text.trim().is_empty() && !text.contains(',') && !is_own(text);
    texts.iter().all(is_usable).then_some(texts)
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn named<T: Copy>(found: &Found, names: &[(&str, T)]) -> Option<T> {
    let text = text(found)?;
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
}

fn name_of<T: PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    names
        .iter()
        .find(|(_, candidate)| *candidate == value)
        .map_or("", |(name, _)| name)
}

fn one_of<const N: usize>(names: [&str; N]) -> String {
    names.map(quoted).join(" or ")
}

const OFF: &str = "off";
const AUTO: &str = "auto";
/// How "no limit" is written.
const UNLIMITED: i32 = -1;
/// More of anything at once than a node can carry; keeps sums of limits within 32 bits.
pub(super) const COUNT_MAX: u32 = 65_536;
/// Beyond any disk; keeps products of sizes and counts within 64 bits.
const SIZE_MAX: ByteSize = ByteSize(1 << 50);
/// What is shown of a value that cannot be used.
const SHOWN_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_reads_as_it_was() {
        for text in [
            "",
            "a",
            "a\"b\\c'd",
            "tab\tline\r\n\u{7f}\u{85}\u{0}",
            "äöü 𝄞",
        ] {
            let quoted = quoted(text);
            assert!(!quoted.contains('\n'));
            let read: toml::Table = toml::from_str(&format!("key = {quoted}")).unwrap();
            assert_eq!(read["key"].as_str(), Some(text), "{quoted}");
        }
    }
}
