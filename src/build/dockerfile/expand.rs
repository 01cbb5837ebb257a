//! Variables and quotes in an instruction's words, by the rules of BuildKit's shell/lex.go.
//!
//! `$name` and `${name}` with the modifiers `-` `+` `?` (each also after `:`), `#` `##` `%` `%%`, `/` and `//`; words
//! within modifiers expand too. Single quotes keep all, double quotes keep all but `$` and the escape character.

use std::{iter::Peekable, mem, str::Chars};

use super::glob::Glob;
use crate::error::{Act, Error, Kind, Result};

/// How deep `${a:-${b:-...}}` may nest; deeper is no Dockerfile but an attack on the stack.
const DEEPEST: usize = 100;

/// What expands words: the variables that are set, and the file's escape character.
pub struct Expander<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    escape: char,
    quotes: bool,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander").field("escape", &self.escape).field("quotes", &self.quotes).finish_non_exhaustive()
    }
}

impl<'a> Expander<'a> {
    /// For the words of instructions. `lookup` tells a variable's value, or that it is not set.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>, escape: char) -> Self {
        Self { lookup, escape, quotes: true }
    }

    /// For the text of a here-document: quotes are text, and the escape character is always the backslash.
    pub fn here_document(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, escape: '\\', quotes: false }
    }

    /// Expands a text to one word, spaces and all.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an open quote or brace, an unknown modifier, and a variable that `?` demands.
    pub fn word(&self, text: &str) -> Result<String> {
        Ok(self.expand(text)?.text)
    }

    /// Expands a text and splits what it becomes at spaces that are not quoted; empty words vanish.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn words(&self, text: &str) -> Result<Vec<String>> {
        let expanded = self.expand(text)?;
        let mut words = vec![String::new()];
        for (character, quoted) in expanded.text.chars().zip(expanded.quoted) {
            match words.last_mut() {
                Some(word) if quoted || !character.is_whitespace() => word.push(character),
                _ => words.push(String::new()),
            }
        }
        words.retain(|word| !word.is_empty());
        Ok(words)
    }

    fn expand(&self, text: &str) -> Result<Expanded> {
        let mut reader = Reader { rest: text.chars().peekable(), expander: self, raw_escapes: false, depth: 0 };
        reader.until(None, false).act(|| format!("cannot expand '{text}'"))
    }
}

/// Expanded text, and which of its characters no splitting may touch.
#[derive(Default)]
struct Expanded {
    text: String,
    quoted: Vec<bool>,
}

impl Expanded {
    fn push(&mut self, text: &str, quoted: bool) {
        self.text += text;
        self.quoted.extend(text.chars().map(|_| quoted));
    }

