from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.restore_tests.harness import NOW, Trials
from tests.integration.restore_tests.hospital import ROWS, SCHEMA, Hospital
from tests.postgres import start_cluster


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    directory = tmp_path_factory.mktemp("hospital")
    cluster = start_cluster(directory / "cluster")
    try:
        made = Hospital(cluster, directory)
        cluster.create("dpi")
        source_now = NOW - timedelta(hours=4, minutes=30)
        made.sql("dpi", SCHEMA, ROWS.format(now=source_now.isoformat()))
        yield made
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def clean_fingerprint(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory):
    """The shape of the untouched database, as a restore test saw it."""
    trials = Trials(tmp_path_factory.mktemp("clean"))
    result = trials.restore(hospital.dump())
    assert result.verdict == "passed", result
    return result.fingerprint


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path)


@pytest.fixture
def plain_variant(hospital: Hospital, tmp_path: Path) -> Callable[[str], Path]:
    """Write a plain dump with something put in front of its trailer."""

    def make(inserted: str) -> Path:
        text = hospital.dump(form="plain").read_text()
        head, marker, tail = text.partition("--\n-- PostgreSQL database dump complete")
        assert marker
        path = tmp_path / "variant.sql"
        path.write_text(f"{head}{inserted}\n{marker}{tail}")
        return path

    return make
