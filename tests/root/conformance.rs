//! What every driver must do, once for all: each case runs as `conformance::DRIVER::CASE` on a pool of its own.

mod change_kinds;
mod content;
mod layers;
mod life;
mod random;
mod space;
mod tree;

use lamina::{driver::DriverKind, units::Bytes};
use libtest_mimic::Trial;

use crate::pool::{Outcome, Pool, with_pool};

/// A name, the drivers that it is for, how large the pool is, and what to do.
type Case = (&'static str, &'static [DriverKind], Bytes, fn(&mut Pool) -> Outcome);

const ALL: &[DriverKind] = &DriverKind::ALL;
/// Those with a pool that can be filled.
const FILLED: &[DriverKind] = &[DriverKind::Thin, DriverKind::Btrfs];
const OVERLAY: &[DriverKind] = &[DriverKind::Overlay];

/// Sparse, so it costs nothing to be roomy.
const ROOMY: Bytes = Bytes::gib(4);
/// Little enough to be filled.
const SMALL: Bytes = Bytes::mib(320);

macro_rules! cases {
    ($($drivers:ident $size:ident: $($module:ident::$case:ident)+;)+) => {
        const CASES: &[Case] = &[$($((stringify!($case), $drivers, $size, $module::$case),)+)+];
    };
}

cases! {
    ALL ROOMY:
        life::a_new_volume_is_empty
        life::a_child_shows_its_parent
        life::the_root_directory_is_inherited_with_its_metadata
        life::a_sealed_volume_cannot_be_written
        life::a_sealed_parent_never_changes
        life::siblings_never_see_each_others_writes
        life::mounting_and_releasing_can_be_repeated
        life::deleting_is_idempotent
        life::volumes_lists_exactly_what_exists
        life::a_pool_taken_down_and_up_again_has_everything
        life::a_parent_may_be_mounted_while_children_are_made
        life::snapshots_of_one_parent_can_be_made_at_once
        life::a_capture_holds_one_state_of_a_volume_being_written
        layers::one_hundred_and_twenty_five_layers
        layers::deleted_names_stay_deleted
        layers::a_directory_made_anew_is_empty
        layers::files_and_directories_replace_each_other
        content::hard_links
        content::attributes_and_capabilities
        content::modes_and_owners
        content::devices_fifos_and_sockets
        content::holes_stay_holes
        content::names_are_bytes
        content::times_to_the_nanosecond
        content::paths_longer_than_any_call_takes
        change_kinds::added_changed_deleted
        change_kinds::content_of_equal_size_and_time
        change_kinds::metadata_alone
        change_kinds::links
        change_kinds::renamed_directory
        change_kinds::what_was_made_and_removed_is_no_change
        change_kinds::the_first_layer_is_all_added
        random::changes_equal_a_walk_after_random_operations
        space::usage_follows_what_is_written
        space::a_limit_stops_its_volume_alone
        space::status_tells_space_and_health;
    OVERLAY ROOMY:
        layers::five_hundred_directories_are_the_limit;
    FILLED SMALL:
        space::a_full_pool_fails_the_writer_alone;
}

/// Every case on every driver that it is for.
pub fn trials() -> Vec<Trial> {
    DriverKind::ALL
        .into_iter()
        .flat_map(|kind| {
            CASES.iter().filter(move |(_, drivers, ..)| drivers.contains(&kind)).map(move |(name, _, size, case)| {
                Trial::ignorable_test(format!("conformance::{kind}::{name}"), move || with_pool(kind, *size, *case))
            })
        })
        .collect()
}
