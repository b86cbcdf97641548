from pathlib import Path

import pytest

from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.restic_maker import Restic


class TestRestic(RepositoryContract):
    @pytest.fixture
    def case(self, restic: Restic, here: TestContext) -> RepositoryCase:
        def settings_at(root: Path):
            return restic.settings(url=str(root))

        return RepositoryCase(
            kind=RESTIC,
            root=restic.root,
            settings_at=settings_at,
            jobs=(restic.selector(restic.source),),
            context=here,
            files=5,
        )
