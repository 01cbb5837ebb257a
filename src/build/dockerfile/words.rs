//! Splitting an instruction's text, as BuildKit's parser/split_command.go and parser/line_parsers.go do.

/// The words of a text between unquoted spaces, with their offsets; quotes and escapes stay, for expansion to take.
/// The flag tells whether all quotes were closed.
pub(super) fn quoted(text: &str, escape: char) -> (Vec<(usize, &str)>, bool) {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character.is_whitespace() && quote.is_none() {
            words.extend(start.take().map(|start| (start, &text[start..at])));
            continue;
        }
        start.get_or_insert(at);
        match character {
            // Within single quotes nothing is escaped.
            _ if character == escape && quote != Some('\'') => {
                characters.next();
            }
            _ if Some(character) == quote => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(character),
            _ => {}
        }
    }
    words.extend(start.map(|start| (start, &text[start..])));
    (words, quote.is_none())
}

/// The first word of a text without its quotes and backslashes, and how many bytes it took.
pub(super) fn unquoted(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            _ if Some(character) == quote => quote = None,
            _ if character.is_whitespace() && quote.is_none() => return (word, at),
            '\'' | '"' if quote.is_none() => quote = Some(character),
            '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
            character => word.push(character),
        }
    }
    (word, text.len())
}

/// The words between spaces, whatever their quotes, with their offsets.
pub(super) fn plain(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

/// The strings of a JSON array, `None` if the text is none.
///
/// # Errors
/// If it is an array, but not of strings.
pub(super) fn json(text: &str) -> Option<Result<Vec<String>, &'static str>> {
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err("a JSON array here is of strings only"),
    });
    Some(strings.collect())
}

#[cfg(test)]
mod tests {
    use super::{json, plain, quoted, unquoted};

    #[test]
    fn quoted_words_keep_their_quotes() {
        for (text, words, closed) in [
            ("a=1  b='x y' c=\"p q\"", vec!["a=1", "b='x y'", "c=\"p q\""], true),
            ("a=x\\ y b", vec!["a=x\\ y", "b"], true),
            ("a=\"x\\\" y\" b", vec!["a=\"x\\\" y\"", "b"], true),
            ("a='x\\' y", vec!["a='x\\'", "y"], true),
            ("a='x y", vec!["a='x y"], false),
            ("''", vec!["''"], true),
            ("end\\", vec!["end\\"], true),
            ("  ", vec![], true),
        ] {
            let (found, ended) = quoted(text, '\\');
            assert_eq!(found.iter().map(|(_, word)| *word).collect::<Vec<_>>(), words, "{text}");
            assert!(found.iter().all(|(at, word)| text[*at..].starts_with(word)), "{text}");
            assert_eq!(ended, closed, "{text}");
        }
    }

    #[test]
    fn other_words() {
        assert_eq!(unquoted("--a='x y'z \"b\""), ("--a=x yz".to_owned(), 10));
        assert_eq!(unquoted("a\\ b"), ("a b".to_owned(), 4));
        assert_eq!(plain(" a  \"b c\"").collect::<Vec<_>>(), [(1, "a"), (4, "\"b"), (7, "c\"")]);
        assert_eq!(json("[ \"a\", \"\\u00e9\\n\" ]"), Some(Ok(vec!["a".to_owned(), "é\n".to_owned()])));
        assert_eq!(json("[]"), Some(Ok(vec![])));
        assert!(matches!(json("[1]"), Some(Err(_))));
        for text in ["", "a", "['a']", "[\"a\"", "[\"a\"] b", "{}", "\"a\"", "[ -e x ]"] {
            assert_eq!(json(text), None, "{text}");
        }
    }
}
