"""The catalogue's page of the documentation, made from the catalogue and its maps.

`python -m backupguard.controls.reference` prints it; script/reference writes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from backupguard.controls.catalogue import Catalogue, CatalogueEntry, Threshold, load_catalogue
from backupguard.controls.directions import looser
from backupguard.controls.maps import ReferenceMap
from backupguard.language import Words
from backupguard.model import Criticality

_HEAD = """# The controls

This page is made from `config/controls/` by `script/reference`; a test fails when it is not current.

**{fr}** (in English: {en}). The numbering of 2023 is kept in the names of controls; the funding call of
2025 puts the same work into its domain 2.

BackupGuard is **aligned on** the references below. It is compliant with none of them, certifies
nothing, and which control goes with which clause is a choice of the product that the CISO confirms.

## Correcting it

Name a directory and put your own files in it; none of them needs code:

```toml
[controls]
directory = "/etc/backupguard/controls"
```

| file | what it does |
|---|---|
| `care-d4.toml` | In the place of the shipped catalogue; what it leaves out is as shipped. |
| `map-NAME.toml` | In the place of the shipped map of that name, or one more reference. |

Copy the shipped file and change what is wrong. Files are read at start and at each reload;
`backupguard config check` says what is wrong with them, with file and line. A reload with an error in
one of them changes nothing: the catalogue that held goes on, also for runs that start later. The error
is logged and recorded with its file and line (`configuration.rejected`), and CFG-01 warns of it until a
load succeeds. The hashes of the catalogue and of every map are recorded with every load
(`configuration.loaded`), and so is every threshold that changed; one that demands less is a weakening
until somebody attests that it was wanted (CFG-01).

`backupguard controls` prints the catalogue, `backupguard controls RST-01` one control, `backupguard
controls --map NIS2` one reference, each with `--json`.

## Changing a threshold for a time

```
backupguard override RST-01 period 45d --reason "migration of the test server" --for 30d
backupguard override OFF-01 age 3d --subject dpi --reason "audit" --until 2027-01-31
backupguard override list | confirm SEQ | end SEQ --reason TEXT
```

An override is a record: its author is the account that asked, as the kernel saw it; it has a reason
and a last day. A value that demands **more** than the catalogue holds at once, for up to 366 days. A
value that demands **less** changes nothing until a second person with the role `rssi` confirms it from
another account, and lasts at most 90 days where it touches what is vital or critical. Where the
catalogue becomes stricter, an override that nobody confirmed waits. One for a subject goes before one
for the site, a newer one before an older one; none makes a demand where the catalogue makes none.

`status`, `why`, the status page and the report show every override with its author, reason and end.
When its day has passed, the value of the catalogue holds again, and they say so for a month.

## How sure the maps are

| confidence | what it says of identifier and text |
|---|---|
| `verified` | read in the source itself |
| `quoted` | read where a third party quotes or sums it up; not verified |
| `deduced` | concluded from what was read; not verified |
"""


def reference(catalogue: Catalogue) -> str:
    """Return the page as Markdown."""
    lines = [_HEAD.format(fr=catalogue.name.fr, en=catalogue.name.en)]
    lines += ["## The references", ""]
    for one in catalogue.maps:
        lines += _map(one)
    lines += ["## The controls, one by one", ""]
    words = Words("en")
    for entry in catalogue.entries.values():
        lines += _control(catalogue, entry, words)
    return "\n".join(lines).rstrip() + "\n"


def _map(one: ReferenceMap) -> Iterator[str]:
    address = f" <{one.address}>" if one.address else ""
    yield f"### {one.id}"
    yield ""
    yield f"{one.name.en}, {one.version}.{address} `{one.file}`"
    yield ""
    yield one.note.en
    yield ""
    yield "| identifier | text | controls | confidence | source |"
    yield "|---|---|---|---|---|"
    for row in one.rows:
        controls = "all" if row.controls == "all" else ", ".join(row.controls) or "none"
        cells = (row.identifier or "not known", row.text, controls, row.confidence, row.source)
        yield _row(cells)
    yield ""


def _control(catalogue: Catalogue, entry: CatalogueEntry, words: Words) -> Iterator[str]:
    severity = ", ".join(f"{c} {entry.severity[c]}" for c in Criticality)
    yield f"### {entry.id}: {entry.title.en}"
    yield ""
    yield f"*{entry.title.fr}.* Speaks of: {entry.scope.value}. Severity: {severity}."
    yield ""
    yield f"Sources: {'; '.join(entry.sources)}."
    aligned = [
        f"{one.id} {row.identifier or f'“{row.text}”'} ({row.confidence})"
        for one, row in catalogue.references(entry.id)
    ]
    yield ""
    yield f"Aligned on: {'; '.join(aligned)}."
    yield ""
    yield "| threshold | | value | origin | demands less when |"
    yield "|---|---|---|---|---|"
    for name, threshold in entry.thresholds.items():
        values, origins = _values(threshold)
        meaning = words.text(f"threshold.{name}")
        yield _row((f"`{name}`", meaning, values, origins, looser(entry.id, name) or "changed"))
    yield ""


def _values(threshold: Threshold) -> tuple[str, str]:
    given = [(f"{c} ", value) for c in Criticality if (value := threshold.of(c)) is not None]
    if threshold.all is not None:
        given = [("", threshold.all)]
    sign = "%" if threshold.unit == "percent" else ""
    values = ", ".join(f"{name}{value.value}{sign}" for name, value in given)
    origins = (value.source or "choice of the product" for _, value in given)
    return values, ", ".join(dict.fromkeys(origins))


def _row(cells: tuple[object, ...]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(reference(load_catalogue()), end="")
