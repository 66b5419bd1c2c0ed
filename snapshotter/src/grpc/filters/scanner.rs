//! Cuts a filter into tokens. What a rune means depends on whether an operator came before, as in containerd's scanner.

/// What a piece of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    End,
    Quoted,
    Value,
    Field,
    Separator,
    Operator,
    Illegal(&'static str),
    /// A rune that begins no token.
    Other,
}

/// A token, where it begins, and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) token: Token,
    pub(super) position: usize,
    pub(super) text: &'a str,
}

/// The text and how much of it is read.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    position: usize,
    /// Whether an operator came and its value has not.
    expects_value: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            position: 0,
            expects_value: false,
        }
    }

    /// How far the text is read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next rune, which is not consumed.
    pub(super) fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    /// The next token.
    pub(super) fn scan(&mut self) -> Piece<'a> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
        let start = self.position;
        let token = match self.next() {
            None => Token::End,
            Some('\0') => Token::Illegal("unexpected null"),
            Some(quote @ ('/' | '|' | '"')) => self.quoted(quote),
            Some(',' | '.') => {
                self.expects_value = false;
                Token::Separator
            }
            Some('=' | '!' | '~') => {
                self.skip_while(|rune| matches!(rune, '=' | '!' | '~'));
                self.expects_value = true;
                Token::Operator
            }
            Some(_) if self.expects_value => {
                self.skip_while(is_value_rune);
                self.expects_value = false;
                Token::Value
            }
            Some(rune) if is_field_rune(rune) => {
                self.skip_while(is_field_rune);
                Token::Field
            }
            Some(_) => Token::Other,
        };
        Piece {
            token,
            position: start,
            text: &self.text[start..self.position],
        }
    }

    fn next(&mut self) -> Option<char> {
        let rune = self.peek()?;
        self.position += rune.len_utf8();
        Some(rune)
    }

    fn skip_while(&mut self, belongs: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&belongs) {
            self.next();
        }
    }

    /// Reads up to the closing quote; whether escapes are right is seen when they are resolved.
    fn quoted(&mut self, quote: char) -> Token {
        loop {
            match self.next() {
                None | Some('\n' | '\0') => return Token::Illegal("quoted literal not terminated"),
                Some('\\') => match self.next() {
                    None => return Token::Illegal("quoted literal not terminated"),
                    Some(escaped) if escaped == quote || is_escape(escaped) => {}
                    Some(_) => return Token::Illegal("illegal escape sequence"),
                },
                Some(rune) if rune == quote => return Token::Quoted,
                Some(_) => {}
            }
        }
    }
}

fn is_escape(rune: char) -> bool {
    matches!(
        rune,
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | 'x' | 'u' | 'U' | '0'..='7'
    )
}

fn is_field_rune(rune: char) -> bool {
    rune == '_' || rune.is_ascii_alphanumeric()
}

fn is_value_rune(rune: char) -> bool {
    rune != ',' && !rune.is_whitespace() && !rune.is_control()
}
