//! What `lamina pull` and `lamina push` have in common: how to reach a registry, and the lines that layers have on the
//! terminal.

use std::{collections::BTreeMap, hash::Hash, io::IsTerminal as _, sync::Mutex, time::Duration};

use clap::ArgAction;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use crate::image::registry::Connection;

const COUNTING: &str = "{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}";

/// How to reach a registry. Credentials are those of 'skopeo login', 'podman login' and 'docker login'.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Reach {
    /// Speak HTTP without encryption
    #[arg(long)]
    plain_http: bool,
    /// Whether the registry's certificate must be one that this machine trusts
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    tls_verify: bool,
    /// Give up on a registry that says nothing for so long
    #[arg(long = "registry-timeout", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
}

impl Reach {
    pub(super) fn connection(self) -> Connection {
        Connection {
            plain_http: self.plain_http,
            tls_verify: self.tls_verify,
            patience: Duration::from_secs(self.timeout),
        }
    }
}

/// A line per layer on standard error, with a bar while it is transferred; where that is no terminal, only the words that
/// a layer ends with.
#[derive(Debug)]
pub(super) struct Lines<K> {
    all: MultiProgress,
    lines: Mutex<BTreeMap<K, (String, ProgressBar)>>,
    quiet: bool,
}

impl<K: Copy + Ord + Hash> Lines<K> {
    pub(super) fn new(quiet: bool) -> Self {
        Self { all: MultiProgress::new(), lines: Mutex::default(), quiet }
    }

    /// A line for each of these.
    pub(super) fn add(&self, layers: impl IntoIterator<Item = (K, String, u64)>) {
        let mut lines = self.lock();
        for (layer, name, size) in layers {
            let make = || {
                let bar = ProgressBar::new(size);
                if self.quiet { bar } else { self.all.add(bar).with_prefix(name.clone()) }
            };
            lines.entry(layer).or_insert_with(|| (name.clone(), make()));
        }
        for (_, bar) in lines.values() {
            bar.set_style(style("{prefix}: {msg}"));
            bar.set_message("Waiting");
        }
    }

    /// From now on its bar counts bytes of `total`, under this word.
    pub(super) fn count(&self, layer: K, word: &'static str, total: Option<u64>) {
        if let Some((_, bar)) = self.lock().get(&layer) {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_style(style(COUNTING));
            bar.set_message(word);
            bar.set_position(0);
        }
    }

    /// Its bar is at so many bytes, under this word.
    pub(super) fn at(&self, layer: K, word: &'static str, position: u64) {
        if let Some((_, bar)) = self.lock().get(&layer) {
            if bar.message() != word {
                bar.set_style(style(COUNTING));
                bar.set_message(word);
            }
            bar.set_position(position);
        }
    }

    pub(super) fn more(&self, layer: K, bytes: u64) {
        if let Some((_, bar)) = self.lock().get(&layer) {
            bar.inc(bytes);
        }
    }

    /// It ends with these words.
    pub(super) fn end(&self, layer: K, words: &str) {
        if let Some((name, bar)) = self.lock().get(&layer) {
            bar.set_style(style("{prefix}: {msg}"));
            bar.finish_with_message(words.to_owned());
            if !self.quiet && !std::io::stderr().is_terminal() {
                output::tell(format_args!("{name}: {words}"));
            }
        }
    }

    /// A line of its own.
    pub(super) fn say(&self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            output::tell(format_args!("{text}"));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<K, (String, ProgressBar)>> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
