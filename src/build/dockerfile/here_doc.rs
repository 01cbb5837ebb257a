//! Here-documents: `<<NAME` in `RUN`, `COPY` and `ADD`, and the lines that follow up to `NAME`.

use super::words;

/// A text that stands in the Dockerfile itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HereDoc {
    /// The delimiter without its quotes; for `COPY` and `ADD` also the file's name.
    pub name: String,
    /// The lines with their newlines; of `<<-NAME` without leading tabs.
    pub content: String,
    /// Whether `COPY` and `ADD` expand variables in it: the delimiter has no quotes.
    pub expand: bool,
}

/// A `<<NAME` in an instruction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) name: String,
    pub(super) expand: bool,
    /// `<<-`: tabs before each line and before the delimiter are dropped.
    pub(super) strip_tabs: bool,
}

impl Marker {
    /// Reads a word as `[digits]<<[-]NAME`.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (strip_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim_start();
        let (name, taken) = words::unquoted(rest);
        let one_word = taken == rest.len() && !name.is_empty() && !rest.contains('<');
        one_word.then(|| Self { name, expand: !rest.contains(['\'', '"']), strip_tabs })
    }

    /// Whether a line ends the document: the name alone, after tabs if those are stripped.
    pub(super) fn is_end(&self, line: &str) -> bool {
        self.stripped(line).trim_end_matches(['\r', '\n']) == self.name
    }

    /// A line of the document, without the tabs that `<<-` strips.
    pub(super) fn stripped<'a>(&self, line: &'a str) -> &'a str {
        if self.strip_tabs { line.trim_start_matches('\t') } else { line }
    }
}

/// All markers of an instruction with their offsets. As in BuildKit one begins a word, spaces may follow `<<`, and text
/// with an open quote has none.
pub(super) fn markers(text: &str) -> Vec<(usize, Marker)> {
    let (words, closed) = words::quoted(text, '\\');
    if !closed {
        return Vec::new();
    }
    let mut markers = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some((at, word)) = words.next() {
        let mut end = at + word.len();
        if word.ends_with("<<")
            && let Some((next, after)) = words.next_if(|(_, next)| !next.contains("<<"))
        {
            end = next + after.len();
        }
        markers.extend(Marker::parse(&text[at..end]).map(|marker| (at, marker)));
    }
    markers
}

#[cfg(test)]
mod tests {
    use super::{Marker, markers};

    #[test]
    fn markers_are_found_where_buildkit_finds_them() {
        for (text, names) in [
            ("RUN <<EOF", vec!["EOF"]),
            ("RUN cat <<EOF > /x", vec!["EOF"]),
            ("RUN cat <<A - <<-B", vec!["A", "B"]),
            ("RUN 3<<EOF", vec!["EOF"]),
            ("RUN << EOF", vec!["EOF"]),
            ("COPY <<'E F' <<\"G\" /x", vec!["E F", "G"]),
            ("RUN <<E\"O\"F", vec!["EOF"]),
            ("RUN <<$EOF", vec!["$EOF"]),
            ("RUN cat<<EOF", vec![]),
            ("RUN cat <<<EOF", vec![]),
            ("RUN echo $((1<<2))", vec![]),
            ("RUN echo \"<<EOF\"", vec![]),
            ("RUN echo '<<EOF'", vec![]),
            ("RUN echo \\<<EOF", vec![]),
            ("RUN echo it's <<EOF", vec![]),
            ("RUN <<", vec![]),
            ("RUN <<-", vec![]),
            ("RUN <<''", vec![]),
        ] {
            let found: Vec<_> = markers(text).into_iter().map(|(_, marker)| marker.name).collect();
            assert_eq!(found, names, "{text}");
        }
    }

    #[test]
    fn quotes_and_dashes() {
        for (word, expand, strip_tabs) in
            [("<<EOF", true, false), ("<<-EOF", true, true), ("<<'EOF'", false, false), ("<<-\"EOF\"", false, true)]
        {
            let marker = Marker::parse(word).unwrap();
            assert_eq!(marker, Marker { name: "EOF".to_owned(), expand, strip_tabs }, "{word}");
            assert!(marker.is_end("EOF\r\n"));
            assert_eq!(marker.is_end("\tEOF"), strip_tabs);
            assert!(!marker.is_end(" EOF"));
        }
    }
}
