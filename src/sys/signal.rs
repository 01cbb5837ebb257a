//! What a signal does to this process.

use std::{io, mem::MaybeUninit, ptr};

/// From now on the caught `signal` makes a blocked system call fail with `EINTR`; handlers are installed with
/// `SA_RESTART` otherwise, which begins it anew (sigaction(2)).
///
/// # Errors
/// `EINVAL` for what is no signal.
pub fn interrupts_calls(signal: libc::c_int) -> io::Result<()> {
    let mut action = present(signal)?;
    action.sa_flags &= !libc::SA_RESTART;
    // SAFETY: the handler is the one that is installed already; only a flag of it is another.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether nothing happens at the `signal`.
///
/// # Errors
/// As [`interrupts_calls`].
pub fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    present(signal).map(|action| action.sa_sigaction == libc::SIG_IGN)
}

fn present(signal: libc::c_int) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action this only writes the present one to the place that is valid for it.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above succeeded, so the kernel's wrapper has filled all of it.
    Ok(unsafe { action.assume_init() })
}
