"""Templates, and what every page is given: words, links, signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backupguard.language import LANGUAGES, Words, catalogue
from backupguard.language.signs import LOOKS
from backupguard.model import Status, Subject, Verdict, application_subject
from backupguard.web.asked import Asked
from backupguard.web.published import Outputs, Published

T = TypeVar("T")

#: Rows of a table; the next ones are a page further.
ROWS = 100

#: Where the sentence of a name or code is found: the first family that knows it.
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "code": ("report.code", "code", "check"),
    "check": ("report.check", "check-name"),
    "level": ("web.level",),
}

_NAVIGATION = (
    ("/", "web.status"),
    ("/findings/", "web.nav.findings"),
    ("/restore-tests/", "web.nav.restore-tests"),
    ("/media/", "web.nav.media"),
    ("/reports/", "web.reports"),
    ("/evidence/", "web.nav.evidence"),
    ("/runbooks/", "web.nav.runbooks"),
)

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A state as a page shows it: colour, sign and word."""

    look: str
    sign: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """One page of a longer table, and the addresses of the ones around it, "" where there is none."""

    first: int
    last: int
    total: int
    before: str
    after: str


class View:
    """What a page is made from: what was published, what may be read, and what is asked for."""

    def __init__(self, outputs: Outputs, asked: Asked) -> None:
        self.outputs = outputs
        self.asked = asked
        self.found = outputs.published  # one picture for the whole page
        zone = self.found.timezone if self.found is not None else "UTC"
        self.words = Words(asked.language, zone)

    @property
    def published(self) -> Published:
        """What stands; only for pages that are made after the first judgement."""
        assert self.found is not None
        return self.found

    def text(self, identifier: str, /, **values: int | str) -> str:
        """Return a sentence."""
        return self.words.text(identifier, **values)

    def label(self, family: str, name: str | None) -> str:
        """Return the short label of a code or name; one that has none is shown as it is."""
        if name is None:
            return "—"
        plain = name.removeprefix("warning_")
        known = catalogue(self.words.language)
        families = _FAMILIES.get(family, (f"report.{family}",))
        found = (f"{one}.{plain}" for one in families)
        identifier = next((one for one in found if one in known), None)
        return self.text(identifier) if identifier is not None else plain

    def mark(self, value: Status | Verdict) -> Mark:
        """Return colour, sign and word of a state or verdict."""
        look, sign = LOOKS[value]
        family = "web.status" if isinstance(value, Status) else "report.verdict"
        return Mark(look=look, sign=sign, label=self.text(f"{family}.{value.value}"))

    def title(self, control: str) -> str:
        """Return a control's title in the language of the page, "" where there is none."""
        assessment = self.published.assessment
        titles = assessment.titles.get(control, {}) if assessment is not None else {}
        return titles.get(self.words.language) or self.published.titles.get(control, "")

    def name(self, subject: Subject) -> str:
        """Return what people call a subject."""
        return self.published.names.get(subject, subject)

    def application(self, identifier: str) -> str:
        """Return what people call an application."""
        names = self.found.names if self.found is not None else {}
        return names.get(application_subject(identifier), identifier)

    def turned(self, rows: Sequence[T], size: int = ROWS) -> tuple[Sequence[T], Turned]:
        """Return the rows of the page that is asked for (`page=2`), and where the others are."""
        pages = max(1, -(-len(rows) // size))
        at = min(max(1, self.asked.number("page") or 1), pages)
        first = (at - 1) * size
        shown = rows[first : first + size]
        return shown, Turned(
            first=first + 1 if shown else 0,
            last=first + len(shown),
            total=len(rows),
            before=self.asked.same(page=at - 1) if at > 1 else "",
            after=self.asked.same(page=at + 1) if at < pages else "",
        )

    def render(self, template: str, **values: object) -> str:
        """Return a page: a template of `templates/` filled with `values` and what all pages share."""
        words, asked, found = self.words, self.asked, self.found
        path = asked.path
        return _TEMPLATES.get_template(template).render(
            text=words.text,
            number=words.number,
            time=words.time,
            duration=words.duration,
            size=words.size,
            label=self.label,
            mark=self.mark,
            link=asked.link,
            language=words.language,
            site=found.site if found is not None else "",
            judged=words.time(found.judged_at) if found is not None else "",
            navigation=[
                (address, words.text(name), _is_here(path, address))
                for address, name in _NAVIGATION
            ],
            languages=[
                (one, asked.same(lang=one), words.text(f"web.language.{one}")) for one in LANGUAGES
            ],
            **values,
        )


def _is_here(path: str, address: str) -> bool:
    if address == "/":
        return path == "/" or path.startswith("/applications/")
    return path.startswith(address)
