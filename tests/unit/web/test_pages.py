"""What the pages say of a site with a year behind it, in both languages, and that they only read."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from backupguard.errors import StoreError
from backupguard.model import REPLAYED, Fact
from backupguard.settings import Settings
from backupguard.web.app import create_app
from backupguard.web.asked import asked
from backupguard.web.people import PATHS, People
from backupguard.web.published import Outputs, Records
from backupguard.web.readers import AT_ONCE, Readers

#: An address of every page.
ADDRESSES = {
    "/": "/",
    "/applications/{application}": "/applications/labo",
    "/applications/{application}/calendar": "/applications/labo/calendar",
    "/restore-tests/": "/restore-tests/",
    "/restore-tests/{test}": "/restore-tests/{test}",
    "/findings/": "/findings/",
    "/media/": "/media/",
    "/reports/": "/reports/",
    "/evidence/": "/evidence/",
    "/runbooks/": "/runbooks/",
    "/runbooks/{alert}": "/runbooks/BackupGuardAbsent",
}


def get(outputs: Outputs, *paths: str, **headers: str) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=create_app(outputs))
        given = {"accept": "text/html", **headers}
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [await client.get(path, headers=given) for path in paths]

    return asyncio.run(ask())


def one(outputs: Outputs, path: str, **headers: str) -> str:
    (answer,) = get(outputs, path, **headers)
    assert answer.status_code == 200, answer.text
    return answer.text.replace("\u00a0", " ").replace("\u202f", " ")


def last_test(outputs: Outputs, application: str) -> int:
    assert outputs.records is not None
    subject = f"application/{application}"
    (fact,) = outputs.records.store.newest(["restore-test.result"], subject, limit=1)
    return fact.seq


def addresses(outputs: Outputs) -> list[str]:
    assert set(ADDRESSES) == set(PATHS)
    test = str(last_test(outputs, "labo"))
    return [address.replace("{test}", test) for address in ADDRESSES.values()]


@pytest.mark.parametrize("language", ["fr", "en"])
def test_no_page_lets_a_name_be_markup_or_a_sentence_be_missing(
    filled: Outputs, language: str
) -> None:
    for answer in get(filled, *addresses(filled), **{"accept-language": language}):
        page, path = answer.text, answer.request.url.path
        assert answer.status_code == 200, path
        assert f'<html lang="{language}">' in page, path
        assert "unsafe-inline" not in answer.headers["content-security-policy"]
        for forbidden in ("<script", "<b>", "<i>", "style=", " onload", "javascript:"):
            assert forbidden not in page, (path, forbidden)
        assert not re.search(r">\s*(web|media|report|status)\.[a-z-]+", page), path
        assert page.count("<h1") == 1, path


def test_the_language_is_the_address_s_then_the_browser_s_then_the_site_s(filled: Outputs) -> None:
    def language(path: str, **headers: str) -> str:
        found = re.search(r'<html lang="(..)">', one(filled, path, **headers))
        assert found is not None
        return found[1]

    assert language("/media/") == "fr"
    assert language("/media/", **{"accept-language": "de, en-GB;q=0.8, fr;q=0.5"}) == "en"
    assert language("/media/", **{"accept-language": "de-CH, nonsense;q=x, *;q=0.1"}) == "fr"
    assert language("/media/?lang=en", **{"accept-language": "fr"}) == "en"
    assert language("/media/?lang=xx") == "fr"
    page = one(filled, "/media/?lang=en")
    assert 'href="/findings/?lang=en"' in page  # who chose keeps it
    assert 'href="/findings/"' in one(filled, "/media/")


def test_links_carry_nothing_but_what_was_asked() -> None:
    wanted = asked("/findings/", {"lang": "en", "control": '"><script>'}, "", "fr")
    assert wanted.same(page=2) == "/findings/?control=%22%3E%3Cscript%3E&page=2&lang=en"
    assert wanted.link("/applications/a b") == "/applications/a%20b?lang=en"
    assert asked("/", {"before": "9" * 40}, "", "fr").number("before") is None


@pytest.mark.parametrize("name", ["path", "self", "choices"])
@pytest.mark.parametrize("path", ["/", "/findings/", "/applications/dpi/calendar"])
def test_any_word_may_stand_in_an_address(filled: Outputs, path: str, name: str) -> None:
    assert f"{name}=x" in one(filled, f"{path}?{name}=x")


def test_an_application_says_promises_copies_and_tests(filled: Outputs) -> None:
    page = one(filled, "/applications/dpi")
    for part in (
        "C1, vitale", "Déclaré par direction des soins le 2 mars 2026, analyse BIA-2026-04.",
        "2 h 25 min", "Dépend de Annuaire", "campus-sud · hors site",
        "17 nov. 2026, 23:00", "sur 346 jour(s)", "/applications/dpi/calendar", "RST-03",
    ):  # fmt: skip
        assert part in page, part
    judged = re.findall(
        r"</span> ([a-z ]+)</span><span class=\"sub\">((?:PDM|RST)-\d+)</span>", page
    )
    assert judged == [("conforme", "PDM-01"), ("non conforme", "RST-03")]
    test = last_test(filled, "dpi")
    assert f'href="/restore-tests/{test}"' in page


def test_a_restore_test_says_what_was_seen_and_in_what_record(filled: Outputs) -> None:
    assert filled.records is not None
    seq = last_test(filled, "dpi")
    fact = filled.records.store.fact(seq)
    assert fact is not None
    page = one(filled, f"/restore-tests/{seq}")
    for part in (
        fact.hash.hex(), f"backupguard evidence show {seq}", "38 min 20 s", "niveau 3",
        "observé", "admissions récentes", "relations : 4", "restic 0.14.0", "143 Go", "scellé",
    ):  # fmt: skip
        assert part in page, part
    failed = one(filled, f"/restore-tests/{last_test(filled, 'labo')}")
    assert "Aucun contrôle métier défini" in failed
    head = filled.records.store.head()[0]
    for wrong in ("0", "99999999", str(head), "x", "-1", "9" * 30, "١"):
        assert get(filled, f"/restore-tests/{wrong}")[0].status_code == 404, wrong


def test_a_test_that_was_told_again_is_marked(filled: Outputs) -> None:
    assert filled.records is not None
    store = filled.records.store
    fact = store.fact(last_test(filled, "dpi"))
    assert fact is not None
    assert "rejoué" not in one(filled, f"/restore-tests/{fact.seq}")

    class Told:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def fact(self, _seq: int) -> object:
            return replace(fact, author=REPLAYED)

    records = replace(filled.records, store=Told())  # type: ignore[arg-type]
    assert "rejoué" in one(replace(filled, records=records), f"/restore-tests/{fact.seq}")


class Listed:
    """A store whose newest facts are these."""

    def __init__(self, store: object, facts: Sequence[Fact]) -> None:
        self.store, self.facts = store, tuple(facts)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def newest(self, *_: object, **__: object) -> tuple[Fact, ...]:
        return self.facts


def listed(outputs: Outputs, *facts: Fact, **changes: Any) -> Outputs:
    assert outputs.records is not None
    store: Any = Listed(outputs.records.store, facts)
    return replace(outputs, records=replace(outputs.records, store=store, **changes))


def trial(
    outputs: Outputs, number: int, at: str, *, author: str | None = None, **changes: object
) -> Fact:
    """Return a restore test of "dpi" like the recorded one, but for this."""
    assert outputs.records is not None
    fact = outputs.records.store.fact(last_test(outputs, "dpi"))
    assert fact is not None
    seen = fact.observation
    data: Any = {**seen.data, **changes}
    seen = replace(seen, data=data, observed_at=datetime.fromisoformat(at))
    return replace(fact, seq=number, author=author, observation=seen)


def test_a_test_stands_on_the_row_of_the_job_whose_point_it_restored(filled: Outputs) -> None:
    assert filled.records is not None
    settings = filled.records.settings()
    owner = settings.applications["dpi"]
    nas = settings.applications["dpi"].backups["nuit"].repository
    both = {
        **owner.backups,
        "semaine": owner.backups["semaine"].model_copy(update={"repository": nas}),
    }
    shared = settings.model_copy(
        update={
            "applications": {
                **settings.applications,
                "dpi": owner.model_copy(update={"backups": both}),
            }
        }
    )
    at = "2026-11-10T04:00:00+00:00"

    def rows(known: Settings, *facts: Fact) -> list[str]:
        page = one(listed(filled, *facts, settings=lambda: known), "/applications/dpi")
        table = page.partition("<h2>Copies</h2>")[2].partition("</table>")[0]
        return [
            ",".join(re.findall(r"/restore-tests/(\d+)", row))
            for row in table.split("<tr>")
            if "<td" in row
        ]

    nightly = trial(filled, 901, at, repository="nas", job="dpi.nuit")
    weekly = trial(filled, 902, at, repository="nas", job="dpi.semaine")
    unnamed = trial(filled, 903, at, repository="nas", job=None)
    assert rows(shared, nightly) == ["901", ""]
    assert rows(shared, weekly, nightly) == ["901", "902"]
    assert rows(shared, unnamed) == ["", ""]
    assert rows(settings, unnamed) == ["903", ""]


def test_restore_tests_are_turned_page_by_page(
    filled: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backupguard.web.pages import restore_tests

    monkeypatch.setattr(restore_tests.newest_tests, "__kwdefaults__", {"before": None, "limit": 5})
    seen: list[str] = []
    path: str | None = "/restore-tests/"
    while path is not None:
        page = one(filled, path)
        seen += re.findall(r'href="/restore-tests/(\d+)"', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        path = older[1] if older is not None else None
    assert len(seen) == len(set(seen)) == 13
    assert seen == sorted(seen, key=int, reverse=True)
    assert (
        len(re.findall(r"/restore-tests/\d+", one(filled, "/restore-tests/?application=labo"))) == 2
    )


def test_the_calendar_shows_each_day_in_words(filled: Outputs) -> None:
    page = one(filled, "/applications/dpi/calendar")
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page, re.DOTALL)
    assert [name for name, _ in rows][0::11] == ["décembre 2025", "novembre 2026"]
    assert all(row.count("<td") == 32 for _, row in rows)
    november = rows[-1][1]
    assert november.count("toutes les données") == 16
    assert november.count("aucun point") == 2  # the 14th was missed, tonight is to come
    assert november.count('class="out"') == 13
    assert "test de restauration : réussi" in rows[-2][1]
    weekly = one(filled, "/applications/dpi/calendar?copy=coffre")
    assert weekly.count("toutes les données") < 60
    assert get(filled, "/applications/dpi/calendar?copy=nowhere")[0].status_code == 404


def test_a_day_of_several_tests_shows_the_worst_of_the_chosen_copy(filled: Outputs) -> None:
    day = "2026-11-10T0{}:00:00+00:00"
    outputs = listed(
        filled,
        trial(filled, 903, day.format(6), repository="coffre"),
        trial(filled, 902, day.format(5), repository="nas", verdict="failed", code="corrupt"),
        trial(filled, 901, day.format(4), repository="nas"),
    )

    def shown(query: str = "") -> list[tuple[str, str]]:
        page = one(outputs, f"/applications/dpi/calendar{query}")
        return re.findall(r'href="/restore-tests/(\d+)[^>]*><span aria-hidden="true">(.*?)<', page)

    assert shown() == shown("?copy=nas") == [("902", "✕")]
    assert shown("?copy=coffre") == [("903", "✓")]


@pytest.mark.parametrize(
    ("language", "word", "note"),
    [("fr", "rejoué", "ne prouvent rien"), ("en", "replayed", "prove nothing")],
)
def test_the_calendar_marks_what_was_told_again(
    filled: Outputs, language: str, word: str, note: str
) -> None:
    def calendar(author: str | None) -> str:
        fact = trial(filled, 901, "2026-11-10T04:00:00+00:00", author=author)
        return one(listed(filled, fact), f"/applications/dpi/calendar?lang={language}")

    told = calendar(REPLAYED)
    assert re.search(rf'aria-hidden="true">✓\*</span><span class="hidden">[^<]*, {word}<', told)
    assert note in told
    assert word not in calendar(None)


def test_findings_are_chosen_by_the_address(filled: Outputs) -> None:
    def controls(query: str) -> set[str]:
        return set(
            re.findall(r'<span class="sub">([A-Z0-9]+-\d+)', one(filled, f"/findings/?{query}"))
        )

    assert controls("control=RST-02") == {"RST-02"}
    assert controls("application=annuaire&status=non_compliant") == {"321-01"}
    assert controls("status=not_applicable") == {"IMM-01", "CHF-01"}
    assert controls("control=%3Cscript%3E") == set()
    assert "baie &lt;remplacée&gt; en mars" in one(filled, "/findings/")


def test_long_tables_are_cut_into_pages(filled: Outputs) -> None:
    published = filled.published
    assert published is not None
    many = tuple(replace(published.findings[0], subject=f"application/a{n}") for n in range(250))
    large = replace_published(filled, findings=many)
    first, last = one(large, "/findings/"), one(large, "/findings/?page=3")
    assert "1 à 100 sur 250" in first
    assert "201 à 250 sur 250" in last
    assert last.count("<tr>") == 51
    assert one(large, "/findings/?page=999").count("<tr>") == 51
    assert one(large, "/").count("backupguard why") <= 25


def replace_published(outputs: Outputs, **changes: object) -> Outputs:
    assert outputs.published is not None
    published = replace(outputs.published, **changes)  # type: ignore[arg-type]
    return replace(outputs, published=published)


def test_the_register_of_media_says_who_has_what(filled: Outputs) -> None:
    page = one(filled, "/media/")
    for part in ("usb-a", "Mme &lt;b&gt;Leroy&lt;/b&gt;", "coffre de la pharmacie", "A-1207"):
        assert part in page, part


def test_reports_and_bundles_are_listed_and_handed_out(filled: Outputs, tmp_path: Path) -> None:
    assert filled.records is not None
    page = one(filled, "/reports/")
    assert page.index("Octobre 2026") < page.index("annexe-d4-2026-10.pdf")
    evidence = one(filled, "/evidence/")
    store = filled.records.store
    assert store.key.fingerprint in evidence
    assert f"backupguard-anchor-1 {store.store_id} " in evidence
    (bundle,) = get(filled, "/evidence/bundle-2026-10.tar.gz")
    assert len(bundle.content) == int(bundle.headers["content-length"]) == 1001
    assert bundle.headers["content-disposition"].startswith("attachment;")
    bundles = filled.records.bundles
    (tmp_path / "secret").write_text("no")
    (bundles / "link.tar.gz").symlink_to(tmp_path / "secret")
    (bundles / "key.pem").write_text("no")
    try:
        for name in ("link.tar.gz", "key.pem", "..%2fstate%2fkeys", "absent.tar.gz"):
            assert get(filled, f"/evidence/{name}")[0].status_code == 404, name
        assert "link.tar.gz" not in one(filled, "/evidence/")
    finally:
        (bundles / "link.tar.gz").unlink()
        (bundles / "key.pem").unlink()


def test_a_site_that_begins_says_so(empty: Outputs) -> None:
    for path, told in {
        "/": "État",
        "/restore-tests/": "Aucun test de restauration n’est enregistré.",
        "/media/": "[media.ID]",
        "/reports/": "Aucun rapport n’a encore été écrit.",
        "/evidence/": "Aucune tête n’a été déposée hors de cette machine",
    }.items():
        assert told in one(empty, path), path
    assert get(empty, "/applications/dpi", "/applications/dpi/calendar")[1].status_code == 404


def test_before_the_first_judgement_pages_ask_for_patience(filled: Outputs) -> None:
    young = replace(filled, published=None)
    for path, answer in zip(PATHS, get(young, *addresses(filled)), strict=True):
        expected = 200 if path.startswith(("/reports", "/runbooks")) else 503
        assert answer.status_code == expected, path
        assert expected == 200 or answer.headers["retry-after"]


def test_reading_leaves_the_store_as_it_was(filled: Outputs) -> None:
    assert filled.records is not None
    before = filled.records.store.head()
    get(filled, *addresses(filled))
    assert filled.records.store.head() == before


class Stuck:
    """A store whose disk hangs."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls = 0

    def newest(self, *_: object, **__: object) -> tuple[object, ...]:
        self.calls += 1
        self.gate.wait(10)
        return ()


