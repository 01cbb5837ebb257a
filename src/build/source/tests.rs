//! Names and patterns, against directories made for it.

use std::{fs, os::fd::AsFd as _, path::Path};

use super::{Source, clean};

#[test]
fn what_is_kept_begins_behind_a_pattern_too() {
    let directory = tempfile::tempdir().unwrap();
    for path in ["a1/d", "a2/d", "b/d"] {
        fs::create_dir_all(directory.path().join(path)).unwrap();
        fs::write(directory.path().join(path).join("x"), path).unwrap();
    }
    let root = fs::File::open(directory.path()).unwrap();
    let name = "the build context".to_owned();
    let source = Source { root: root.as_fd(), ignore: None, keeps_owners: false, name };
    let found = source.find_with_parents("./a*/./d/x").unwrap();
    assert_eq!(found.iter().map(|found| &*found.path).collect::<Vec<_>>(), ["a1/d/x", "a2/d/x"].map(Path::new));
    for found in &found {
        assert_eq!(found.kept.as_ref().unwrap().path(), Path::new("d/x"));
        let kept = source.kept_directories(found).unwrap();
        assert_eq!(kept.iter().map(|kept| &*kept.below).collect::<Vec<_>>(), [Path::new("d")]);
    }
    for (pattern, words) in [("**/./x", "'**/./x': before '/./'"), ("a1/./../b/d", "out of 'a1' of the build")] {
        let error = source.find_with_parents(pattern).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn paths_are_cleaned_and_stay_inside() {
    let clean = |pattern: &str| clean(pattern, "the build context");
    let text = |pattern: &str| {
        let parts: Vec<String> =
            clean(pattern).unwrap().into_iter().map(|part| String::from_utf8(part).unwrap()).collect();
        parts.join("/")
    };
    assert_eq!(text("."), "");
    assert_eq!(text("/a//b/./c/../d/"), "a/b/d");
    assert!(clean("a/../../b").unwrap_err().to_string().contains("leads out of the build context"));
}
