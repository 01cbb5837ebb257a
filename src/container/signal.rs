//! Signals as users write them.

use nix::sys::signal::Signal;

use crate::error::{Error, Kind, Result};

/// A signal by its name, with or without `SIG`, by its number, or as `RTMIN+N`.
///
/// # Errors
/// `Invalid`.
pub fn signal_of(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let by_name = || format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32);
    // Those between have no names: the C library keeps them for itself.
    let is_one =
        |number: &i32| Signal::try_from(*number).is_ok() || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(number);
    let by_number = || name.parse().ok().filter(is_one);
    let real_time = || {
        let more = name.strip_prefix("RTMIN")?;
        let more = if more.is_empty() { 0 } else { more.strip_prefix('+')?.parse().ok()? };
        libc::SIGRTMIN().checked_add(more).filter(|number| more >= 0 && is_one(number))
    };
    by_name()
        .or_else(by_number)
        .or_else(real_time)
        .ok_or_else(|| Error::new(Kind::Invalid, format!("invalid signal: {}", text.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::signal_of;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal_of("SIGTERM").unwrap(), libc::SIGTERM);
        assert_eq!(signal_of("hup").unwrap(), libc::SIGHUP);
        assert_eq!(signal_of("pwr").unwrap(), libc::SIGPWR);
        assert_eq!(signal_of("9").unwrap(), libc::SIGKILL);
        assert_eq!(signal_of("SIGRTMIN+3").unwrap(), libc::SIGRTMIN() + 3);
        for bad in ["", "SIG", "0", "32", "65", "RTMIN+99", "-9"] {
            assert!(signal_of(bad).is_err(), "{bad}");
        }
    }
}