    fn push_char(&mut self, character: char, quoted: bool) {
        self.text.push(character);
        self.quoted.push(quoted);
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    expander: &'a Expander<'a>,
    /// Within a pattern the escape character stays: the pattern has its own use for it.
    raw_escapes: bool,
    depth: usize,
}

impl Reader<'_> {
    /// Reads up to `stop`, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Expanded> {
        if self.depth == DEEPEST {
            return fail(format!("substitutions are nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let outer = mem::replace(&mut self.raw_escapes, raw_escapes);
        let expanded = self.read(stop);
        self.raw_escapes = outer;
        self.depth -= 1;
        expanded
    }

    fn read(&mut self, stop: Option<char>) -> Result<Expanded> {
        let mut expanded = Expanded::default();
        while let Some(character) = self.rest.next() {
            match character {
                _ if Some(character) == stop => return Ok(expanded),
                '$' => expanded.push(&self.dollar()?, false),
                '\'' if self.expander.quotes => expanded.push(&self.single_quoted()?, true),
                '"' if self.expander.quotes => expanded.push(&self.double_quoted()?, true),
                escape if escape == self.expander.escape => {
                    if self.raw_escapes {
                        expanded.push_char(escape, true);
                    }
                    if let Some(escaped) = self.rest.next() {
                        expanded.push_char(escaped, true);
                    }
                }
                character => expanded.push_char(character, false),
            }
        }
        match stop {
            None => Ok(expanded),
            Some(stop) => fail(format!("the '{stop}' that ends '${{...' is missing")),
        }
    }

    fn single_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        for character in self.rest.by_ref() {
            if character == '\'' {
                return Ok(text);
            }
            text.push(character);
        }
        fail("a single quote is not closed")
    }

    fn double_quoted(&mut self) -> Result<String> {
        let escape = self.expander.escape;
        let mut text = String::new();
        while let Some(character) = self.rest.next() {
            match character {
                '"' => return Ok(text),
                '$' => text += &self.dollar()?,
                _ if character == escape => {
                    if self.raw_escapes {
                        text.push(escape);
                    }
                    match self.rest.next_if(|next| matches!(next, '"' | '$') || *next == escape) {
                        Some(escaped) => text.push(escaped),
                        // Before any other character it is text.
                        None if self.rest.peek().is_some() => text.push(escape),
                        None => {}
                    }
                }
                character => text.push(character),
            }
        }
        fail("a double quote is not closed")
    }

    /// What stands after `$`.
    fn dollar(&mut self) -> Result<String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            let value = || (self.expander.lookup)(&name).unwrap_or_default();
            return Ok(if name.is_empty() { "$".to_owned() } else { value() });
        }
        if let Some('{' | '}' | ':') = self.rest.peek() {
            return fail("'${' needs a variable's name after it");
        }
        let name = self.name();
        let value = (self.expander.lookup)(&name);
        match self.rest.next() {
            None => fail("the '}' that ends '${...' is missing"),
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.rest.next() {
                Some(operator) => self.modified(&name, value, operator, true),
                None => fail("the '}' that ends '${...' is missing"),
            },
            Some('/') => self.replaced(&value.unwrap_or_default()),
            Some(operator) => self.modified(&name, value, operator, false),
        }
    }

    /// `${name OPERATOR word}`; after a `:` an empty value counts as not set.
    fn modified(&mut self, name: &str, value: Option<String>, operator: char, colon: bool) -> Result<String> {
        if !matches!(operator, '-' | '+' | '?' | '#' | '%') {
            let colon = if colon { ":" } else { "" };
            return fail(format!("'{colon}{operator}' after '${{{name}' is no modifier that a Dockerfile has"));
        }
        let pattern = matches!(operator, '#' | '%');
        let word = self.until(Some('}'), pattern)?.text;
        let set = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match operator {
            '-' if !set => Ok(word),
            '+' => Ok(if set { word } else { String::new() }),
            '?' if !set => {
                let state = if value.is_some() { "empty" } else { "unset" };
                let reason = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                fail(format!("{name}: {reason}"))
            }
            '#' | '%' => trimmed(&word, &value.unwrap_or_default(), operator),
            _ => Ok(value.unwrap_or_default()),
        }
    }

    /// The rest of `${name/pattern/replacement}`, or of `//`, which replaces all.
    fn replaced(&mut self, value: &str) -> Result<String> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        Ok(Glob::parse(&pattern)?.replace(value, &replacement, all))
    }

    /// A name: letters, digits and `_`; or digits only; or one of the shell's special characters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        if let Some(special) = self.rest.next_if(|next| "@*#?-$!".contains(*next)) {
            name.push(special);
            return name;
        }
        let digits = self.rest.peek().is_some_and(char::is_ascii_digit);
        let inside = |next: &char| if digits { next.is_ascii_digit() } else { next.is_alphanumeric() || *next == '_' };
        while let Some(character) = self.rest.next_if(inside) {
            name.push(character);
        }
        name
    }
}

/// A doubled operator takes the longest match away, a single one the shortest.
fn trimmed(word: &str, value: &str, operator: char) -> Result<String> {
    let (longest, pattern) = match word.strip_prefix(operator) {
        Some(pattern) => (true, pattern),
        None => (false, word),
    };
    let glob = Glob::parse(pattern)?;
    Ok(if operator == '#' { glob.trim_start(value, longest) } else { glob.trim_end(value, longest) })
}

fn fail<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Invalid, reason))
}

