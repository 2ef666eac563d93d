"""What each named change does, shown by its witness, and which releases have it."""

from typing import Final

import pytest

from fuzz.probe import load_witnesses
from model.profile import BY_NAME, CHANGES, PROFILES, Change, Profile, release
from model.run import Model
from tests.environments import ENVIRONMENT
from tests.pictures import PROFILE, Drawing

WITNESSES: Final = {w.change: w for w in load_witnesses(ENVIRONMENT)}

#: Changes that show only where others are, and those that hide another.
NEEDS: Final = {
    "copied_merge_keeps_anon_vma": ("merge_unfaulted_target",),
    "guard_anon_vma_only_anonymous": ("guard", "guard_file", "new_range_merges_both"),
    "devzero_mmap_prepare": ("ksm_flag_before_merge", "memory_merge"),
    "ksm_flag_before_merge": ("memory_merge",),
    "mseal_merge_start": ("mseal",),
    "seal_keeps_all_anonymous": ("mseal",),
    "files_not_aligned": ("anonymous_thp_area",),
    "guard_file": ("guard",),
    "guard_install_loops": ("guard", "guard_file"),
    "guard_flag": ("guard",),
    "map_count_dontunmap": ("map_count_every_call",),
    "multi_vma_first_aborts": ("multi_vma_move",),
    "dontunmap_adjacent_alone": ("dontunmap_no_self_merge",),
    "multi_vma_thp_area": ("multi_vma_move",),
    "process_madvise_advice_first": ("process_madvise_self",),
    "overlap_before_lookup": ("params_before_lookup",),
    "uffd_rejects_droppable": ("droppable",),
    "droppable_never_locked": ("droppable",),
}
#: Changes that kernels have without it, but that do not show by their witness then.
SHOWN_BY: Final = {"unmergeable_drops_flags": ("mseal",)}
HIDDEN_BY: Final = {"dontunmap_resets_pgoff": ("dontunmap_clears_account",)}

FAR = "." * 20
#: The last result of the witness and the window after it: without the change, with it (6.18 otherwise).
EFFECTS: Final = {
    "shared_memory_names": ("EBADF ss", "0 ss"),
    "uffd_nothing_above": ("ENOMEM .", "EINVAL ."),
    "iouring_offset_mask": ("ENOMEM .", "T-1 ."),
    "process_madvise_cut_first": ("EFAULT .", "ENOMEM ."),
    "map_stack_nohugepage": ("W+0 r", "W+0 ?"),
    "weighted_interleave": ("EINVAL r", "0 r"),
    "numa_balancing_preferred": ("EINVAL r", "0 r"),
    "mdwe": ("EINVAL .", "0 ."),
    "memory_merge": ("EINVAL .", "0 ."),
    "close_allows_merges": ("0 hh|h|h|hhhhhhhhhhhh", "0 hhh|h|hhhhhhhhhhhh"),
    "xdp_mixedmap": ("EINVAL jj", "0 jj"),
    "uffd_wp_several_vmas": ("ENOENT ??|??", "0 ??|??"),
    "uffd_wp_unpopulated": ("ok ?", "BUS ?"),
    "uffd_parts_merge": ("0 wu|uu", "0 wuuu"),
    "mprotect_unaccounts": ("0 rr|rr", "0 rrrr"),
    "anonymous_thp_area": ("T-513 .", "T-1023 ."),
    "thp_area_topdown": ("T-1535 .", "T-1023 ."),
    "mseal": ("ENOSYS ww", "0 ww"),
    "unmergeable_drops_flags": ("EPERM w...??", "0 ....??"),
    "process_madvise_own": ("EPERM .", "0 ."),
    "lookup_before_shrink": ("EINVAL .", "EFAULT ."),
    "map_above4g_known": ("ENOTSUP .", "W+0 i"),
    "dontunmap_adjacent_alone": ("W+2 wwww|ww", "W+2 ww|ww|ww"),
    "new_range_merges_both": ("W+2 WW|WWWW", "W+2 WWWW|WW"),
    "gather_before_limits": ("ENOMEM wwww", "ENOMEM w|ww|w"),
    "secretmem_locked": ("0 ee", "EINVAL ee"),
    "perf_pfnmap": ("0 yyy", "EINVAL yyy"),
    "iouring_area_einval": ("ENOMEM .", "EINVAL ."),
    "bpf_array_faults": ("BUS ok bb", "ok ok bb"),
    "droppable": ("EINVAL .", "W+0 dd"),
    "guard": ("ok ok ww", "SEGV ok WW"),
    "hugetlb_area": (f"W+0 {'?' * 128}", "W+512 ."),
    "dontunmap_clears_account": ("W+2 wwww......WW", "W+2 ww|ww......WW"),
    "dontunmap_leaks_locked": (f"W+2000 {'n' * 128}", f"EAGAIN {'n' * 128}"),
    "guard_file": ("ok ok mm", "SEGV ok MM"),
    "guard_install_loops": ("0 ????", "ETIME ????"),
    "params_before_lookup": ("EFAULT .", "EINVAL ."),
    "shrink_move_charges_shrunk": ("W+0 ww", f"ENOMEM {FAR}ww"),
    "merge_unfaulted_target": ("0 wwWW", "0 WWWW"),
    "dontunmap_rounded_lengths": ("EINVAL w", "T-1 w"),
    "multi_vma_first_aborts": ("EFAULT ..ww................zz", "EFAULT zzww"),
    "multi_vma_move": ("EFAULT wwrr", f"W+20 {FAR}wwrr"),
    "multi_vma_thp_area": ("EFAULT ffww", f"W+20 {FAR}ffww"),
    "new_len_limit": ("ENOMEM w", "EINVAL w"),
    "mseal_merge_start": ("0 wwwwwwww", "0 wwww|ww|ww"),
    "seal_keeps_all_anonymous": ("0 ??", "EPERM ??"),
    "uffd_rejects_droppable": ("0 dd", "EINVAL dd"),
    "uffd_unregister_checks_owner": ("0 ww", "EINVAL uu"),
    "validate_before_unmap": ("EFAULT ww", "EFAULT ww..................wwwww"),
    "dofork_rejects_special": ("0 .", "EINVAL ."),
    "devzero_mmap_prepare": ("W+2 ??|??", "W+2 ????"),
    "ksm_flag_before_merge": ("W+2 aa|aa", "W+2 aaaa"),
    "process_madvise_self": ("EINVAL ww", "0x2000 aa"),
    "process_madvise_advice_first": ("0 .", "EINVAL ."),
    "thp_disable_flags": ("EINVAL .", "0 ."),
    "copied_merge_keeps_anon_vma": (f"W+44 {FAR}{FAR}wwwwww", f"W+44 {FAR}{FAR}WWWWww"),
    "guard_anon_vma_only_anonymous": ("W+2 PPPP|PP", "W+2 PPPPPP"),
    "guard_flag": ("0 WW", "0 AA"),
    "map_count_every_call": ("W+0 w", "ENOMEM w"),
    "dontunmap_no_self_merge": ("W+2 wwww", "W+2 ww|ww"),
    "dontunmap_resets_pgoff": ("W+12 ..........ww|ww......WW", "W+12 ..........wwww......WW"),
    "dontunmap_splits_locked": (
        "W+20 WWWW................LL",
        "W+20 LwwL................LL",
    ),
    "map_count_dontunmap": ("T-1 w", "ENOMEM w"),
    "private_file_anon_pgoff": (f"W+22 {FAR}PPPP", f"W+22 {FAR}PPpp"),
    "uffd_move_never_merges": ("W+2 wwww", "W+2 uuww"),
    "uffd_wp_drop_busy": ("0 uu", "EBUSY ??"),
    "files_not_aligned": ("T-1023 .", "T-513 ."),
    "overlap_before_lookup": ("EFAULT .", "EINVAL ."),
    "devzero_thp_area": ("T-513 .", "T-1023 ."),
    "uffd_low_addresses": ("EINVAL .", "ENOENT ."),
    # Seen in what is not drawn: the event, VmLck, VmFlags, a name, a page.
    "lockonfault_shown": ("0 ?", "0 ?"),
    "heap_bounds": ("B+0 .", "B+0 ."),
    "populate_stops_at_hole": ("ENOMEM r.r", "ENOMEM r.r"),
    "uffd_remap_shrunk": (f"W+20 {FAR}u", f"W+20 {FAR}u"),
    "droppable_never_locked": ("W+0 DD", "W+0 DD"),
}