def test_a_disk_that_hangs_stops_nobody_for_long(filled: Outputs) -> None:
    store = Stuck()
    assert filled.records is not None
    records: Records = replace(filled.records, store=store)  # type: ignore[arg-type]
    people = People(replace(filled, records=records), Readers(within_s=0.2))

    async def scenario() -> list[int]:
        transport = httpx.ASGITransport(app=Starlette(routes=people.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            asks = [client.get("/restore-tests/") for _ in range(6)]
            return [answer.status_code for answer in await asyncio.gather(*asks)]

    try:
        assert asyncio.run(scenario()) == [503] * 6
        assert store.calls <= AT_ONCE
    finally:
        store.gate.set()


def test_a_runbook_on_a_disk_that_hangs_is_told(
    filled: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr("backupguard.web.pages.runbooks.text_of", lambda *_: gate.wait(10) or None)
    people = People(filled, Readers(within_s=0.1))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Starlette(routes=people.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/runbooks/BackupGuardAbsent")

    try:
        answer = asyncio.run(ask())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    finally:
        gate.set()


def test_a_store_that_cannot_be_read_is_told(filled: Outputs) -> None:
    class Broken(Stuck):
        def newest(self, *_: object, **__: object) -> tuple[object, ...]:
            raise StoreError("unreadable", path="store.sqlite3")

    assert filled.records is not None
    broken = replace(filled.records, store=Broken())  # type: ignore[arg-type]
    (answer,) = get(replace(filled, records=broken), "/restore-tests/")
    assert answer.status_code == 503


def test_templates_escape_by_themselves() -> None:
    from backupguard.web.pages import rendering

    assert rendering._TEMPLATES.autoescape is True
    templates = Path(rendering.__file__).parents[1] / "templates"
    for file in templates.glob("*.html"):
        assert "|safe" not in file.read_text(encoding="utf-8"), file.name
