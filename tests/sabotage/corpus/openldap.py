"""LDIF of slapcat and mdb directories, broken in their bytes and in what they hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from backupguard.model import Verdict
from tests.sabotage.corpus.case import Family, Maker
from tests.sabotage.corpus.sources import AT, SUFFIX, Sources

PEOPLE = {"name": "agents", "filter": "(objectClass=inetOrgPerson)", "at-least": 100,
          "base": f"ou=people,{SUFFIX}"}  # fmt: skip
OTHER = "dc=ecole,dc=example"


def ldif(change: Callable[[str], str] = lambda text: text) -> Maker:
    """What slapcat wrote, changed afterwards."""

    def make(sources: Sources, into: Path) -> Path:
        path = into / "annuaire.ldif"
        path.write_text(change(sources.ldif), encoding="utf-8")
        return path

    return make


def _other(sources: Sources, into: Path) -> Path:
    path = into / "annuaire.ldif"
    path.write_text(sources.other_ldif(OTHER), encoding="utf-8")
    return path


def _entries(text: str, keep: Callable[[int, str], bool]) -> str:
    kept = (entry for n, entry in enumerate(text.strip().split("\n\n")) if keep(n, entry))
    return "\n\n".join(kept) + "\n\n"


def _without(text: str, *begins: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.startswith(begins))


def _stale(text: str) -> str:
    old = (AT - timedelta(days=60)).strftime("%Y%m%d%H%M%SZ")
    return "\n".join(
        f"modifyTimestamp: {old}" if line.startswith("modifyTimestamp") else line
        for line in text.split("\n")
    )


def _store(hurt: bool) -> Maker:
    def make(sources: Sources, into: Path) -> Path:
        content = bytearray(sources.mdb.read_bytes())
        if hurt:
            for page in range(3 * 4096, len(content) - 4096, 4096):
                content[page : page + 64] = b"\xa5" * 64
        path = into / "data.mdb"
        path.write_bytes(bytes(content))
        return path

    return make


def _operational(text: str) -> str:
    """What an anonymous ldapsearch would have written: nothing of the server's own, no password."""
    return _without(
        text, "userPassword", "entryCSN", "entryUUID", "creatorsName", "modifiersName",
        "createTimestamp", "modifyTimestamp", "structuralObjectClass",
    )  # fmt: skip


def _first_member(entry: str) -> str:
    lines = entry.split("\n")
    first = next((line for line in lines if line.startswith("member:")), "")
    return "\n".join(line for line in lines if not line.startswith("member:") or line is first)


_TODAY = ldif()
_FAMILY = Family(engine="openldap", before=_TODAY, twin=_TODAY)
case = _FAMILY.case

CASES = [
    case("cut-in-an-entry", "the disk was full", ldif(lambda t: t[: len(t) // 2]),
         speaks="load:truncated", words="tronquée"),
    case("cut-between-entries", "half of the entries, each of them whole",
         ldif(lambda t: _entries(t, lambda n, _: n < 70)),
         speaks="rows-lost:rows_lost tables-lost:tables_lost", words=""),
    case("passwords-lost", "read by an account that may not see them",
         ldif(lambda t: _without(t, "userPassword")),
         speaks="passwords:passwords_lost", words="mot de passe"),
    case("ldapsearch-in-its-place", "an anonymous search instead of slapcat", ldif(_operational),
         speaks="passwords:passwords_lost", words="mot de passe"),
    case("groups-emptied", "every group is there and has one member",
         ldif(lambda t: "\n\n".join(_first_member(e) for e in t.split("\n\n"))),
         speaks="members:members_lost", words="membres"),
    case("groups-gone", "the groups live below another branch",
         ldif(lambda t: _entries(t, lambda _, e: "groupOfNames" not in e)),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("the-top-is-missing", "a branch without what it hangs on",
         ldif(lambda t: _entries(t, lambda n, _: n > 1)),
         speaks="load:load_refused load:truncated tables-lost:tables_lost"
                " load:unclassified_stderr"),
    case("another-directory", "the school's, of the same shape", _other,
         settings={"checks": [PEOPLE]}, speaks="agents:check_failed agents:check_error"),
    case("another-directory-without-a-check", "the same, where nobody asks", _other,
         speaks="same-directory:wrong_directory", words="autre annuaire"),
    case("a-schema-of-its-own", "attributes that no schema defines here",
         ldif(lambda t: t.replace("\nuid: u7\n", "\nuid: u7\nrppsNumber: 10001234567\n")),
         says=Verdict.COULD_NOT_VERIFY, speaks="load:schema_missing", words="schéma"),
    case("an-attribute-lost", "people without the name that their class wants",
         ldif(lambda t: _without(t, "sn:")), speaks="load:load_refused engine-consistency:corrupt"),
    case("stale", "nobody changed anything for two months", ldif(_stale),
         says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    case("empty-file", "slapcat ran while slapd was being moved", ldif(lambda _: ""),
         speaks="prepare:empty", words="vide"),
    case("mdb-damaged", "pages of the store were overwritten", _store(hurt=True),
         twin=_store(hurt=False), settings={"suffix": SUFFIX}, heavy=True,
         speaks="open:corrupt engine-consistency:corrupt", words="endommag"),
    case("ok-groups-of-one", "one member more in each group", None,
         twin=ldif(lambda t: t.replace("\ncn: g3\n", "\ncn: g3\ndescription: équipe\n"))),
]  # fmt: skip
