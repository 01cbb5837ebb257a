//! `.dockerignore`: which paths of the build context are left out.
//!
//! The rules are those of moby/patternmatcher: lines are trimmed and cleaned as Go's `path.Clean` does, a pattern that
//! matches a directory covers all below it, `!` makes an exception, and of all patterns the last that matches decides.

use crate::{
    build::pattern::Pattern,
    error::{Act, Error, Kind, Result},
};

/// The patterns of a `.dockerignore`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    exception: bool,
    pattern: Pattern,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// [`Kind::Invalid`], with the line's number, if a pattern is malformed or a `!` stands alone.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        lines
            .filter(|(_, line)| !line.starts_with(b"#") && !line.trim_ascii().is_empty())
            .map(|(number, line)| rule(line).act(|| format!("line {}", number + 1)))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Takes the patterns of `--exclude` flags, which follow the same rules.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if a pattern is malformed.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let patterns = patterns.into_iter().map(str::as_bytes).filter(|pattern| !pattern.trim_ascii().is_empty());
        patterns.map(rule).collect::<Result<_>>().map(Self)
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|rule| rule.exception)
    }

    /// Whether a path, relative to the context and clean, is left out. The context itself (`.`, empty) never is.
    pub fn excludes(&self, path: &[u8]) -> bool {
        if matches!(path, b"" | b".") {
            return false;
        }
        self.0.iter().fold(false, |excluded, rule| {
            // A rule that would change nothing is not asked.
            if excluded == rule.exception && rule.covers(path) { !rule.exception } else { excluded }
        })
    }

    /// Whether a directory that is left out must be entered nevertheless, because an exception may lie below it.
    pub fn may_include_below(&self, directory: &[u8]) -> bool {
        self.0.iter().any(|rule| rule.exception && rule.pattern.may_match_below(directory))
    }
}

impl Rule {
    /// Whether the pattern matches the path or a directory that it lies in.
    fn covers(&self, path: &[u8]) -> bool {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        slashes.chain([path.len()]).any(|end| self.pattern.matches(&path[..end]))
    }
}

fn rule(line: &[u8]) -> Result<Rule> {
    let line = line.trim_ascii();
    let (exception, text) = match line.strip_prefix(b"!") {
        Some(rest) => (true, rest.trim_ascii()),
        None => (false, line),
    };
    if text.is_empty() {
        return Err(Error::new(Kind::Invalid, "'!' alone excepts nothing: put a pattern after it"));
    }
    let text = clean(text);
    let relative = text.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(&text);
    Ok(Rule { exception, pattern: Pattern::parse_tree(relative)? })
}

/// The shortest equal path by the rules of Go's `path.Clean`: no `.`, no doubled or trailing `/`, `..` resolved.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::{Ignore, clean};

    fn excludes(patterns: &str, path: &str) -> bool {
        Ignore::parse(patterns.as_bytes()).unwrap().excludes(path.as_bytes())
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, excluded) in [
            ("**", "file", true),
            ("**/", "file", true),
            ("**", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/file/below", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "file", true),
            ("**file", "dir/dir/file", true),
            ("**file", "dir/myfile", true),
            ("**file*", "dir/myfile", false),
            ("**/file", "dir/myfile", false),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("a*", "ab/c", true),
            ("*/temp*", "somedir/temporary.txt", true),
            ("*/temp*", "somedir/subdir/temporary.txt", false),
            ("*/*/temp*", "somedir/subdir/temporary.txt", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("/foo/bar", "foo/bar", true),
            ("foo/bar/", "foo/bar/baz", true),
            ("./foo//x/../bar", "foo/bar", true),
            ("  docs  ", "docs/a", true),
            ("docs\r", "docs", true),
            (".", "file", false),
            ("/", "file", false),
            ("..", "file", false),
            ("../file", "file", false),
            ("*", ".", false),
            ("*", "", false),
            (" # no comment", "# no comment", true),
            ("#comment", "#comment", false),
            ("\u{feff}bom", "bom", true),
        ] {
            assert_eq!(excludes(pattern, path), excluded, "{pattern:?} {path:?}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        for (patterns, path, excluded) in [
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs\n!docs/README.md", "docs/other", true),
            ("docs/\n!docs/README.md", "docs/README.md", false),
            ("docs/*\n!docs/README.md", "docs/README.md", false),
            ("!fileutils.go\n*.go", "fileutils.go", true),
            ("*.go\n!fileutils.go", "fileutils.go", false),
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("**\n! /dist/*.whl ", "dist/a.whl", false),
            ("\n\n# comment\n*\n!a", "a/b", false),
        ] {
            assert_eq!(excludes(patterns, path), excluded, "{patterns:?} {path:?}");
        }
    }

    #[test]
    fn excluded_directories_are_entered_for_exceptions() {
        for (patterns, directory, entered) in [
            ("docs", "docs", false),
            ("docs\n!docs/README.md", "docs", true),
            ("docs\n!docs/a/b/c", "docs/a/b", true),
            ("docs\n!docs/a/b/c", "docs/a/x", false),
            ("**\n!src", "docs", false),
            ("**\n!*/keep", "docs", true),
            ("**\n!*/keep", "docs/deeper", false),
            ("**\n!**/keep", "docs/deeper", true),
            ("**\n!docs/**", "docs", true),
            ("**\n!doc", "docs", false),
            ("**\n!d?cs/*.md", "docs", true),
        ] {
            let ignore = Ignore::parse(patterns.as_bytes()).unwrap();
            assert_eq!(ignore.may_include_below(directory.as_bytes()), entered, "{patterns:?} {directory}");
        }
    }

    #[test]
    fn names_and_patterns_need_not_be_text() {
        let ignore = Ignore::parse(b"\xff*\nb?\n").unwrap();
        assert!(ignore.excludes(b"\xffa"));
        assert!(ignore.excludes(b"b\xfe"));
        assert!(!ignore.excludes(b"\xfea"));
    }

    #[test]
    fn malformed_lines_are_named() {
        for (patterns, told) in [("a\n!\n", "line 2: '!' alone"), ("# x\n\n[\n", "line 3: malformed pattern '['")] {
            let error = Ignore::parse(patterns.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        assert!(Ignore::of(["[a"]).is_err());
        assert!(Ignore::of(["*.o", "", "!keep.o"]).unwrap().excludes(b"a.o"));
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, cleaned) in [
            ("abc", "abc"),
            ("abc/def/", "abc/def"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("abc/./def", "abc/def"),
            ("abc/def/ghi/../jkl", "abc/def/jkl"),
            ("/abc/../..", "/"),
            ("../../abc", "../../abc"),
            ("abc/../../def", "../def"),
            ("/../abc", "/abc"),
            ("./", "."),
            ("//", "/"),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text: Vec<u8>, path: Vec<u8>) {
            if let Ok(ignore) = Ignore::parse(&text) {
                let _ = ignore.excludes(&path);
                let _ = ignore.may_include_below(&path);
            }
        }
    }
}
