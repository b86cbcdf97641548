"""What is wrong with the content is said; the same database without the fault stays silent."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from restore_tests.settings import PostgresqlSettings
from tests.integration.restore_tests.harness import NOW, Trials
from tests.integration.restore_tests.hospital import Hospital

RECENT = {
    "name": "admissions",
    "sql": "select max(admitted_at) from clinic.stays -- newest",
    "newer-than": "26h",
}


def settings(*checks: dict[str, object], **values: object) -> PostgresqlSettings:
    return PostgresqlSettings.model_validate(
        {"engine": "postgresql", "memory": "600MB", "jobs": 2, "checks": checks, **values}
    )


def accepted(shape: Fingerprint) -> Baseline:
    return Baseline(fingerprint=shape, accepted=True, seq=1)


def codes(result: RestoreTestResult) -> dict[str, str]:
    return {check.name: check.code for check in result.checks if check.code != "ok"}


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def test_a_schema_only_dump_fails_without_any_baseline(hospital: Hospital, trials: Trials) -> None:
    for form in ("custom", "plain"):
        result = trials.restore(hospital.dump("dpi", form, "--schema-only"))
        assert judged(result) == (Verdict.FAILED, "schema_only")


def test_a_lost_table_warns_until_the_shape_was_accepted(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    dump = hospital.dump("dpi", "custom", "--exclude-table=clinic.letters")
    previous = trials.restore(dump, previous=clean_fingerprint)
    assert previous.verdict is Verdict.PASSED
    assert codes(previous)["tables-lost"] == "warning_tables_lost"
    result = trials.restore(dump, baseline=accepted(clean_fingerprint))
    assert judged(result) == (Verdict.FAILED, "tables_lost")
    required = trials.restore(dump, settings=settings(**{"required-tables": ["letters"]}))
    assert judged(required) == (Verdict.FAILED, "tables_lost")
    another = trials.restore(
        dump, settings=settings(**{"required-tables": ["invoices", "debtors"]})
    )
    assert judged(another) == (Verdict.FAILED, "wrong_content")


def test_rows_collapsed_to_one_percent(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    database = hospital.variant("collapsed", "delete from clinic.observations where id % 100 <> 0")
    result = trials.restore(hospital.dump(database), baseline=accepted(clean_fingerprint))
    assert judged(result) == (Verdict.FAILED, "rows_lost")
    warned = trials.restore(hospital.dump(database), previous=clean_fingerprint)
    assert warned.verdict is Verdict.PASSED
    assert {"rows-lost", "rows-shrinking"} <= codes(warned).keys()


def test_another_database_fails(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    hospital.cluster.run("createdb", "other")
    hospital.sql("other", "create table public.invoices as select generate_series(1, 500) i")
    result = trials.restore(hospital.dump("other"), baseline=accepted(clean_fingerprint))
    assert judged(result) == (Verdict.FAILED, "wrong_content")


def test_stale_data_in_a_fresh_point(hospital: Hospital, trials: Trials) -> None:
    later = NOW + timedelta(days=30)
    result = trials.restore(
        hospital.dump(), point_at=later - timedelta(days=20), settings=settings(RECENT)
    )
    # one dated in the future is never taken, and is no reason to accuse anything but a clock
    assert judged(result) == (Verdict.COULD_NOT_VERIFY, "clock_behind")
    database = hospital.variant(
        "stale",
        "update clinic.stays set admitted_at = admitted_at - interval '40 days',"
        " left_at = left_at - interval '40 days'",
        "update clinic.observations set at = at - interval '40 days'",
        "update clinic.patients set cree = cree - interval '40 days'",
    )
    result = trials.restore(hospital.dump(database), settings=settings(RECENT))
    assert judged(result) == (Verdict.FAILED, "stale_data")
    assert result.data_loss_ms is not None
    assert result.data_loss_ms > 39 * 86_400_000
    # Unconfigured, the heartbeat alone being fresh does not hide it.
    assert codes(result)["freshness"] == "warning_stale_data"
    fresh = trials.restore(hospital.dump(), settings=settings(RECENT))
    assert "freshness" not in codes(fresh)


def test_most_tables_stale_beside_a_fresh_one(hospital: Hospital, trials: Trials) -> None:
    database = hospital.variant(
        "half_stale",
        "update clinic.observations set at = at - interval '40 days'",
        "update clinic.patients set cree = cree - interval '40 days'",
    )
    result = trials.restore(hospital.dump(database))
    assert codes(result)["freshness"] == "warning_stale_tables"


def test_an_old_dump_under_a_fresh_point(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    data = bytearray(hospital.dump().read_bytes())
    # Seven integers follow head and compression: second, minute, hour, day, month, year, dst.
    year = 16 + 5 * 5
    assert data[year] == 0
    data[year + 1] -= 1
    (tmp_path / "old.dump").write_bytes(data)
    result = trials.restore(tmp_path / "old.dump", rpo=timedelta(hours=24))
    assert judged(result) == (Verdict.FAILED, "stale_data")


def test_large_objects_left_out(hospital: Hospital, trials: Trials) -> None:
    result = trials.restore(hospital.dump("dpi", "custom", "--no-blobs"))
    assert judged(result) == (Verdict.FAILED, "missing_object")
    assert codes(result)["large-objects"] == "large_objects_missing"


def test_lost_routines_and_views(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    database = hospital.variant(
        "unroutined",
        "drop trigger touch on clinic.patients",
        "drop function clinic.touch()",
        "drop view clinic.present",
    )
    result = trials.restore(hospital.dump(database), baseline=accepted(clean_fingerprint))
    assert judged(result) == (Verdict.FAILED, "missing_object")


def test_rows_behind_row_security_are_a_warning_without_a_baseline(
    hospital: Hospital, trials: Trials
) -> None:
    database = hospital.variant(
        "secured",
        "alter table clinic.patients enable row level security",
        "create policy half on clinic.patients for select to lecteur using (id % 2 = 0)",
        "grant usage on schema clinic to lecteur",
        "grant select on all tables in schema clinic, public to lecteur",
        "grant select on all sequences in schema clinic to lecteur",
    )
    result = trials.restore(hospital.dump(database))
    assert (result.verdict, codes(result)["row-security"]) == (
        Verdict.PASSED,
        "warning_row_security",
    )
    accepted_result = trials.restore(hospital.dump(database), baseline=accepted(result.fingerprint))
    assert codes(accepted_result) == {}
    filtered = hospital.dump(
        database,
        "custom",
        "--enable-row-security",
        "--role=lecteur",
        "--schema=clinic",
        "--no-blobs",
    )
    # Half of the patients were filtered away: the stays of the others point nowhere.
    assert judged(trials.restore(filtered)) == (Verdict.FAILED, "load_refused")


def test_text_encrypted_inside_the_database(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    database = hospital.variant(
        "encrypted",
        "create extension pgcrypto",
        "update clinic.observations set comment = encode(gen_random_bytes(48), 'base64')",
        "drop extension pgcrypto",
    )
    result = trials.restore(hospital.dump(database), baseline=accepted(clean_fingerprint))
    assert judged(result) == (Verdict.FAILED, "random_text")
    warned = trials.restore(hospital.dump(database), previous=clean_fingerprint)
    assert (warned.verdict, codes(warned)["random-text"]) == (Verdict.PASSED, "warning_random_text")


def test_a_constraint_that_was_never_validated_is_no_defect(
    hospital: Hospital, trials: Trials
) -> None:
    database = hospital.variant(
        "notvalid", "alter table clinic.patients add constraint late check (id > 10) not valid"
    )
    result = trials.restore(hospital.dump(database))
    assert (result.verdict, codes(result)) == (Verdict.PASSED, {})


def test_rows_that_break_their_own_key_fail(hospital: Hospital, trials: Trials) -> None:
    database = hospital.variant(
        "orphans",
        "set session_replication_role = replica; delete from clinic.patients where id < 50",
    )
    for form in ("custom", "plain"):
        result = trials.restore(hospital.dump(database, form))
        assert judged(result) == (Verdict.FAILED, "load_refused")


def test_each_kind_of_check_passes_and_fails_inside(hospital: Hospital, trials: Trials) -> None:
    asked = [
        ("enough", "select count(*) from clinic.patients", {"at-least": 2000}, "ok"),
        ("too-few", "select count(*) from clinic.patients", {"at-least": 2001}, "check_failed"),
        ("bounded", "select count(*) from clinic.stays", {"at-least": 1, "at-most": 4000}, "ok"),
        ("text", "select min(service) from clinic.stays", {"equals": "service 0"}, "ok"),
        ("true", "select count(*) > 0 from clinic.present", {"equals": True}, "ok"),
        ("number", "select count(*) from clinic.stays", {"equals": 3}, "check_failed"),
        (
            "nothing",
            "select max(at) from clinic.observations where false",
            {"newer-than": "1h"},
            "check_no_answer",
        ),
        (
            "future",
            "select max(planned_at) from clinic.stays",
            {"newer-than": "1h"},
            "check_future_time",
        ),
        ("unknown", "select count(*) from clinic.nowhere", {"at-least": 1}, "check_undefined"),
        ("syntax", "select ) from", {"at-least": 1}, "check_error"),
        (
            "writes",
            "with d as (delete from clinic.stays returning 1) select count(*) from d",
            {"at-least": 0},
            "check_error",
        ),
        ("slow", "select count(*) from pg_sleep(30)", {"at-least": 0}, "check_timeout"),
    ]
    checks = [{"name": name, "sql": sql, **wanted} for name, sql, wanted, _ in asked]
    result = trials.restore(
        hospital.dump(), settings=settings(*checks, **{"statement-timeout": "1s"})
    )
    said = {check.name: check.code for check in result.checks if check.configured}
    assert said == {name: code for name, _, _, code in asked}
    assert judged(result) == (Verdict.FAILED, "check_failed")
    assert all(not check.numbers for check in result.checks if check.configured)


def test_without_an_accepted_shape_the_level_stops_at_two(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    result = trials.restore(hospital.dump(), settings=settings(RECENT), previous=clean_fingerprint)
    assert (result.verdict, result.level, result.checks_configured) == (Verdict.PASSED, 2, 1)


# ------------------------------------------------------------------------------------------ hostile


@pytest.mark.parametrize(
    "attack",
    [
        "\\! touch /shared/pg/owned",
        "COPY public.queue FROM PROGRAM 'cat /etc/shadow';",
        "copy (select 1) to program 'nc 127.0.0.1 5432';",
        "COPY public.queue FROM '/etc/shadow';",
        "SELECT pg_catalog.pg_read_file('/etc/shadow');",
        "DO $$ begin execute 'copy public.queue from program ''exit 3'''; end $$;",
    ],
)
def test_a_hostile_plain_dump_is_contained_and_named(
    trials: Trials, plain_variant, attack: str
) -> None:
    result = trials.restore(plain_variant(attack))
    assert judged(result) == (Verdict.FAILED, "hostile")


@pytest.mark.parametrize(
    "attack",
    [
        "DO $x$ begin execute $$copy (select 1) to program ':(){ :|:& };:'$$; end $x$;",
        (
            "DO $x$ begin execute $$copy (select 1) to program "
            "'dd if=/dev/zero of=/scratch/fill bs=1M count=600; kill -9 -1'$$; end $x$;"
        ),
    ],
)
def test_a_fork_bomb_and_a_full_disk_end_with_the_test(
    trials: Trials, plain_variant, attack: str
) -> None:
    from backupguard.sandbox import SandboxLimits

    trials.limits = SandboxLimits(
        reserve_percent=1, disk_bytes=400 << 20, processes=120, memory_bytes=2 << 30
    )
    result = trials.restore(plain_variant(attack))
    assert result.verdict is not Verdict.PASSED


def test_words_of_an_attack_inside_data_and_functions_are_no_attack(
    hospital: Hospital, trials: Trials
) -> None:
    database = hospital.variant(
        "words",
        "create table public.notes as select E'\\\\! rm -rf' as a, 'COPY x FROM PROGRAM'::text as b",
        "create function public.g() returns void language plpgsql as"
        " $f$ begin\nCOPY public.queue FROM PROGRAM 'true';\nend $f$",
    )
    for form in ("plain", "custom"):
        result = trials.restore(hospital.dump(database, form))
        assert judged(result) == (Verdict.PASSED, None)


# ----------------------------------------------------------------------------------------- patients


def test_no_value_of_a_patient_leaves_the_sandbox(
    hospital: Hospital, trials: Trials, tmp_path: Path, caplog, capfd
) -> None:
    import re

    lines = hospital.dump(form="plain").read_bytes().decode().splitlines(keepends=True)
    names: list[str] = []

    def unique(match: re.Match[str]) -> str:
        names.append(f"Zq{len(names):06d}Kw")
        return f"{match.group(1)}{names[-1]}\t"

    copying, broken = "", []
    for line in lines:
        if line.startswith("COPY "):
            copying = line
        elif copying.startswith("COPY clinic.patients") and line[0].isdigit():
            broken.append(re.sub(r"^(\d+\t)[^\t]+\t", unique, line))
            continue
        broken.append(line)
    text = "".join(broken)
    for wrong in ("31/02/Zq990001Kw", "Zq990002Kw"):
        text = re.sub(r"\t19\d\d-\d\d-\d\d\t", f"\t{wrong}\t", text, count=1)
    names += ["Zq990001Kw", "Zq990002Kw", "Zq990003Kw", "Zq990004Kw"]
    insert = (
        "INSERT INTO clinic.patients (nom, prenom, ne, sexe, cree) OVERRIDING SYSTEM VALUE "
        "VALUES ('Zq990003Kw', 'x', '1800-01-01', 'Zq990004Kw', now());\n"
        "INSERT INTO clinic.stays VALUES (1, 99999999, now(), now(), now(), 'Zq990003Kw');\n"
        "DO $$ begin raise exception 'Zq990003Kw' using detail = 'Zq990004Kw'; end $$;\n"
    )
    marker = "--\n-- PostgreSQL database dump complete"
    path = tmp_path / "patients.sql"
    content = text.replace(marker, insert + marker).encode().replace(b"Anais", b"\xe9")
    path.write_bytes(content.replace("Zoé".encode(), b"Zo\xe9", 1))
    result = trials.restore(path, settings=settings(RECENT))
    assert judged(result) == (Verdict.FAILED, "load_refused")
    orphans = hospital.variant(
        "named",
        "update clinic.patients set nom = 'Zq990005Kw' || id",
        "alter table clinic.patients add constraint u unique (nom)",
        "set session_replication_role = replica; insert into clinic.stays (patient_id, admitted_at,"
        " service) values (99999999, now(), 'Zq990006Kw')",
    )
    told = repr(result) + repr(trials.facts)
    result = trials.restore(hospital.dump(orphans))
    assert judged(result) == (Verdict.FAILED, "load_refused")
    told += repr(result) + repr(trials.facts) + trials.traces.decode("utf-8", "replace")
    told += caplog.text + "".join(capfd.readouterr())
    assert len(names) > 1000
    assert not re.search(r"Zq\d{6}Kw", told)
    assert "99999999" not in told
