"""What the vantage points saw, as views show it: per target the newest look that settles it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from backupguard.assess.picture import IsolationPicture
from backupguard.controls import reach
from backupguard.model import Fact, Json, Subject, to_us
from backupguard.settings import Settings
from backupguard.settings.isolation import SELF, Target, media_behind, targets_of

KINDS = ("isolation.seen", "host.joined")

_SEEN = "isolation.seen"
_ANSWERED, _UNKNOWN, _CLOSED = 0, 1, 2


class Looks:
    """The looks that count: the newest of each vantage point, and what settles each target.

    A look inside a target's window, without its witness, or that could not resolve a name settles
    nothing, so the one before it stands until it is too old.
    """

    def __init__(self) -> None:
        self.newest: dict[str, Fact] = {}
        self.settled: dict[tuple[str, str], Fact] = {}
        self.joined: Fact | None = None

    def learn(self, fact: Fact) -> None:
        """Take one fact into account; facts come in order."""
        found = fact.observation.data
        if not isinstance(found, Mapping):  # pruned
            return
        if fact.observation.kind == "host.joined":
            self.joined = fact
            return
        vantage = found["vantage"]
        self.newest[vantage] = fact
        for target in {row["target"] for row in found["rows"]}:
            if reach.is_conclusive(found, target):
                self.settled[vantage, target] = fact

    def of_repository(self, name: str, settings: Settings) -> dict[str, Fact]:
        """Return what a repository's view holds in `latest`."""
        concerned = targets_of(settings.isolation, name, settings.repositories)
        vantages = (SELF, *settings.isolation.vantages)
        found = {f"{_SEEN}/{one}": self.newest[one] for one in vantages if one in self.newest}
        found |= {
            f"{_SEEN}/{one}/{target}": self.settled[one, target]
            for one in vantages
            for target in concerned
            if (one, target) in self.settled
        }
        return found | ({"host.joined": self.joined} if self.joined is not None else {})

    def answers(self, repository: str, settings: Settings) -> bool:
        """Tell whether a place of a repository answered when it was last settled, outside windows."""
        return any(
            (row["name"], row["port"]) in _asked(target)
            for name, target in targets_of(
                settings.isolation, repository, settings.repositories
            ).items()
            for vantage in (SELF, *settings.isolation.vantages)
            for _, look in self._settled(vantage, name, settings)
            for row in reach.answers(look, name)
        )

    def of_media(self, application: str, settings: Settings) -> dict[str, Json]:
        """Return, per medium that copies of an application lie on, what was seen of its targets."""
        repositories = settings.repositories
        media = {repositories[name].medium for name in settings.repositories_of(application)}
        return {medium: self.of_medium(medium, settings) for medium in media if medium is not None}

    def of_medium(self, medium: str, settings: Settings) -> dict[str, Json]:
        """Return what was seen of the targets that a medium lies behind; times in microseconds.

        `targets` and `vantages`: how many there are. `proved_at`: since when production has not been
        able to reach any of them (None: not proved, by the looks that are left), `fresh_until`: until
        when that counts. `answers`: a port that answered when it was last settled, None for none.
        """
        targets = [
            name
            for name, target in settings.isolation.targets.items()
            if medium in media_behind(target, settings.repositories)
        ]
        answering = [
            {
                "target": target,
                "name": row["name"],
                "port": row["port"],
                "vantage": vantage,
                "seen_at": look["ended_at"],
                "seq": seq,
            }
            for target in targets
            for vantage in (SELF, *settings.isolation.vantages)
            for seq, look in self._settled(vantage, target, settings)
            for row in reach.answers(look, target)
            if (row["name"], row["port"]) in _asked(settings.isolation.targets[target])
        ]
        proofs = [self._proof(target, settings) for target in targets]
        proved = [proof for proof in proofs if proof is not None]
        whole = bool(targets) and len(proved) == len(targets) and not answering
        return {
            "targets": len(targets),
            "vantages": len(settings.isolation.vantages),
            "proved_at": min(proof[0] for proof in proved) if whole else None,
            "fresh_until": min(proof[1] for proof in proved) if whole else None,
            "answers": answering[0] if answering else None,
        }

    def _proof(self, target: str, settings: Settings) -> tuple[int, int] | None:
        """Return when production last found a target closed, and until when that counts."""
        found = []
        for name, vantage in settings.isolation.vantages.items():
            for _, look in self._settled(name, target, settings):
                if not reach.answers(look, target):
                    seen_at = int(look["ended_at"])
                    age_us = int(vantage.max_age.total_seconds()) * 1_000_000
                    found.append((seen_at, seen_at + age_us))
        return max(found, key=lambda proof: proof[1], default=None)

    def verdict(self, vantage: str, target: str, settings: Settings, since: datetime) -> int:
        """Return 2 for a target found closed since then, 0 for one that answered, 1 for unknown."""
        for _, look in self._settled(vantage, target, settings):
            if reach.answers(look, target):
                return _ANSWERED
            if int(look["ended_at"]) >= to_us(since):
                return _CLOSED
        return _UNKNOWN

    def _settled(
        self, vantage: str, target: str, settings: Settings
    ) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the look that settles a target, if it tried what is to be tried now."""
        fact = self.settled.get((vantage, target))
        if fact is None:
            return []
        look = fact.observation.data
        wanted = _asked(settings.isolation.targets[target])
        return [(fact.seq, look)] if wanted <= reach.asked(look, target) else []


def pictures(settings: Settings, looks: Looks, now: datetime) -> Iterator[IsolationPicture]:
    """Yield what each vantage point reached, this host's own first.

    What answered stays so until it is settled otherwise; what was closed counts for the vantage
    point's `max-age`, on this host for two of its probe's intervals.
    """
    isolation, asked = settings.isolation, settings.probes.get("isolation")
    every = asked.every if asked is not None and asked.every is not None else None
    holds = {SELF: 2 * (every or settings.daemon.cadences.isolation)}
    holds |= {name: vantage.max_age for name, vantage in isolation.vantages.items()}
    for vantage in holds if isolation.targets else ():
        newest = looks.newest.get(vantage)
        yield IsolationPicture(
            vantage=vantage,
            looked_at=to_us(newest.observation.observed_at) if newest is not None else None,
            verdicts={
                target: looks.verdict(vantage, target, settings, now - holds[vantage])
                for target in isolation.targets
            },
        )


def _asked(target: Target) -> set[tuple[str, int]]:
    return {(host, port) for host in target.hosts for port in target.ports}


def settings_of(name: str, settings: Settings) -> dict[str, Json]:
    """Return what a repository's view holds of what must not answer."""
    isolation = settings.isolation
    return {
        "targets": {
            target: {
                "asked": sorted(_asked(one)),
                "offline": bool(media_behind(one, settings.repositories)),
            }
            for target, one in targets_of(isolation, name, settings.repositories).items()
        },
        "vantages": {
            vantage: {"zone": one.zone, "max_age_s": int(one.max_age.total_seconds())}
            for vantage, one in isolation.vantages.items()
        },
        "backup_domains": [domain.lower() for domain in isolation.backup_domains],
    }


def concerns(subject: Subject) -> bool:
    """Tell whether a fact about a subject may change what is judged of every repository."""
    return subject.startswith(("vantage/", "host/"))
