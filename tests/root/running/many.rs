//! Containers of one image by the hundreds: nothing of them stays.

use std::{fs, path::Path, thread};

use super::{base, followed, nothing_left};
use crate::{expect_eq, lamina::Host, pool::Outcome};

pub fn many_come_and_go_without_a_trace(host: &Host) -> Outcome {
    base(host)?;
    // 200 on the driver where it is quick, and with FULL on each.
    let all = host.driver == lamina::driver::DriverKind::Btrfs || std::env::var_os("FULL").is_some();
    let count: usize = if all { 200 } else { 20 };
    let mounts = lamina::fs::mounts_below(&host.root())?.len();
    let devices = devices(host)?;
    let mut ids = Vec::new();
    for round in 0..count / 10 {
        let run = |number: usize| {
            let name = format!("many-{round}-{number}");
            let said = host.run(&[
                "run",
                "-d",
                "--name",
                &name,
                "-v",
                "/data",
                "base:1",
                "sh",
                "-c",
                "echo $HOSTNAME > /file; echo $HOSTNAME > /data/file; echo done; sleep 1000",
            ]);
            said.map(|said| (name, said))
        };
        let started: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = (0..10).map(|number| scope.spawn(move || run(number))).collect();
            all.into_iter().map(|one| one.join().map_err(|_| "a thread panicked")).collect::<Result<Vec<_>, _>>()
        })?;
        let mut names = Vec::new();
        for one in started {
            let (name, said) = one?;
            expect_eq!(said.code, Some(0), "{said:?}");
            ids.push(said.out.trim().to_owned());
            followed(host, &name, 1)?;
            expect_eq!(host.ok(&["diff", &name])?, "A /file");
            names.push(name);
        }
        let removed = thread::scope(|scope| {
            let all: Vec<_> =
                names.iter().map(|name| scope.spawn(move || host.run(&["rm", "-f", "-v", name]))).collect();
            all.into_iter().map(|one| one.join().map_err(|_| "a thread panicked")).collect::<Result<Vec<_>, _>>()
        })?;
        for said in removed {
            let said = said?;
            expect_eq!(said.code, Some(0), "{said:?}");
        }
    }
    expect_eq!(host.json(&["ps", "-a"])?, serde_json::json!([]));
    expect_eq!(lamina::fs::mounts_below(&host.root())?.len(), mounts);
    expect_eq!(self::devices(host)?, devices);
    expect_eq!(host.ok(&["volume", "ls", "-q"])?, "");
    expect_eq!(fs::read_dir(host.root().join("volumes"))?.count(), 0);
    host.check()?;
    nothing_left(host, &ids)
}

/// Loop devices on files of this host, and device-mapper devices, which are this test's alone where there are any.
fn devices(host: &Host) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let device = entry?;
        let name = device.file_name().to_string_lossy().into_owned();
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if name.starts_with("dm-") && host.driver == lamina::driver::DriverKind::Thin
            || Path::new(file.trim()).starts_with(host.root())
        {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
