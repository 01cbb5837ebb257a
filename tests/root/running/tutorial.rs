//! The seed's tutorial: two images, five containers, and what they take.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::base;
use crate::{
    expect, expect_eq,
    lamina::Host,
    pool::{Fault, Outcome},
};

/// Blocks that the files of a directory take, as `du -s` counts them.
fn du(path: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut blocks = fs::symlink_metadata(path)?.blocks();
    for entry in fs::read_dir(path)? {
        blocks += fs::symlink_metadata(entry?.path())?.blocks();
    }
    Ok(blocks * 512)
}

/// The second image is the first with a command: the same layers, the same steps below, nothing of its own.
fn images_and_histories(host: &Host, context: &Path) -> Outcome {
    let listing = host.ok(&["images"])?;
    let listed: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let names = [["REPOSITORY", "TAG"], ["acme/my-final-image", "1.0"], ["acme/my-base-image", "1.0"], ["base", "1"]];
    expect_eq!(listed, names, "{listing}");
    let images = host.json(&["images"])?;
    expect_eq!(images[0]["layers"], images[1]["layers"]);
    expect_eq!((images[0]["layers"].as_array().map(Vec::len), &images[0]["own_bytes"]), (Some(2), &0.into()));
    let history = |image: &str| -> Outcome<Vec<(String, u64)>> {
        let rows = host.json(&["history", image])?;
        let step = |row: &serde_json::Value| {
            (row["created_by"].as_str().unwrap_or_default().to_owned(), row["size_bytes"].as_u64().unwrap_or(u64::MAX))
        };
        Ok(rows.as_array().ok_or("a list")?.iter().map(step).collect())
    };
    let (base, last) = (history("acme/my-base-image:1.0")?, history("acme/my-final-image:1.0")?);
    expect_eq!(base.len(), 2, "{base:?}");
    let files = fs::read_dir(context)?.map(|entry| Ok::<_, Fault>(entry?.metadata()?.len()));
    expect_eq!(base[0], ("COPY . /app".to_owned(), files.sum::<Outcome<u64>>()?));
    expect_eq!((last[0].0.contains("/app/hello.sh"), last[0].1), (true, 0), "{last:?}");
    expect_eq!(last[1..], base[..]);
    Ok(())
}

pub fn the_tutorial_line_by_line(host: &Host) -> Outcome {
    base(host)?;
    let context = host.file("cow-test");
    fs::create_dir_all(&context)?;
    fs::write(context.join("hello.sh"), "#!/bin/sh\necho \"Hello world\"\n")?;
    fs::set_permissions(context.join("hello.sh"), fs::Permissions::from_mode(0o755))?;
    fs::write(context.join("Dockerfile.base"), "FROM base:1\nCOPY . /app\n")?;
    fs::write(context.join("Dockerfile"), "FROM acme/my-base-image:1.0\nCMD /app/hello.sh\n")?;
    let directory = context.to_string_lossy().into_owned();
    let file = context.join("Dockerfile.base").to_string_lossy().into_owned();
    host.ok(&["build", "-t", "acme/my-base-image:1.0", "-f", &file, &directory])?;
    host.ok(&["build", "-t", "acme/my-final-image:1.0", &directory])?;
    images_and_histories(host, &context)?;
    expect_eq!(host.ok(&["run", "--rm", "acme/my-final-image:1.0"])?, "Hello world");

    let mut ids = Vec::new();
    for number in 1..=5 {
        let name = format!("my_container_{number}");
        ids.push(host.ok(&["run", "-dit", "--name", &name, "acme/my-final-image:1.0", "bash"])?);
    }
    let listing = host.ok(&["ps"])?;
    expect_eq!(listing.lines().count(), 6, "{listing}");
    let mut lines = listing.lines();
    let header: Vec<&str> =
        lines.next().unwrap_or_default().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    expect_eq!(header, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    for (line, number) in lines.by_ref().zip((1..=5).rev()) {
        let cells: Vec<&str> = line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        expect_eq!(cells.len(), 6, "{line}");
        expect_eq!(cells[..3], [&ids[number - 1][..12], "acme/my-final-image:1.0", "\"bash\""]);
        expect!(cells[3].ends_with(" ago") && cells[4].starts_with("Up "), "{line}");
        expect_eq!(cells[5], format!("my_container_{number}"));
    }

    // Their own files on the host are small, and there is one directory each.
    let mut homes: Vec<String> = Vec::new();
    for entry in fs::read_dir(host.root().join("containers"))? {
        let entry = entry?;
        let size = du(&entry.path())?;
        expect!(size <= 40 << 10, "{} takes {size} bytes", entry.path().display());
        homes.push(entry.file_name().to_string_lossy().into_owned());
    }
    homes.sort();
    let mut sorted = ids.clone();
    sorted.sort();
    expect_eq!(homes, sorted);

    // Fresh ones have written nothing, however the runtime got its mount points; then five bytes each.
    for (written, size) in [(false, "0B (virtual "), (true, "5B (virtual ")] {
        for number in 1..=5 {
            if written {
                host.ok(&["exec", &format!("my_container_{number}"), "sh", "-c", "printf hello > /out.txt"])?;
            }
        }
        let sizes = host.ok(&["ps", "-s"])?;
        expect_eq!(sizes.matches(size).count(), 5, "{sizes}");
    }
    expect_eq!(host.ok(&["diff", "my_container_1"])?, "A /out.txt");
    for number in 1..=5 {
        host.ok(&["rm", "-f", &format!("my_container_{number}")])?;
    }
    expect_eq!(host.ok(&["ps", "-a"])?.lines().count(), 1);
    super::nothing_left(host, &ids)
}
