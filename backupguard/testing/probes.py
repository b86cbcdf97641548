"""What every probe must keep: it always ends with facts of the declared shape, whatever it meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from backupguard.contracts import Probe, ProbeSettings
from backupguard.evidence.kinds import check_payload
from backupguard.model import Listing, Observation, Subject
from backupguard.testing.contexts import TestContext, TestRepositories


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCase:
    """A probe, one subject it can look at, and the same subject when it cannot be seen."""

    probe: Probe
    subject: Subject
    settings: Any
    context: TestContext
    healthy: TestRepositories
    unreachable: TestRepositories


class ProbeContract:
    """Inherit, and provide a fixture `case` that returns a `ProbeCase`."""

    def test_it_is_an_entry_point(self, case: ProbeCase) -> None:
        """It has all that the loader asks for."""
        assert isinstance(case.probe, Probe)
        assert issubclass(case.probe.settings, ProbeSettings)

    @pytest.mark.parametrize("which", ["healthy", "unreachable"])
    def test_facts_have_their_declared_shape(self, case: ProbeCase, which: str) -> None:
        """Each observation passes its kind's check, has a time, and a key of its own."""
        seen = list(
            case.probe.observe(case.subject, getattr(case, which), case.context, case.settings)
        )
        observations = [one for one in seen if isinstance(one, Observation)]
        assert observations, "a run that says nothing is a silence"
        for one in observations:
            check_payload(one.kind, one.kind_version, one.data)
            assert one.observed_at.tzinfo is not None
        assert len({one.key for one in observations}) == len(observations)
        assert all(isinstance(one, Observation | Listing) for one in seen)

    def test_what_cannot_be_seen_lists_nothing(self, case: ProbeCase) -> None:
        """No listing comes from a repository that did not answer: nothing vanishes by accident."""
        seen = case.probe.observe(case.subject, case.unreachable, case.context, case.settings)
        assert not [one for one in seen if isinstance(one, Listing)]

    def test_another_run_has_other_keys(self, case: ProbeCase) -> None:
        """The same looked at in another run is another fact."""

        def keys() -> set[str]:
            seen = case.probe.observe(case.subject, case.healthy, case.context, case.settings)
            return {one.key for one in seen if isinstance(one, Observation)}

        first = keys()
        case.context.work = case.context.work.with_name("run-2")
        case.context.work.mkdir(exist_ok=True)
        assert not first & keys()
