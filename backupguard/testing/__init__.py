"""For tests of plug-ins, ours and others': a context, a clock that is set, contract suites.

    from backupguard.testing import context
    from backupguard.testing.repositories import RepositoryCase, RepositoryContract

The suites (`repositories`, `probes`, `engines`) are classes of pytest tests to inherit from; each
says which fixture the heir provides. They run the real tool in the real jail.
"""

from backupguard.testing.contexts import (
    KnownFacts,
    SetClock,
    TestContext,
    TestRepositories,
    context,
)
from backupguard.testing.trees import listing

__all__ = ["KnownFacts", "SetClock", "TestContext", "TestRepositories", "context", "listing"]
