"""Where a dump is cut for several clients: at its tables, nowhere else."""

from __future__ import annotations

import subprocess

from restore_tests import inside

GIB = 1 << 30


def plan(*lines: str, size: int, least: int = 1) -> list[str]:
    program = inside.text("mariadb_plan.awk")
    options = ["-v", f"size={size}", "-v", "clients=2", "-v", f"least={least}"]
    done = subprocess.run(
        ["awk", *options, program],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_tables_are_shared_out_and_the_rest_waits_for_them() -> None:
    assert plan(
        "100:-- Table structure for table `a`",
        "1000:-- Table structure for table `b`",
        f"{5 * GIB}:-- Final view structure for view `v`",
        f"{5 * GIB + 50}:-- Dump completed",
        size=5 * GIB + 99,
    ) == [
        *("session 100", "range 1 0 100", "run"),
        *(f"range 1 100 {5 * GIB - 100}", "run"),
        *(f"range 1 {5 * GIB} 99", "run"),
    ]


def test_each_database_has_its_own_tables() -> None:
    assert plan(
        *("10:-- Current Database: `a`", "20:USE `a`;"),
        *("30:-- Table structure for table `x`", "430:-- Table structure for table `y`"),
        *("900:-- Current Database: `mysql`", "910:USE `mysql`;"),
        *("920:-- Table structure for table `user`", "950:-- Dump completed"),
        size=1000,
    ) == [
        *("session 10", "range 1 0 30", "run", "use 20 9"),
        *("range 1 430 470", "range 2 30 400", "run"),
        *("use 20 9", "range 1 900 100", "run"),
    ]


def test_a_body_is_no_section_and_little_is_not_worth_it() -> None:
    body = ("40:DELIMITER ;;", "50:-- Table structure for table `x`", "90:DELIMITER ;")
    assert (
        plan("10:-- Dumping routines for database 'a'", *body, "95:-- Dump completed", size=99)
        == []
    )
    table = "10:-- Table structure for table `x`"
    assert plan(table, "95:-- Dump completed", size=99, least=86) == []
    assert plan(table, "95:-- Dump completed", size=99, least=85) != []