def named(change: Change) -> str:
    return change.name


def pair(change: Change, base: Profile) -> tuple[Profile, Profile]:
    """`base` without and with the change, and with what it takes for the change to show."""
    others = (*NEEDS.get(change.name, ()), *SHOWN_BY.get(change.name, ()))
    needed = {BY_NAME[name] for name in others}
    hiding = {BY_NAME[name] for name in HIDDEN_BY.get(change.name, ())}
    changes = (base.changes | needed) - hiding
    return Profile("without", changes - {change}), Profile("with", changes | {change})


def effect(change: Change, profile: Profile) -> str:
    witness = WITNESSES[change]
    drawing = Drawing(".", ENVIRONMENT, profile)
    results = [drawing.make(call) for call in witness.program]
    return f"{results[-1]} {drawing.picture}"


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_what_the_change_does(change: Change) -> None:
    without, with_it = pair(change, PROFILE)
    assert (effect(change, without), effect(change, with_it)) == EFFECTS[change.name]


@pytest.mark.parametrize("base", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_the_witness_tells_kernels_with_the_change_from_those_without(
    change: Change, base: Profile
) -> None:
    witness = WITNESSES[change]
    environment = ENVIRONMENT
    traces = [
        Model(environment, profile).run(witness.program, full=True)
        for profile in pair(change, base)
    ]
    assert traces[0] != traces[1]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_release_has_what_came_before_it_and_was_not_fixed_yet(profile: Profile) -> None:
    version = tuple(map(int, profile.name.split(".")))
    for change in CHANGES:
        fixed = change.until is not None and change.until <= version
        came = change.since is not None and change.since <= version
        assert (change in profile.changes) == (came and not fixed)


def test_what_another_change_needs_is_there_in_every_release() -> None:
    for profile in PROFILES.values():
        for name, needed in NEEDS.items():
            if BY_NAME[name] in profile.changes:
                assert {BY_NAME[each] for each in needed} <= profile.changes


def test_changes_are_in_order_and_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(CHANGES) == len(EFFECTS)
    released = [change.since for change in CHANGES if change.since is not None]
    assert released == sorted(released)
    assert all(change.stable for change in CHANGES[len(released) :])
    assert all(c.until is None or (c.since and c.since < c.until) for c in CHANGES)
    assert all((change.until is None) == (not change.fix) or change.until for change in CHANGES)


def test_difference_names_what_is_more_and_what_is_less() -> None:
    older, newer = release(6, 16), release(6, 17)
    difference = newer.difference(older)
    assert "+multi_vma_move" in difference
    assert "-dontunmap_clears_account" in release(6, 18).difference(older)
    assert newer.difference(newer) == ()
    assert difference == tuple(sorted(difference))


def test_no_published_profile_claims_to_be_verified() -> None:
    assert not any(profile.verified for profile in PROFILES.values())
