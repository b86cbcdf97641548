"""Every way in which immutable, offline and isolated copies are sabotaged, and where that is tried.

One row per sabotage: the control that has to name it, the tests in which it is broken, and the clean
twins that stay silent. The first of `broken` or of `judged` is where that control's word is asked for.
A test that is renamed or dropped makes its row fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from backupguard.controls import BUILT

TESTS = Path(__file__).parents[1]
ATTACK, LOCKS = (
    "integration/repositories/test_s3_attack.py",
    "integration/repositories/test_s3_locks.py",
)
REST, BORG = (f"integration/repositories/test_{n}_attack.py" for n in ("rest_server", "borg"))
FILES = "integration/repositories/test_files_attack.py"
JUDGED = "integration/repositories/test_tampering_judged.py"
SEEN = "integration/isolation/test_judged.py"
INVENTORY = "integration/cli/test_inventory_copies.py"
SETTINGS = "sabotage/test_immutability_configured.py::test_each_weakness_is_named"
TRIED = "unit/controls/test_imm_02.py::test_imm_02"
OFFLINE, ENCRYPTION = "sabotage/test_offline_media.py", "sabotage/test_encryption.py"
DRIFT, COPIES = "sabotage/test_drift.py", "unit/controls/test_copies.py"
ISOLATION, SPACES = "unit/controls/test_isolation.py", "integration/isolation/test_name_spaces.py"
NEVER_PROVED = "unit/probes/test_immutability.py::test_what_proves_nothing_is_inconclusive"
LOCKED = f"{LOCKS}::test_a_bucket_locked_in_compliance_mode_has_no_weakness"


@dataclass(frozen=True, kw_only=True)
class Row:
    """`FILE::TEST` or `FILE::TEST[case]` each; `judged` where another test asks the control."""

    control: str
    broken: tuple[str, ...]
    twin: tuple[str, ...]
    judged: str | None = None


ROWS = {
    "no lock": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[no-lock]", f"{LOCKS}::test_no_lock",
                f"{ATTACK}::test_sabotage_what_is_not_locked_is_destroyed[no-lock]"),
        twin=(f"{SETTINGS}[clean]", LOCKED),
    ),
    "lock without default retention": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[lock-without-default-retention]",
                f"{LOCKS}::test_lock_without_default_retention"),
        twin=(f"{SETTINGS}[without-default-retention-but-each-object-locked]", LOCKED),
    ),
    "governance where compliance is required": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[governance]", f"{LOCKS}::test_governance_never_gives_a_date"),
        twin=(f"{SETTINGS}[clean]", LOCKED),
    ),
    "retention shorter than policy": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[retention-shorter-than-policy]",),
        twin=(f"{SETTINGS}[retention-as-long-as-policy]",),
    ),
    "versioning suspended": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[versioning-suspended]", f"{LOCKS}::test_versioning_suspended",
                f"{ATTACK}::test_sabotage_what_is_not_locked_is_destroyed[versioning-suspended]"),
        twin=(f"{SETTINGS}[clean]", LOCKED),
    ),
    "lifecycle expiring early": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[lifecycle-expiring-early]",
                f"{LOCKS}::test_lifecycle_expiring_early[current]"),
        twin=(f"{LOCKS}::test_lifecycle_expiring_early[later]",),
    ),
    "delete markers on newest points": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[delete-markers-on-newest-points]",
                f"{LOCKS}::test_delete_markers_on_the_newest_points"),
        twin=(f"{SETTINGS}[delete-marker-on-an-older-point]",
              f"{LOCKS}::test_an_older_snapshot_that_a_retention_dropped_is_no_news"),
    ),
    "one single pack of 10,000 unlocked": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[one-pack-of-10000-unlocked]",
                "unit/repositories/test_s3_locks.py::test_one_single_pack_of_ten_thousand_unlocked",
                f"{LOCKS}::test_one_pack_without_a_lock_decides_for_the_points_that_need_it"),
        twin=("unit/repositories/test_s3_locks.py::test_ten_thousand_packs_all_locked",),
    ),
    "pack whose lock ends before a newer snapshot that needs it": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[pack-whose-lock-ends-before-a-newer-snapshot]",
                f"{LOCKS}::test_a_pack_whose_lock_ends_before_a_newer_snapshot_that_needs_it"),
        twin=(f"{LOCKS}::test_a_snapshot_survives_as_long_as_everything_it_needs",),
    ),
    "writer allowed to bypass": Row(
        control="IMM-01",
        broken=(f"{SETTINGS}[writer-allowed-to-bypass]",
                f"{LOCKS}::test_a_policy_that_lets_the_writer_bypass",
                f"{ATTACK}::test_sabotage_a_writer_that_may_bypass_governance"),
        twin=(f"{ATTACK}::test_a_right_to_bypass_governance_harms_no_compliance",),
    ),
    "writer denied delete on the canary's prefix but allowed on the data": Row(
        control="IMM-02",
        broken=(f"{ATTACK}::test_sabotage_delete_denied_for_the_canary_and_allowed_for_the_data",
                f"{NEVER_PROVED}[elsewhere]"),
        twin=(f"{ATTACK}::test_clean_twin_delete_denied_for_everything",),
        judged=TRIED,
    ),
    "rest-server without append-only": Row(
        control="IMM-02",
        broken=(f"{JUDGED}::test_rest_server_without_append_only_is_named_by_imm_02",
                f"{REST}::test_rest_server_without_append_only_is_refuted"),
        twin=(f"{REST}::test_a_server_that_only_appends_is_proved",),
    ),
    "borg without forced command": Row(
        control="IMM-02",
        broken=(f"{BORG}::test_borg_without_forced_command_is_refuted",
                f"{BORG}::test_a_forced_command_that_may_delete_is_refuted"),
        twin=(f"{BORG}::test_a_forced_command_that_only_appends_is_proved",),
        judged=TRIED,
    ),
    "immutable flag removed": Row(
        control="IMM-02",
        broken=(f"{FILES}::test_immutable_flag_removed_is_refuted",),
        twin=(f"{FILES}::test_immutable_files_are_proved_with_a_canary_that_is_flagged_like_them",),
        judged=TRIED,
    ),
    "disk left attached": Row(
        control="OFF-01",
        broken=(f"{OFFLINE}::test_disk_left_attached",),
        twin=(f"{OFFLINE}::test_while_it_is_attached_its_copy_is_read_and_it_is_told_when_it_may_leave",),
    ),
    "disk swapped for another": Row(
        control="OFF-01",
        broken=(f"{OFFLINE}::test_disk_swapped_for_another",),
        twin=(f"{OFFLINE}::test_clean_twin_read_here_seen_gone_declared_out_and_out_of_reach",),
    ),
    "disk whose newest point is old": Row(
        control="OFF-01",
        broken=(f"{OFFLINE}::test_disk_whose_newest_point_is_old",
                f"{OFFLINE}::test_disk_whose_newest_point_grows_old_in_the_safe"),
        twin=(f"{OFFLINE}::test_clean_twin_read_here_seen_gone_declared_out_and_out_of_reach",),
    ),
    "disk whose data is corrupt": Row(
        control="OFF-01",
        broken=(f"{OFFLINE}::test_disk_whose_data_is_corrupt",),
        twin=(f"{OFFLINE}::test_clean_twin_read_here_seen_gone_declared_out_and_out_of_reach",),
    ),
    "NAS offline that answers on 445": Row(
        control="ISO-01",
        broken=(f"{ISOLATION}::test_an_offline_nas_that_answers_on_445_is_a_finding",
                f"{SPACES}::test_a_nas_that_is_to_be_offline_answers_on_445",
                f"{OFFLINE}::test_a_store_said_to_be_offline_answers"),
        twin=(f"{SPACES}::test_a_wall_that_drops_is_filtered_and_a_cut_cable_is_unreachable",
              f"{ISOLATION}::test_closed_from_production_beside_its_witness_is_compliant"),
    ),
    "dead uplink that looks like an air gap": Row(
        control="ISO-01",
        broken=(f"{ISOLATION}::test_a_dead_uplink_is_no_air_gap",
                f"{SPACES}::test_a_dead_uplink_looks_like_an_air_gap_and_is_told_from_one"),
        twin=(f"{ISOLATION}::test_closed_from_production_beside_its_witness_is_compliant",),
    ),
    "domain-joined backup host": Row(
        control="ISO-01",
        broken=(f"{ISOLATION}::test_a_backup_host_in_the_directory_of_production_is_a_finding",
                f"{SEEN}::test_a_host_that_joins_production_is_a_finding_at_once",
                "unit/probes/test_isolation_joined.py::test_a_membership_is_seen"),
        twin=(f"{ISOLATION}::test_a_directory_of_the_backups_own_is_accepted_by_name",
              "unit/probes/test_isolation_joined.py::test_an_ordinary_host_stands_apart"),
    ),
    "unencrypted copy": Row(
        control="CHF-01",
        broken=(f"{ENCRYPTION}::test_unencrypted_copy[unencrypted copy]",),
        twin=(f"{ENCRYPTION}::test_unencrypted_copy[clean twin]",),
    ),
    "escrow attestation expired": Row(
        control="CHF-01",
        broken=(f"{ENCRYPTION}::test_escrow_attestation_expired_and_its_twin",),
        twin=(f"{ENCRYPTION}::test_escrow_attestation_expired_and_its_twin",),
    ),
    "retention halved overnight": Row(
        control="CFG-01",
        broken=(f"{DRIFT}::test_a_weakening_names_cfg_01[retention halved overnight, borgmatic]",
                f"{DRIFT}::test_a_weakening_names_cfg_01[retention halved overnight, S3]"),
        twin=(f"{DRIFT}::test_the_twin_stays_silent[retention lengthened, borgmatic]",
              f"{DRIFT}::test_the_twin_stays_silent[retention lengthened, S3]"),
    ),
    "two independent copies on one filesystem": Row(
        control="321-01",
        broken=(f"{COPIES}::test_each_way_of_failing_has_its_words[same file system]",
                f"{INVENTORY}::test_two_directories_of_one_file_system_are_one_copy"),
        twin=(f"{INVENTORY}::test_the_twin_on_two_file_systems_is_two_copies",),
    ),
    # -- the honest cases: inconclusive, never proved
    "server down": Row(
        control="IMM-02",
        broken=(f"{ATTACK}::test_a_server_that_is_down",
                f"{REST}::test_a_server_that_is_down_proves_nothing",
                f"{BORG}::test_a_server_that_is_down_proves_nothing", f"{NEVER_PROVED}[server-gone]"),
        twin=(f"{ATTACK}::test_clean_twin_everything_is_refused",),
        judged=TRIED,
    ),
    "clock skew against the server's Date": Row(
        control="IMM-02",
        broken=(f"{ATTACK}::test_a_server_whose_clock_is_another",
                f"{REST}::test_a_clock_that_is_another_proves_nothing", f"{NEVER_PROVED}[clocks]"),
        twin=(f"{ATTACK}::test_clean_twin_everything_is_refused",),
        judged=TRIED,
    ),
    "403 because the credentials are wrong": Row(
        control="IMM-02",
        broken=(f"{JUDGED}::test_wrong_credentials_never_prove_anything",
                f"{ATTACK}::test_credentials_that_the_server_does_not_know",
                f"{ATTACK}::test_the_wrong_credentials_prove_nothing",
                f"{REST}::test_the_wrong_password_proves_nothing"),
        twin=(f"{ATTACK}::test_clean_twin_everything_is_refused",),
    ),
}  # fmt: skip


@cache
def source(file: str) -> str:
    return (TESTS / file).read_text(encoding="utf-8")


def test_nothing_that_was_asked_for_is_missing() -> None:
    assert len(ROWS) == 25 + 3


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_sabotage_has_its_tests_its_twin_and_its_control(name: str) -> None:
    row = ROWS[name]
    assert row.control in BUILT
    for test in (*row.broken, *row.twin, *filter(None, [row.judged])):
        file, _, function = test.partition("::")
        function, _, case = function.removesuffix("]").partition("[")
        assert re.search(rf"^def {function}\(", source(file), re.MULTILINE), test
        assert not case or f'"{case}"' in source(file), f"{test}: no such case"
    asked = (row.judged or row.broken[0]).partition("::")[0]
    assert row.control in source(asked), f"{asked} does not ask {row.control}"
