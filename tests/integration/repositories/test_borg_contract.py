from pathlib import Path

import pytest

from backupguard.repositories.borg import BORG
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.borg_maker import Borg, job


class TestBorg(RepositoryContract):
    @pytest.fixture
    def case(self, borg: Borg, here: TestContext) -> RepositoryCase:
        def settings_at(root: Path):
            return borg.settings(url=str(root))

        return RepositoryCase(
            kind=BORG,
            root=borg.root,
            settings_at=settings_at,
            jobs=(job(borg.source / "etc"), job("stdin", job="labo.nightly", name="labo-*")),
            context=here,
            files=4,
        )
