//! Reads tokens into selectors, with containerd's error texts.

use super::quote::unquote;
use super::scanner::{Piece, Scanner, Token};
use super::{FilterError, Selector, Test};

/// All selectors of `text`.
pub(super) fn parse(text: &str) -> Result<Vec<Selector>, FilterError> {
    let mut parser = Parser {
        text,
        scanner: Scanner::new(text),
    };
    let mut selectors = vec![parser.selector()?];
    loop {
        match parser.scanner.peek() {
            None => return Ok(selectors),
            Some(',') => {
                parser.scanner.scan();
                selectors.push(parser.selector()?);
            }
            Some(rune) => {
                return Err(parser.error(
                    parser.scanner.position(),
                    &format!("unexpected input: {rune}"),
                ));
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<Selector, FilterError> {
        let path = self.path()?;
        if matches!(self.scanner.peek(), None | Some(',')) {
            return Ok(Selector {
                path,
                test: Test::Present,
            });
        }
        let operator = self.scanner.scan();
        let test = match (operator.token, operator.text) {
            (Token::Operator, "==") => Test::Equal(self.value(false)?),
            (Token::Operator, "!=") => Test::NotEqual(self.value(false)?),
            (Token::Operator, "~=") => Test::matching(&self.value(true)?),
            (Token::Operator, other) => {
                return Err(self.error(
                    operator.position,
                    &format!("unsupported operator {other:?}"),
                ));
            }
            _ => return Err(self.unexpected(operator, r#"expected an operator ("=="|"!="|"~=")"#)),
        };
        Ok(Selector { path, test })
    }

    fn path(&mut self) -> Result<Vec<String>, FilterError> {
        let mut path = vec![self.field()?];
        while self.scanner.peek() == Some('.') {
            self.scanner.scan();
            path.push(self.field()?);
        }
        Ok(path)
    }

    fn field(&mut self) -> Result<String, FilterError> {
        let piece = self.scanner.scan();
        match piece.token {
            Token::Field => Ok(piece.text.to_owned()),
            Token::Quoted => self.unquoted(piece, false),
            _ => Err(self.unexpected(piece, "expected field or quoted")),
        }
    }

    fn value(&mut self, any_quote: bool) -> Result<String, FilterError> {
        let piece = self.scanner.scan();
        match piece.token {
            Token::Value | Token::Field => Ok(piece.text.to_owned()),
            Token::Quoted => self.unquoted(piece, any_quote),
            _ => Err(self.unexpected(piece, "expected value or quoted")),
        }
    }

    fn unquoted(&self, piece: Piece<'_>, any_quote: bool) -> Result<String, FilterError> {
        if !any_quote && !piece.text.starts_with('"') {
            return Err(self.error(piece.position, "invalid quote encountered"));
        }
        unquote(piece.text)
            .ok_or_else(|| self.error(piece.position, "unquoting failed: quote syntax error"))
    }

    fn unexpected(&self, piece: Piece<'_>, expected: &str) -> FilterError {
        match piece.token {
            Token::Illegal(reason) => self.error(piece.position, reason),
            _ => self.error(piece.position, expected),
        }
    }

    fn error(&self, position: usize, message: &str) -> FilterError {
        let (before, after) = self.text.split_at(position);
        let mut rest = after.chars();
        FilterError(match rest.next() {
            Some(rune) => format!("[{before} >|{rune}|< {}]: {message}", rest.as_str()),
            None => format!("[{before}]: {message}"),
        })
    }
}
