//! The commands as a user gives them, on every driver: the whole way from a tar to a removed container, what is refused,
//! many at once, signals, and a machine that was restarted.

mod at_once;
mod pools;
mod reboots;
mod refusals;
mod signals;

use std::{fs, process::Command};

use lamina::driver::DriverKind;
use libtest_mimic::Trial;

use crate::{
    archive, expect, expect_eq,
    lamina::{Host, Said, with_host, write_tar},
    pool::Outcome,
};

type Case = fn(&Host) -> Outcome;

const CASES: [(&str, Case); 25] = [
    ("whole_way", whole_way),
    ("first_command_makes_the_pool", pools::first_command_makes_the_pool),
    ("layers_of_a_shared_base_lie_there_once", layers_of_a_shared_base_lie_there_once),
    ("load_reports_the_ids_of_the_archive", load_reports_the_ids_of_the_archive),
    ("a_bad_layer_leaves_nothing", refusals::a_bad_layer_leaves_nothing),
    ("in_use_is_refused", refusals::in_use_is_refused),
    ("names_that_do_not_exist", refusals::names_that_do_not_exist),
    ("wrong_usage_is_code_2", refusals::wrong_usage_is_code_2),
    ("pools_that_cannot_be", pools::pools_that_cannot_be),
    ("after_a_reboot_the_next_command_works", reboots::after_a_reboot_the_next_command_works),
    ("ten_creates_at_once", at_once::ten_creates_at_once),
    ("one_image_imported_ten_times_at_once", at_once::one_image_imported_ten_times_at_once),
    ("first_commands_at_once_make_one_pool", at_once::first_commands_at_once_make_one_pool),
    ("a_signal_undoes_what_was_begun", signals::a_signal_undoes_what_was_begun),
    ("a_root_behind_a_link_is_the_same_root", pools::a_root_behind_a_link_is_the_same_root),
    ("a_lost_database_does_not_cost_the_pool", reboots::a_lost_database_does_not_cost_the_pool),
    ("mounting_and_removing_at_once", at_once::mounting_and_removing_at_once),
    ("ten_diffs_and_commits_at_once", at_once::ten_diffs_and_commits_at_once),
    ("mounts_inside_a_container_are_the_users", mounts_inside_a_container_are_the_users),
    ("load_tells_what_it_loaded", load_tells_what_it_loaded),
    ("looking_makes_nothing", pools::looking_makes_nothing),
    ("a_signal_ends_waiting", signals::a_signal_ends_waiting),
    ("a_pool_that_does_not_come_up_is_told", reboots::a_pool_that_does_not_come_up_is_told),
    ("an_old_database_costs_nothing", reboots::an_old_database_costs_nothing),
    ("what_is_mounted_inside_is_not_in_the_pool", what_is_mounted_inside_is_not_in_the_pool),
];

/// One case per driver.
pub fn trials() -> Vec<Trial> {
    let case = |driver: DriverKind, name: &str, case: Case| {
        Trial::ignorable_test(format!("commands::{driver}::{name}"), move || with_host(driver, case))
    };
    let mut all: Vec<Trial> =
        DriverKind::ALL.into_iter().flat_map(|driver| CASES.map(|(name, body)| case(driver, name, body))).collect();
    for driver in DriverKind::ALL.into_iter().filter(|driver| driver.has_device()) {
        all.push(case(driver, "given_devices_and_files", pools::given_devices_and_files));
        all.push(case(driver, "a_pool_whose_file_was_removed_goes", pools::a_pool_whose_file_was_removed_goes));
    }
    all.push(Trial::ignorable_test(
        "commands::a_missing_kernel_feature_is_named",
        refusals::a_missing_kernel_feature_is_named,
    ));
    all.push(Trial::ignorable_test(
        "commands::a_missing_program_names_its_package",
        refusals::a_missing_program_names_its_package,
    ));
    all
}

