//! Layer archives to trees and back, and image archives made by other programs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed assumption of a test is its failure")]

mod archives;
mod hostile;
mod layers;
pub mod listing;
pub mod tarball;

use std::{fs::File, io::Read, os::fd::AsFd as _, path::Path};

use libtest_mimic::{Completion, Failed, Trial};

type Case = fn() -> Result<Completion, Failed>;

/// All cases of this file.
pub fn trials() -> Vec<Trial> {
    let cases: [(&str, Case); 13] = [
        ("hostile_archives_are_refused_and_reach_nothing", hostile::refused),
        ("symlinks_of_earlier_layers_never_lead_outside", hostile::earlier_symlinks),
        ("archives_cut_at_any_block_are_told", hostile::cut_anywhere),
        ("whiteouts_do_not_depend_on_their_place", layers::whiteouts),
        ("trees_deeper_than_descriptors_make_way", layers::deep_trees),
        ("everything_about_a_file_is_kept", layers::metadata),
        ("sparse_members_keep_their_holes", layers::sparse),
        ("whiteouts_reach_any_depth", layers::deep_whiteouts),
        ("unpack_of_pack_gives_the_child", layers::round_trip),
        ("memory_stays_small_for_a_large_layer", layers::memory),
        ("archives_of_skopeo_and_umoci_load_alike", archives::real),
        ("damaged_image_archives_are_told", archives::damaged),
        ("old_docker_archives_with_linked_layers_load", archives::linked),
    ];
    let trial = |(name, case): (&'static str, Case)| {
        Trial::ignorable_test(format!("image::{name}"), move || match rustix::process::geteuid().is_root() {
            true => case(),
            false => Ok(Completion::ignored_with("needs root")),
        })
    };
    cases.into_iter().map(trial).collect()
}

/// Unpacks into a directory.
pub fn unpack(root: &Path, tar: impl Read + Send) -> lamina::Result<lamina::image::unpack::Unpacked> {
    let root = File::open(root).unwrap();
    lamina::image::unpack::unpack(root.as_fd(), tar, &mut |_| Ok(()))
}
