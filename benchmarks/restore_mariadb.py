"""restore-mariadb: a restore test of a dump of more than 500 MB, from restic.

Two ways from the same repository, in turn: `default`, what an administrator would type (restic
restore, then `mariadb < dump` into a server that was just started with default settings; making and
starting it is not counted); `ours`, a restore test through `perform`, of which the phases select to
open count. Ours with full verification (CHECK TABLE of everything) is printed too.

The dump is a hospital's: four long tables under two secondary indexes each, and one of patients that
they refer to, in the form that mariadb-dump writes. It is written here, for filling a server takes
longer than all that is measured.

Where one client's time goes, in seconds of the server's processor for this dump (MariaDB 10.11, 560 MB,
4.4 million rows, data in memory): 12 to read the statements (the same into BLACKHOLE), 11 more for the
rows under their primary key, 30 more for two secondary indexes and a foreign key kept row by row, 54
altogether; with default settings 60. Each table as one transaction, so that InnoDB builds its indexes
in bulk, takes 56: nothing is gained. All secondary indexes and foreign keys built after the rows take
42, but a foreign key needs its index from the start unless it is taken away as well, which would test
another dump than the one that is kept. What settings save beyond that is waiting for the disk: a flush
per statement, the doublewrite buffer, pages that leave a pool of 128 MB.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import CHECKOUT, finish, run
from restores import COUNTED, back_up, site

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
ROWS = int(os.environ.get("BENCH_ROWS", "4400000"))
REFERENCE = CHECKOUT / "benchmarks" / "reference" / "restore-mariadb"
TABLES = ("observations", "prescriptions", "acts", "administrations")
STATEMENT = 1 << 20  # bytes of one INSERT, as mariadb-dump writes them

HEAD = """\
/*M!999999\\- enable the sandbox mode */ 
-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: hospital
-- ------------------------------------------------------
-- Server version\t10.11.6-MariaDB-0+deb12u1

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;
"""  # noqa: W291 - so does mariadb-dump
TAIL = """\
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2026-11-22  2:00:00
"""
PATIENTS = """\
  `id` int(11) NOT NULL,
  `name` varchar(64) NOT NULL,
  `born` date DEFAULT NULL,
  `ward` varchar(20) DEFAULT NULL,
  PRIMARY KEY (`id`)"""
LONG = """\
  `id` bigint(20) NOT NULL,
  `patient` int(11) NOT NULL,
  `code` varchar(20) NOT NULL,
  `value` decimal(10,3) DEFAULT NULL,
  `taken_at` datetime NOT NULL,
  `note` varchar(200) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `{name}_patient` (`patient`,`taken_at`),
  KEY `{name}_code` (`code`),
  CONSTRAINT `{name}_of` FOREIGN KEY (`patient`) REFERENCES `patients` (`id`)"""


def write_dump(path: Path) -> None:
    """Write the dump; the same bytes on every machine."""
    chance = random.Random(7)
    patients = ROWS // 50
    with path.open("w", encoding="ascii", newline="\n") as file:

        def table(name: str, columns: str, rows: list[str]) -> None:
            file.write(
                f"\n--\n-- Table structure for table `{name}`\n--\n\nDROP TABLE IF EXISTS `{name}`;\n"
                "/*!40101 SET @saved_cs_client     = @@character_set_client */;\n"
                "/*!40101 SET character_set_client = utf8mb4 */;\n"
                f"CREATE TABLE `{name}` (\n{columns}\n"
                ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;\n"
                "/*!40101 SET character_set_client = @saved_cs_client */;\n"
                f"\n--\n-- Dumping data for table `{name}`\n--\n\nLOCK TABLES `{name}` WRITE;\n"
                f"/*!40000 ALTER TABLE `{name}` DISABLE KEYS */;\n"
            )
            each = STATEMENT // len(rows[0])
            for at in range(0, len(rows), each):
                file.write(f"INSERT INTO `{name}` VALUES\n" + ",\n".join(rows[at : at + each]))
                file.write(";\n")
            file.write(f"/*!40000 ALTER TABLE `{name}` ENABLE KEYS */;\nUNLOCK TABLES;\n")

        file.write(HEAD)
        for name in sorted((*TABLES, "patients")):
            if name == "patients":
                table(name, PATIENTS, [
                    f"({i},'{chance.getrandbits(128):032x}','19{30 + i % 70}-01-{1 + i % 28:02}',"
                    f"'ward {i % 40}')" for i in range(1, patients + 1)
                ])  # fmt: skip
            else:
                table(name, LONG.format(name=name), [
                    f"({i},{chance.randrange(patients) + 1},'LOINC-{i * 7919 % 900}',"
                    f"{i % 100000 / 7:.3f},'202{i % 7}-{1 + i % 12:02}-{1 + i % 28:02} "
                    f"{i % 24:02}:{i % 60:02}:00','{chance.getrandbits(256):064x}')"
                    for i in range(1, ROWS // len(TABLES) + 1)
                ])  # fmt: skip
        file.write(TAIL)


def main() -> int:
    """Measure both ways in turn."""
    figures: dict[str, list[float]] = {"default": [], "ours": [], "full": []}
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        directory = Path(name)
        dump = directory / "hospital.sql"
        write_dump(dump)
        print(f"  dump {dump.stat().st_size / 1e6:.0f} MB")
        restic = back_up(directory, dump)

        def default() -> float:
            target = directory / "reference"
            target.mkdir()
            environment = {**restic, "TIME_FILE": str(target / "seconds")}
            run([REFERENCE, target, dump], environment)
            seconds = float((target / "seconds").read_text(encoding="ascii"))
            shutil.rmtree(target)
            return seconds

        with site(directory, dump, "mariadb") as tested:
            tested.test()
            for _ in range(ROUNDS):
                figures["default"].append(default())
                started = time.perf_counter()
                phases = tested.test()
                whole = time.perf_counter() - started
                figures["ours"].append(sum(phases[phase] for phase in COUNTED))
                figures["full"].append(figures["ours"][-1] + phases["verify"])
                shown = {k: round(v[-1], 2) for k, v in figures.items()}
                print("   ", shown, f"whole run {whole:.2f}", flush=True)
    median = {way: statistics.median(values) for way, values in figures.items()}
    for way, seconds in median.items():
        print(f"  {way:12} median {seconds:.2f} s")
    print(f"  {median['full'] / median['default']:.2f} of default with full verification")
    return finish("restore-mariadb", median["ours"] / median["default"], 0.6)


if __name__ == "__main__":
    sys.exit(main())
