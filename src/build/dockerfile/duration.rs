//! Durations of `HEALTHCHECK` in the form of Go's `time.ParseDuration`: `30s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// What each unit is in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Digits of a fraction that a nanosecond of an hour can need; more are dropped.
const FRACTION: usize = 13;

/// Numbers, each with a unit; a lone `0` needs none. `None` if it is no such thing, negative, or beyond 292 years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| c != '.' && !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *nanoseconds)?)?;
        rest = after;
    }
    i64::try_from(total).is_ok().then_some(Duration::from_nanos(total))
}

/// A decimal number times a unit, rounded down.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(FRACTION)];
    let mut part: u128 = 0;
    for digit in fraction.bytes() {
        part = part * 10 + u128::from(digit - b'0');
    }
    let places = u32::try_from(fraction.len()).ok()?;
    let part = u64::try_from(part * u128::from(unit) / 10_u128.pow(places)).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn go_durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("30s", 30_000),
            ("+5s", 5_000),
            ("5m30s", 330_000),
            ("1.5h", 5_400_000),
            ("1h15m30.918s", 4_530_918),
            (".5s", 500),
            ("1.s", 1_000),
            ("100ms", 100),
            ("1000µs", 1),
            ("52763797000ns", 52_763),
            ("0.3333333333333333333h", 1_199_999),
        ] {
            assert_eq!(parse(text).map(|duration| duration.as_millis()), Some(milliseconds), "{text}");
        }
        assert_eq!(parse("10ns"), Some(Duration::from_nanos(10)));
        for text in
            ["", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "-5s", "1 s", "1..5s", "s1", "99999999999h", "9e9s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