pub fn is_id(text: &str) -> bool {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn whole_way(host: &Host) -> Outcome {
    host.pool("512M")?;
    let image = host.image("debian:12", &[("etc/hello", b"hello"), ("big", &[1; 100_000])])?;
    expect!(is_id(&image), "import prints only the ID, not {image:?}");
    let id = host.ok(&["create", "--name", "box", "debian:12"])?;
    expect!(is_id(&id), "create prints only the ID, not {id:?}");
    let fresh = &host.json(&["ps", "-a", "-s"])?[0];
    expect_eq!(
        (&fresh["id"], &fresh["name"], &fresh["image"]),
        (&id.as_str().into(), &"box".into(), &"debian:12".into())
    );
    expect_eq!((&fresh["size_rw_bytes"], &fresh["size_virtual_bytes"]), (&0.into(), &100_005.into()));

    let target = host.mount("box")?;
    expect_eq!(host.mount(&id[..12])?, target, "mounted already, it only tells where");
    fs::write(target.join("out.txt"), "hello")?;
    fs::write(target.join("etc/hello"), "changed")?;
    fs::remove_file(target.join("big"))?;
    expect_eq!(
        host.ok(&["diff", "box"])?,
        "C /etc\nC /etc/hello\nD /big\nA /out.txt".lines().fold(String::new(), sorted)
    );
    host.ok(&["umount", "box"])?;
    let sizes = &host.json(&["ps", "-a", "-s"])?[0];
    expect_eq!((&sizes["size_rw_bytes"], &sizes["size_virtual_bytes"]), (&12.into(), &100_017.into()));
    expect!(sizes["own_bytes"].as_u64() >= Some(1), "what was written takes space: {sizes}");

    let committed = host.ok(&["commit", "box", "acme/changed:1.0"])?;
    expect!(is_id(&committed), "commit prints only the ID, not {committed:?}");
    host.ok(&["create", "--name", "second", "acme/changed:1.0"])?;
    let target = host.mount("second")?;
    expect_eq!(fs::read(target.join("out.txt"))?, b"hello");
    expect_eq!(fs::read(target.join("etc/hello"))?, b"changed");
    expect!(!target.join("big").exists(), "what was removed is not in the image");
    expect_eq!(host.ok(&["diff", "second"])?, "");
    host.ok(&["umount", "second"])?;
    let history = host.json(&["history", "acme/changed:1.0"])?;
    expect_eq!(history.as_array().map(Vec::len), Some(2));
    expect_eq!((&history[0]["id"], &history[0]["size_bytes"]), (&committed.as_str().into(), &12.into()));
    expect_eq!((&history[1]["id"], &history[1]["size_bytes"]), (&"<missing>".into(), &100_005.into()));

    for container in ["box", "second"] {
        expect_eq!(host.ok(&["rm", container])?, container);
    }
    host.ok(&["rmi", "acme/changed:1.0"])?;
    host.ok(&["rmi", "debian:12"])?;
    let status = host.json(&["pool", "status"])?;
    expect_eq!((&status["layers"], &status["containers"]), (&0.into(), &0.into()));
    expect_eq!(&status["driver"], &host.driver.name());
    Ok(())
}

/// Joins lines in the order of their paths.
fn sorted(mut all: String, line: &str) -> String {
    let mut lines: Vec<&str> = all.lines().chain([line]).collect();
    lines.sort_by_key(|line| line[2..].to_owned());
    all = lines.join("\n");
    all
}

fn layers_of_a_shared_base_lie_there_once(host: &Host) -> Outcome {
    host.pool("512M")?;
    archive::load_on_shared_base(host, ["left:1", "right:1"])?;
    let images = host.json(&["images"])?;
    let of = |image: usize, layer: usize, field: &str| images[image]["layers"][layer][field].clone();
    expect_eq!(of(0, 0, "cache_id"), of(1, 0, "cache_id"), "the base lies in the pool once");
    expect!(of(0, 1, "cache_id") != of(1, 1, "cache_id"), "the upper layers differ");
    expect!(of(0, 0, "cache_id") != of(0, 0, "diff_id"), "a cache ID is random");
    expect_eq!(host.json(&["pool", "status"])?["layers"], 3);
    host.ok(&["rmi", "left:1"])?;
    expect_eq!(host.json(&["pool", "status"])?["layers"], 2, "the base stays for the other image");
    Ok(())
}

fn load_reports_the_ids_of_the_archive(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = host.file("layer");
    write_tar(&tar, &[("file", b"content")])?;
    archive::write(&host.file("image.tar"), "some/image:2", &[&tar])?;
    expect_eq!(host.ok(&["load", "-i", &host.file("image.tar").display().to_string()])?, "Loaded image: some/image:2");
    let view = &host.json(&["images"])?[0];
    let diff = lamina::id::Digest::of(&fs::read(&tar)?).to_string();
    expect_eq!(view["layers"][0]["diff_id"], diff.as_str());
    expect_eq!(view["layers"][0]["chain_id"], diff.as_str(), "of the lowest layer they are the same");
    Ok(())
}

/// `check` called a file system that the user had mounted in a container a stray one, and unmounted it.
fn mounts_inside_a_container_are_the_users(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("proc/keep", b"")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    let inside = host.mount("box")?.join("proc");
    let none = None::<&str>;
    nix::mount::mount(Some("proc"), &inside, Some("proc"), nix::mount::MsFlags::empty(), none)?;
    let checked = host.run(&["check", "--repair"])?;
    let there = inside.join("self").exists();
    nix::mount::umount(&inside)?;
    expect_eq!(checked.code, Some(0), "{checked:?}");
    expect!(there, "what the user mounted stays");
    host.ok(&["umount", "box"]).map(drop)
}

/// `load` told every name that the image has here.
fn load_tells_what_it_loaded(host: &Host) -> Outcome {
    host.pool("512M")?;
    let tar = host.file("layer");
    write_tar(&tar, &[("file", b"content")])?;
    for reference in ["first:1", "second:1"] {
        let archive = host.file("image.tar");
        archive::write(&archive, reference, &[&tar])?;
        let told = host.ok(&["load", "-i", &archive.display().to_string()])?;
        expect_eq!(told, format!("Loaded image: {reference}"));
    }
    // The same from standard input.
    let child = host.spawn(&["load"], fs::File::open(host.file("image.tar"))?.into())?;
    let said = Said::from(child.wait_with_output()?);
    expect_eq!((said.code, said.out.as_str()), (Some(0), "Loaded image: second:1\n"), "{said:?}");
    Ok(())
}

/// Where the host's mounts are shared, a mount inside a container appeared in the pool too, and became part of a layer.
fn what_is_mounted_inside_is_not_in_the_pool(host: &Host) -> Outcome {
    host.pool("512M")?;
    host.image("base:1", &[("file", b"content")])?;
    host.ok(&["create", "--name", "box", "base:1"])?;
    fs::create_dir(host.file("outside"))?;
    fs::write(host.file("outside/secret"), "")?;
    let script = "root=$(\"$1\" mount box) && mkdir \"$root/data\" && mount --bind \"$2\" \"$root/data\" &&
        \"$1\" diff box; code=$?; umount \"$root/data\"; \"$1\" umount box; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "shared", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_lamina")]);
    // A pool that lives in mounts of this namespace must be up here, not there.
    let said = Said::from(command.arg(host.file("outside")).env("LAMINA_ROOT", host.root()).output()?);
    expect_eq!((said.code, said.out.as_str()), (Some(0), "A /data\n"), "{said:?}");
    host.check()
}
