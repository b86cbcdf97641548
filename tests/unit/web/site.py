"""What the pages stand on, prepared once: a hospital with a year behind it, and one that begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupguard.controls import load_catalogue
from backupguard.daemon import custody
from backupguard.daemon.judge import Judge
from backupguard.model import to_us
from backupguard.resources import shipped
from backupguard.settings import load
from backupguard.web.published import Outputs, Records
from tests.unit.assess.conftest import Hospital

NOW = datetime(2026, 11, 18, 9, 0, tzinfo=UTC)
HOSTILE = "Labo <script>alert(1)</script> & 'soins'"
EMPTY = """
[site]
name = "CH de Belle-Rive"
timezone = "Europe/Paris"
language = "fr"
[store]
directory = "state"
"""
FULL = (
    EMPTY
    + """
[repositories.nas]
type = "directory"
path = "HERE/nas"
failure-domain = "campus-nord/baie-2"
[repositories.coffre]
type = "directory"
path = "{medium}/copies"
medium-kind = "removable"
medium = "usb-a"
failure-domain = "campus-sud"
off-site = true
[media.usb-a]
kind = "removable"
serial = "WX11D1234567"
every = "7d"
[media.usb-b]
kind = "removable"
serial = "WX11D7654321"
[applications.annuaire]
name = "Annuaire"
criticality = "C2"
[applications.annuaire.backups.nuit]
repository = "nas"
select.pattern = "annuaire-%Y%m%d.ldif"
every = "24h"
[applications.dpi]
name = "Dossier patient informatisé"
criticality = "C1"
rpo = "24h"
rto = "1h"
declared-by = "direction des soins"
declared-on = 2026-03-02
bia-reference = "BIA-2026-04"
depends-on = ["annuaire"]
recovery.steps = [{ name = "serveur et licence", duration = "90m", source = "exercice 2026-02" }]
[applications.dpi.backups.nuit]
repository = "nas"
select.pattern = "dpi-%Y%m%d.dump"
schedule = "0 22 * * *"
[applications.dpi.backups.semaine]
repository = "coffre"
select.pattern = "dpi-%Y%m%d.dump"
every = "7d"
[applications.labo]
name = "HOSTILE"
criticality = "C3"
[applications.labo.backups.nuit]
repository = "nas"
select.pattern = "labo-%Y%m%d.dump"
every = "24h"
"""
)


def check(
    name: str, verdict: str = "passed", code: str = "ok", **more: object
) -> dict[str, object]:
    return {
        "name": name, "level": 3, "verdict": verdict, "code": code, "numbers": {}, "times": {},
        "configured": True, **more,
    }  # fmt: skip


def phases(*lengths: int, failed: str | None = None) -> list[dict[str, object]]:
    names = ("select", "fetch", "prepare", "load", "open", "verify", "discard")
    return [
        {
            "phase": name,
            "verdict": "failed" if name == failed else "passed",
            "duration_ms": length,
            "code": "corrupt" if name == failed else None,
        }
        for name, length in zip(names, lengths, strict=False)
    ]


def _year(site: Hospital) -> None:
    """Record a year: a point nearly every night, one a week elsewhere, a test a month."""
    site.now = NOW
    nights = [NOW.replace(hour=22) - timedelta(days=n) for n in range(1, 360) if n % 29 != 4]
    weeks = [night for number, night in enumerate(nights) if number % 7 == 3]
    site.list_points(
        "nas",
        *(("dpi.nuit", at) for at in nights),
        *(("labo.nuit", at) for at in nights[3:40]),
        *(("annuaire.nuit", at) for at in nights[:90]),
    )
    site.list_points("coffre", *(("dpi.semaine", at) for at in weeks))
    for months in range(11, 0, -1):
        site.now = NOW - timedelta(days=30 * months)
        site.tested(
            "dpi",
            repository="nas" if months % 3 else "coffre",
            checks=[
                check("admissions récentes", times={"newest": to_us(site.now)}),
                check("pg_amcheck", level=2, configured=False, numbers={"relations": 4812}),
            ],
            phases=phases(40, 2_300_000, 900, 610_000, 1200, 4200, 310),
            duration_ms=2_916_950,
            bytes=143_000_000_000,
            tools={"restic": "0.14.0", "postgresql": "15.14"},
        )
    site.now = NOW - timedelta(days=12)
    site.tested(
        "labo",
        "failed",
        code="corrupt",
        level=0,
        checks=[check("résultats du jour", "failed", "corrupt", numbers={"rows": 0})],
        phases=phases(30, 4000, 900, 2000, failed="load"),
    )
    site.now = NOW - timedelta(days=11)
    site.tested("labo", "could_not_verify", code="no_disk", level=0, checks_configured=0)


def _around(site: Hospital) -> None:
    """Record what stands beside the tests: media, an anchor, an exception, a statement."""
    site.now = NOW - timedelta(days=5)
    copy = {
        "medium": "usb-a", "repository": "coffre", "newest_at": to_us(site.now),
        "applications": {"dpi": to_us(site.now)}, "verdict": "passed", "code": None,
        "bytes_read": 1000, "may_leave": True, "restore_test": None,
    }  # fmt: skip
    site.record("medium.copy", "repository/coffre", copy)
    site.record(
        "medium.moved",
        "medium/usb-a",
        {
            "medium": "usb-a", "direction": "out", "holder": "Mme <b>Leroy</b>",
            "place": "coffre de la pharmacie", "seal": "A-1207", "at": to_us(site.now),
            "content": {"dpi": to_us(site.now)},
        },
    )  # fmt: skip
    seq, digest = site.store.head()  # type: ignore[attr-defined]
    site.record(
        "evidence.anchored",
        "site",
        {"place": "syslog", "seq": seq, "hash": digest.hex(), "receipt": None},
    )
    site.record(
        "waiver.asked",
        "repository/nas",
        {
            "control": "IMM-01", "reason": "baie <remplacée> en mars", "owner": "DSI",
            "person": None, "until_at": to_us(NOW + timedelta(days=30)),
            "needs_confirmation": True,
        },
    )  # fmt: skip
    site.record(
        "attestation.made",
        "repository/nas",
        {
            "topic": "escrow", "person": None, "text": "<i>au coffre</i>", "values": {},
            "expires_at": to_us(NOW + timedelta(days=300)), "signature": None,
        },
    )  # fmt: skip


def outputs(directory: Path, *, full: bool) -> Outputs:
    """Return what a daemon would serve, judged at `NOW`; the store is the caller's to close."""
    for name in ("nas", "coffre", "reports", "evidence"):
        (directory / name).mkdir()
    (directory / "state").mkdir(mode=0o700)
    file = directory / "backupguard.toml"
    text = (FULL if full else EMPTY).replace("HERE", str(directory)).replace("HOSTILE", HOSTILE)
    file.write_text(text, encoding="utf-8")
    site = Hospital(load(file, environ={}))
    if full:
        _year(site)
        _around(site)
        (directory / "reports" / "backupguard-2026-10-fr.html").write_text("<p>rapport</p>")
        (directory / "reports" / "backupguard-2026-10-fr.pdf").write_bytes(b"%PDF-1.7")
        (directory / "reports" / "annexe-d4-2026-10.pdf").write_bytes(b"%PDF-1.7")
        (directory / "evidence" / "bundle-2026-10.tar.gz").write_bytes(b"\x1f\x8b" + b"x" * 999)
    site.now = NOW
    site.store.seal()  # type: ignore[attr-defined]
    made = Outputs(reports=directory / "reports", runbooks=shipped("runbooks"))
    made.records = Records(
        store=site.store,  # type: ignore[arg-type]
        settings=lambda: site.settings,
        media=lambda: custody.register(site.store, site.settings, NOW),
        bundles=directory / "evidence",
    )
    Judge(site.store, site.settings, load_catalogue(), made, lambda: site.now).judge()
    assert made.published is not None
    return made
