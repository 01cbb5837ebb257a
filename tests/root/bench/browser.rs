//! The HTML report in a real browser: no word on the console, every chart there, the numbers those of the JSON.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use libtest_mimic::Completion;
use serde_json::Value;

use super::{Place, list, read};
use crate::{expect, expect_eq, pool::Outcome};

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn browser() -> Option<&'static str> {
    let found = |name: &&str| ["/usr/bin", "/usr/local/bin"].iter().any(|place| Path::new(place).join(name).is_file());
    BROWSERS.into_iter().find(found)
}

/// What it shows of a page, as HTML, and what it says on the console.
fn show(browser: &str, page: &Path, profile: &Path) -> Outcome<(String, Vec<String>)> {
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    expect!(output.status.success(), "{browser}: {}: {said}", output.status);
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    Ok((String::from_utf8(output.stdout)?, console))
}

pub(super) fn report() -> Outcome<Completion> {
    let Some(browser) = browser() else {
        return Ok(Completion::ignored_with("no browser is installed (chromium)"));
    };
    let place = Place::new()?;
    let profile = place.file("profile");
    // It must be able to fail.
    let broken = place.file("broken.html");
    fs::write(&broken, "<!DOCTYPE html><title>x</title><script>does_not_exist()</script>")?;
    let (_, console) = show(browser, &broken, &profile)?;
    expect!(console.iter().any(|line| line.contains("does_not_exist")), "no error of a broken page: {console:?}");

    let (json, html) = (place.file("bench.json"), place.file("bench.html"));
    let (json_name, html_name) = (json.to_string_lossy(), html.to_string_lossy());
    let what = ["--tiny", "--runs", "3", "--driver", "btrfs,overlay/ext4,bare", "--workload", "copy-up,metadata"];
    let output = place.run(&[what.as_slice(), &["--json", &json_name, "--report", &html_name]].concat())?;
    expect!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&html)?;
    for outside in ["http:", "https:", "<script", "@import", "url("] {
        let found = text.replace("http://www.w3.org/2000/svg", "");
        expect!(!found.contains(outside), "the page refers to something outside: {outside}");
    }
    let (shown, console) = show(browser, &html, &profile)?;
    expect!(console.is_empty(), "on the console: {console:?}");
    same_numbers(&read(&json)?, &shown)?;
    Ok(Completion::Completed)
}

fn same_numbers(report: &Value, shown: &str) -> Outcome<()> {
    let mut charts = BTreeSet::new();
    let mut numbers = Vec::new();
    for series in list(report, "series") {
        charts.insert((series["workload"].as_str(), series["what"].as_str()));
        let text = |name: &str| series[name].as_str().unwrap_or_default().to_owned();
        numbers.push((text("row"), text("at"), series["median"].as_f64().ok_or("no median")?.to_bits()));
    }
    let drawn = shown.matches("<figure").count();
    expect_eq!((drawn, shown.matches("<svg").count()), (charts.len(), charts.len()), "figures and charts");
    let marks = shown.matches("<circle").count() + shown.matches("<polygon").count();
    expect_eq!(marks, numbers.len(), "marks of medians");
    let attribute = |cell: &str, name: &str| {
        let rest = cell.split_once(&format!("{name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut cells = Vec::new();
    for cell in shown.split("<td ").skip(1).filter(|cell| cell.starts_with("data-row")) {
        let (row, at) = (attribute(cell, "data-row"), attribute(cell, "data-at"));
        let median: f64 = attribute(cell, "data-median").ok_or("no median")?.parse()?;
        cells.push((row.ok_or("no row")?, at.ok_or("no size")?, median.to_bits()));
    }
    numbers.sort();
    cells.sort();
    expect!(numbers == cells, "the page has other numbers: {cells:?} instead of {numbers:?}");
    Ok(())
}