#[cfg(test)]
mod tests {
    use super::Expander;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "PWD" => "/home",
            "SHELL" => "bash",
            "KOREAN" => "한국어",
            "NULL" => "",
            "FOO" => "xxyy",
            "SPACED" => "a b",
            "STARS" => "/foo*/*/*.txt",
            "NEEDLE" => "\\*/",
            "URL" => "http://google.de",
            "HTTP" => "http://",
            "PATHS" => "/tmp/tmp/foo.txt",
            "ODD" => "()[]{}^$.*?|\\x",
            "1" => "one",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn word(text: &str) -> String {
        Expander::new(&lookup, '\\').word(text).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn quotes_and_names() {
        for (text, expanded) in [
            ("hello", "hello"),
            ("he'll'o", "hello"),
            ("he\\'llo", "he'llo"),
            ("he'll\\'o'", "error: cannot expand 'he'll\\'o'': a single quote is not closed"),
            ("abc\\tdef", "abctdef"),
            ("'abc\\tdef'", "abc\\tdef"),
            ("\"abc\\tdef\"", "abc\\tdef"),
            ("\"a\\\"b\\$PWD\\\\\"", "a\"b$PWD\\"),
            ("end\\", "end"),
            ("a  b", "a  b"),
            ("'it''s'", "its"),
            ("\"it's\"", "it's"),
            ("$PWD", "/home"),
            ("${PWD}x", "/homex"),
            ("$PWDx", ""),
            ("'$PWD'", "$PWD"),
            ("\"$PWD\"", "/home"),
            ("\\$PWD", "$PWD"),
            ("\\${PWD}", "${PWD}"),
            ("$SHELL.$PWD", "bash./home"),
            ("안녕하세요${KOREAN}", "안녕하세요한국어"),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("$.", "$."),
            ("$1", "one"),
            ("$12", ""),
            ("${1}x", "onex"),
            ("$1x", "onex"),
            ("$$PWD", "PWD"),
            ("$nope-", "-"),
        ] {
            assert_eq!(word(text), expanded, "{text}");
        }
    }

    #[test]
    fn defaults() {
        for (text, expanded) in [
            ("${NOPE-aaa} ${NULL-bbb} ${FOO-ccc}", "aaa  xxyy"),
            ("${NOPE:-aaa} ${NULL:-bbb} ${FOO:-ccc}", "aaa bbb xxyy"),
            ("${NOPE+aaa} ${NULL+bbb} ${FOO+ccc}", " bbb ccc"),
            ("${NOPE:+aaa} ${NULL:+bbb} ${FOO:+ccc}", "  ccc"),
            ("${FOO?aaa}${NULL?bbb}", "xxyy"),
            ("${NOPE:-}", ""),
            ("${NOPE:-${NULL:-${PWD}}}", "/home"),
            ("${NOPE:-'single }'}", "single }"),
            ("${NOPE:-\\}}", "}"),
            ("\"${NOPE:-a 'b'}\"", "a b"),
            ("v${FOO:+-${SHELL}}", "v-bash"),
            ("${NOPE?$SHELL is needed}", "error: cannot expand '${NOPE?$SHELL is needed}': NOPE: bash is needed"),
            ("${NULL:?}", "error: cannot expand '${NULL:?}': NULL: is not allowed to be empty"),
            ("${NOPE:?}", "error: cannot expand '${NOPE:?}': NOPE: is not allowed to be unset"),
        ] {
            assert_eq!(word(text), expanded, "{text}");
        }
    }

    #[test]
    fn patterns() {
        for (text, expanded) in [
            ("${ODD#()[]{\\}^$.\\*\\?|\\\\}", "x"),
            ("${FOO#*x}", "xyy"),
            ("${FOO##*x}", "yy"),
            ("${FOO#*x*y}", "y"),
            ("${FOO#*}", "xxyy"),
            ("${FOO##*}", ""),
            ("${FOO#}", "xxyy"),
            ("${FOO##}", "xxyy"),
            ("${FOO#?}", "xyy"),
            ("${FOO#\\?}", "xxyy"),
            ("${FOO%y}", "xxy"),
            ("${FOO%x}", "xxyy"),
            ("${FOO%y*}", "xxy"),
            ("${FOO%%y*}", "xx"),
            ("${FOO%%}", "xxyy"),
            ("${NOPE#x}", ""),
            ("${STARS/$NEEDLE/.} - ${STARS//$NEEDLE/.}", "/foo.*/*.txt - /foo..*.txt"),
            ("${URL/$HTTP/https://}", "https://google.de"),
            ("${PATHS//\\/tmp/}", "/foo.txt"),
            ("${PATHS/\\/tmp/}", "/tmp/foo.txt"),
            ("${PATHS//\\//\\/}", "\\/tmp\\/tmp\\/foo.txt"),
            ("${FOO/$NULL/ww}", "wwxxyy"),
            ("${FOO///}", "xxyy"),
            ("${FOO/?/z}", "zxyy"),
            ("${FOO//?/z}", "zzzz"),
            ("${FOO//*/z}", "z"),
            ("${NOPE///}", ""),
        ] {
            assert_eq!(word(text), expanded, "{text}");
        }
    }

    #[test]
    fn malformed_words_are_refused() {
        for text in [
            "${",
            "${}",
            "${:}",
            "${:-x}",
            "${{x}",
            "${PWD",
            "${PWD:",
            "${PWD:-x",
            "${PWD=x}",
            "${PWD:=x}",
            "${PWD^^}",
            "${FOO//ww}",
            "${FOO/a",
            "${FOO#\\x}",
            "'",
            "\"",
            "\"${\"",
        ] {
            assert!(word(text).starts_with("error: cannot expand"), "{text}: {}", word(text));
        }
        let deep = "${a:-".repeat(10_000);
        assert!(word(&deep).contains("nested"));
    }

    #[test]
    fn the_escape_character_can_be_another() {
        let expander = Expander::new(&lookup, '`');
        assert_eq!(expander.word("c:\\dir\\`$PWD`\"").unwrap(), "c:\\dir\\$PWD\"");
        assert_eq!(expander.word("\"`\"\\$PWD\"").unwrap(), "\"\\/home");
    }

    #[test]
    fn words_split_at_unquoted_spaces() {
        for (text, expected) in [
            ("80 443", vec!["80", "443"]),
            ("$SPACED", vec!["a", "b"]),
            ("\"$SPACED\"", vec!["a b"]),
            ("x$SPACED", vec!["xa", "b"]),
            ("a\\ b  'c d'", vec!["a b", "c d"]),
            ("$NULL ''", vec![]),
        ] {
            assert_eq!(Expander::new(&lookup, '\\').words(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn here_documents_keep_their_quotes() {
        let expander = Expander::here_document(&lookup);
        assert_eq!(expander.word("it's \"$SHELL\"\n\\$PWD ${PWD}\n").unwrap(), "it's \"bash\"\n$PWD /home\n");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_expanded_or_refused(text in "([$\\\\{}:#%/'\"?*+a-c -]|\\PC)*") {
            let _ = Expander::new(&lookup, '\\').words(&text);
        }
    }
}
