//! 'Did you mean': the known word that a mistyped one is nearest to.

/// `; did you mean 'FROM'?` if one of the known words is at most two edits away (one, if it has less than four letters),
/// else nothing.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let nearest = known.into_iter().map(|known| (distance(word, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= if known.len() < 4 { 1 } else { 2 } => {
            format!("; did you mean '{known}'?")
        }
        _ => String::new(),
    }
}

/// Characters to insert, delete, change, or swap with their neighbour (optimal string alignment), case ignored.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut rows = vec![(0..=right.len()).collect::<Vec<_>>()];
    for (i, a) in left.iter().enumerate() {
        let above = &rows[i];
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let changed = above[j] + usize::from(a != b);
            let mut least = changed.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn near_words_are_found() {
        let known = ["FROM", "RUN", "ENTRYPOINT", "ENV", "ADD"];
        for (word, expected) in [
            ("FORM", "; did you mean 'FROM'?"),
            ("FRM", "; did you mean 'FROM'?"),
            ("ENTRYPIONT", "; did you mean 'ENTRYPOINT'?"),
            ("RUNN", "; did you mean 'RUN'?"),
            ("ruin", "; did you mean 'RUN'?"),
            ("APT", ""),
            ("apt-get", ""),
        ] {
            assert_eq!(hint(word, known), expected, "{word}");
        }
    }
}
