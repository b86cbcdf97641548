"""What every engine must keep before anything is restored: it recognises its own and nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pytest
from pydantic import ValidationError

from backupguard.contracts import Engine, EngineSettings, Sample, SampledFile


def sample_of(content: bytes, name: str = "dump") -> Sample:
    """Return the sample of an artifact that is one uncompressed file."""
    file = SampledFile(
        path=PurePosixPath(), size=len(content), head=content[: 64 << 10], tail=content[-4096:]
    )
    return Sample(
        artifact=PurePosixPath(name), is_directory=False, files=(file,), total_bytes=len(content)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCase:
    """An engine, samples of its own formats by name, and of others' that it must leave alone."""

    engine: Engine
    own: dict[str, Sample] = field(default_factory=dict)
    others: dict[str, Sample] = field(default_factory=dict)


class EngineContract:
    """Inherit, and provide a fixture `case` that returns an `EngineCase`."""

    def test_its_settings_refuse_unknown_keys(self, case: EngineCase) -> None:
        """A typo in the configuration is an error, not a check that never runs."""
        assert issubclass(case.engine.settings, EngineSettings)
        with pytest.raises(ValidationError):
            case.engine.settings.model_validate({"no-such-key": 1})

    def test_it_recognises_its_own(self, case: EngineCase) -> None:
        """Each of its formats is recognised, with needs that can be checked beforehand."""
        for name, sample in case.own.items():
            match = case.engine.recognise(sample)
            assert match is not None, name
            assert match.engine == case.engine.name
            assert 0 < match.certainty <= 100
            needs = case.engine.requirements(match, sample.total_bytes)
            assert needs.disk_bytes >= 0
            assert needs.memory_bytes >= 0

    def test_it_leaves_others_alone(self, case: EngineCase) -> None:
        """What belongs to another engine is not claimed with certainty."""
        for name, sample in case.others.items():
            match = case.engine.recognise(sample)
            assert match is None or match.certainty < 50, name

    def test_hostile_bytes_neither_raise_nor_match(self, case: EngineCase) -> None:
        """Anything can lie in a backup: random bytes, nothing, cut and mangled dumps."""
        chance = random.Random(4)  # noqa: S311 - the same bytes each time
        assert case.engine.recognise(sample_of(b"")) is None
        for _ in range(50):
            case.engine.recognise(sample_of(chance.randbytes(chance.randrange(1, 5000))))
        for sample in case.own.values():
            for file in sample.files[:1]:
                for cut in (1, 5, 20, 100):
                    case.engine.recognise(sample_of(file.head[:cut]))
                mangled = bytearray(file.head)
                for _ in range(min(50, len(mangled))):
                    mangled[chance.randrange(len(mangled))] = chance.randrange(256)
                case.engine.recognise(sample_of(bytes(mangled)))
