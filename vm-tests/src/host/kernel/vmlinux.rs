//! The ELF image inside a compressed kernel image.
//!
//! Its place stands in the image's header: Documentation/arch/x86/boot.rst, fields `setup_sects` (offset 0x1f1),
//! `payload_offset` (0x248, counted from the end of the setup code) and `payload_length` (0x24c).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::host::program::find;

/// What each compression's data starts with, the program that undoes it, and how many bytes the kernel's build
/// appended behind the data: the plain size, where the format itself does not end with it.
const COMPRESSIONS: &[(&[u8], &str, usize)] =
    &[(b"\xfd7zXZ\0", "xz", 4), (b"\x28\xb5\x2f\xfd", "zstd", 4), (b"\x1f\x8b", "gzip", 0)];

/// The plain image.
pub(super) fn extract(image: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(image).with_context(|| format!("read {}", image.display()))?;
    let payload = payload(&packed).with_context(|| format!("find the payload of {}", image.display()))?;
    let found = COMPRESSIONS.iter().find(|(magic, ..)| payload.starts_with(magic));
    let (_, program, appended) = found.context("decompress the kernel: its compression is not known here")?;
    let data = payload.get(..payload.len() - appended).unwrap_or_default().to_vec();
    let plain = decompress(program, data)?;
    if !plain.starts_with(b"\x7fELF") {
        bail!("decompress the kernel: {program} did not give an ELF image");
    }
    Ok(plain)
}

/// The compressed part of the image.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    // Zero stands for four sectors, for the sake of very old images.
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}

/// Pipes data through `program -dc`.
fn decompress(program: &str, data: Vec<u8>) -> Result<Vec<u8>> {
    let mut command = Command::new(find(program)?);
    let mut child = command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("open the pipe to the decompressor")?;
    let writer = thread::spawn(move || input.write_all(&data));
    let said = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    let written = writer.join().is_ok_and(|written| written.is_ok());
    if !said.status.success() || !written {
        bail!("decompress the kernel: {program}: {}", String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(said.stdout)
}

#[cfg(test)]
mod tests {
    use super::payload;

    #[test]
    fn the_payload_lies_where_the_header_says() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&3_u32.to_le_bytes());
        image[1024 + 16..1024 + 19].copy_from_slice(b"abc");
        assert_eq!(payload(&image), Some(b"abc".as_slice()));
    }

    #[test]
    fn a_header_that_points_outside_gives_nothing() {
        let mut image = vec![0xff; 1024];
        assert_eq!(payload(&image), None);
        image.truncate(100);
        assert_eq!(payload(&image), None);
    }
}
