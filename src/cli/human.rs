//! Ages in Docker's words (`HumanDuration` of go-units).

use jiff::Timestamp;

/// How long ago `created` (RFC 3339) was: `5 seconds ago`, `About a minute ago`, `3 months ago`; `N/A` for no time or
/// one that only stands for none (up to 2000-01-01, as Docker's history does).
pub(super) fn ago(created: Option<&str>, now: Timestamp) -> String {
    let Some(created) = created.and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "N/A".to_owned();
    };
    // 2000-01-01T00:00:00Z
    if created.as_second() <= 946_684_800 {
        return "N/A".to_owned();
    }
    format!("{} ago", duration(now.as_second() - created.as_second()))
}

/// How long it is since `then`: `3 minutes`.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    duration(now.as_second() - then.as_second())
}

fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::{ago, duration};
    use jiff::Timestamp;

    #[test]
    fn ages_are_worded_as_docker_words_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (125, "2 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (3 * 86400, "3 days"),
            (20 * 86400, "2 weeks"),
            (100 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn no_time_is_not_available() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(ago(None, now), "N/A");
        assert_eq!(ago(Some("0001-01-01T00:00:00Z"), now), "N/A");
        assert_eq!(ago(Some("1970-01-01T00:00:00Z"), now), "N/A");
    }
}
