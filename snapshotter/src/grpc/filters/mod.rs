//! containerd's filter language (its `filters` package), with which `List` is asked for some snapshots.
//!
//! ```text
//! selectors := selector ("," selector)*           all must match
//! selector  := fieldpath [operator value]         without operator: the field is present
//! fieldpath := field ("." field)*
//! field     := quoted | [A-Za-z0-9_]+
//! operator  := "==" | "!=" | "~="
//! value     := quoted | [^\s,]+
//! quoted    := Go string syntax; after "~=" also /.../ and |...|
//! ```
//! What the fields mean is the caller's: it resolves a path to a value.

mod parser;
mod quote;
mod scanner;

use regex::bytes::{Regex, RegexBuilder};

/// Several filters, of which one must match; none match everything.
#[derive(Debug, Clone)]
pub struct Filters(Vec<Filter>);

/// One filter: selectors that all must match; none match everything.
#[derive(Debug, Clone)]
pub struct Filter(Vec<Selector>);

/// A text that is not a filter; says where, as containerd does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filters: parse error: {0}")]
pub struct FilterError(pub(super) String);

impl Filters {
    /// Parses all of `texts`.
    ///
    /// # Errors
    /// [`FilterError`] for the first that is not a filter.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, FilterError> {
        let filters = texts.iter().map(|text| Filter::parse(text.as_ref()));
        filters.collect::<Result<_, _>>().map(Self)
    }

    /// Whether an object matches whose fields `field` resolves.
    pub fn matches(&self, field: &dyn Fn(&[String]) -> Option<String>) -> bool {
        self.0.is_empty() || self.0.iter().any(|filter| filter.matches(field))
    }
}

impl Filter {
    /// Parses `text`; an empty one matches everything.
    ///
    /// # Errors
    /// [`FilterError`] if it is not a filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        parser::parse(text).map(Self)
    }

    /// Whether an object matches whose fields `field` resolves.
    pub fn matches(&self, field: &dyn Fn(&[String]) -> Option<String>) -> bool {
        self.0.iter().all(|selector| selector.matches(field))
    }
}

#[derive(Debug, Clone)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    /// None for an expression that does not compile: it matches nothing, as in containerd.
    Matches(Option<Regex>),
}

impl Test {
    fn matching(expression: &str) -> Self {
        // Go's classes such as \w are ASCII; only an expression that needs Unicode is compiled with it.
        let compile = |unicode| RegexBuilder::new(expression).unicode(unicode).build();
        let compiled = compile(false).or_else(|_| compile(true));
        if let Err(error) = &compiled {
            tracing::warn!(expression, %error, "a filter's regular expression does not compile and matches nothing");
        }
        Self::Matches(compiled.ok())
    }
}

impl Selector {
    fn matches(&self, field: &dyn Fn(&[String]) -> Option<String>) -> bool {
        let found = field(&self.path);
        match &self.test {
            Test::Present => found.is_some(),
            Test::Equal(value) => found.as_ref() == Some(value),
            // An absent field has the empty value here and below.
            Test::NotEqual(value) => found.unwrap_or_default() != *value,
            Test::Matches(expression) => {
                let value = found.unwrap_or_default();
                expression
                    .as_ref()
                    .is_some_and(|expression| expression.is_match(value.as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
