//! The direction of modules, as docs/architecture.md draws it: a module uses only what stands to its right.

#![allow(clippy::unwrap_used, reason = "a source file that cannot be read fails the test")]

use std::{fs, path::Path};

/// What each module may use, besides the small ones that serve all.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("sys", &[]),
    ("block", &["sys"]),
    ("fs", &["sys"]),
    ("driver", &["block", "fs", "sys"]),
    ("store", &["driver", "fs"]),
    ("image", &["store", "driver", "fs"]),
    ("runtime", &["fs", "sys"]),
    ("build", &["runtime", "image", "store", "driver", "fs"]),
    ("volume", &["store", "fs"]),
    ("container", &["runtime", "volume", "image", "store", "driver", "fs"]),
    ("bench", &["build", "runtime", "container", "image", "store", "driver", "block", "fs", "sys"]),
    ("cli", &["build", "runtime", "bench", "container", "volume", "image", "store", "driver", "fs"]),
    ("units", &[]),
];

const SERVE_ALL: [&str; 6] = ["crash", "error", "id", "interrupt", "program", "units"];

fn files(path: &Path, found: &mut Vec<(String, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
    }
}

/// The modules of the crate that a file's text names: `crate::name` and the members of `use crate::{...}`.
fn used(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (index, character) in group.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            names.push(word(&group[index..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_only_what_stands_to_their_right() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_USE {
        let mut found = Vec::new();
        for path in [source.join(module), source.join(format!("{module}.rs"))] {
            if path.exists() {
                files(&path, &mut found);
            }
        }
        assert!(!found.is_empty(), "module {module} has no files");
        for (path, text) in found {
            for name in used(&text) {
                let fine = name == module || allowed.contains(&name.as_str()) || SERVE_ALL.contains(&name.as_str());
                if modules.contains(&name.as_str()) && !fine {
                    wrong.push(format!("{path} uses {name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn uses_are_seen() {
    assert_eq!(
        used("use crate::{\n    fs::{self, Mounted},\n    id::VolumeId,\n};\nlet x = crate::store::now();"),
        ["fs", "id", "store"]
    );
}
