"""The configuration that a demonstration leaves: eight applications in ten repositories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from backupguard.demo.layout import Layout

#: The role that reads the servers' catalogues; no other server on this machine knows it.
ROLE = "backupguard_demo"
#: Applications whose copies an engine of this version restores, and the repositories tested.
TESTED = {
    "dpi": ("nas", "coffre", "verrou"),
    "labo": ("exports", "cloud"),
    "pharmacie": ("borg", "pgbackrest"),
    "imagerie": ("borg",),
    "annuaire": ("nas", "coffre"),
    "sterilisation": ("nas",),
    "facturation": ("exports", "cloud"),
    "ged": ("nas",),
}

_SITE = """\
# Written by `backupguard demo`. Every other command works on it:
#   backupguard --config {configuration} status

[site]
name = "CH de Belle-Rive (démonstration)"
timezone = "Europe/Paris"
language = "{language}"

[store]
directory = "{state}"

[http]
listen = "127.0.0.1:{http_port}"

[scratch]
clear-text-accepted-by = "backupguard demo: invented data"

[probes.integrity]
data-percent = 100  # small enough to be read whole each time

[discovery]
roles = {{ postgresql = "{role}" }}

# What else runs on this machine is no part of the invented hospital.
{ignored}
[reference]
file = "{reference}/cmdb-*.csv"
columns = {{ name = "Nom", id = "Code", kind = "Type", date = "Exporté le" }}
kinds = ["Application"]
dated = "column"

[repositories.nas]
type = "restic"
url = "{nas}"
program = "{restic}"
data-buckets = 1  # small enough to be read in one piece
credentials.reader.file = "{secrets}/nas"
medium-kind = "disk"
failure-domain = "campus-nord/baie-2"
{declared}
[repositories.exports]
type = "directory"
path = "{exports}"
timezone = "Europe/Paris"
settle = "1s"
medium-kind = "disk"
failure-domain = "campus-nord/baie-3"
{declared}
[repositories.cloud]
type = "s3"
endpoint = "{cloud_endpoint}"
bucket = "{bucket}"
prefix = "dumps/"
timezone = "Europe/Paris"
credentials.reader.file = "{secrets}/cloud"
credentials.writer-for-probe.file = "{secrets}/writer"  # what the backup job itself uses
medium-kind = "object"
failure-domain = "hebergeur-hds"
off-site = true
{declared}
[repositories.verrou]
type = "restic"
url = "s3:{cloud_endpoint}/{locked_bucket}"
program = "{restic}"
data-buckets = 1  # small enough to be read in one piece
credentials.reader.file = "{secrets}/verrou"
credentials.backend.file = "{secrets}/verrou-reader"
credentials.writer-for-probe.file = "{secrets}/writer"
medium-kind = "object"
failure-domain = "hebergeur-hds"
off-site = true
claimed-protection = ["object-lock"]
{declared}
[repositories.disque]
type = "restic"
url = "{{medium}}/restic"
medium = "disque-rouge"
program = "{restic}"
data-buckets = 1  # small enough to be read in one piece
credentials.reader.file = "{secrets}/disque"
medium-kind = "removable"
failure-domain = "coffre-ignifuge"
off-site = true
{declared}
[media.disque-rouge]
kind = "removable"
image = "{medium}"  # attached while the file is there
filesystem-uuid = "{medium_uuid}"
may-stay = "12h"
every = "7d"

[isolation]
witness = "127.0.0.1:{cloud_port}"

[isolation.targets.coffre-ignifuge]  # what keeps the disk must not answer anybody
hosts = ["127.0.0.1", "::1"]
ports = [{closed_port}]
media = ["disque-rouge"]

[repositories.borg]
type = "borg"
url = "{borg}"
program = "{borg_program}"
credentials.reader.file = "{secrets}/borg"
medium-kind = "disk"
failure-domain = "campus-sud/salle-1"
{declared}
[repositories.pgbackrest]
type = "pgbackrest"
path = "{pgbackrest}"
credentials.reader.file = "{secrets}/pgbackrest"
lock-path = "{source}/pgbackrest/lock"
medium-kind = "disk"
failure-domain = "campus-nord/baie-3"
{declared}
[repositories.barman]
type = "barman"
path = "{barman}"
medium-kind = "disk"
failure-domain = "campus-sud/srv-barman"
{declared}
[repositories.scripts]
type = "reported"
spool = "{spool}"
medium-kind = "removable"
failure-domain = "coffre-ignifuge"
off-site = true
{declared}"""

_IGNORED = """\
[[discovery.ignore]]
pattern = "{pattern}"
reason = "hors de l'hôpital inventé"

"""

_COFFRE = """
[repositories.coffre]
type = "restic"
url = "rest:http://127.0.0.1:{coffre_port}/"
program = "{restic}"
data-buckets = 1  # small enough to be read in one piece
credentials.reader.file = "{secrets}/coffre"
medium-kind = "disk"
failure-domain = "campus-sud/coffre"
claimed-protection = ["append-only"]
{declared}"""

_APPLICATIONS = """
[applications.dpi]
name = "Dossier patient informatisé"
criticality = "C1"
rpo = "24h"
rto = "4h"
failure-domain = "campus-nord/baie-1"
declared-by = "direction des soins"
declared-on = {declared_on}
bia-reference = "BIA-04"
depends-on = ["labo"]
recovery.steps = [{{ name = "serveur et licence", duration = "90m", source = "exercice de mars" }}]

[applications.dpi.restore-test]
engine = "postgresql"
required-tables = ["patients", "stays", "observations", "prescriptions"]

[[applications.dpi.restore-test.checks]]
name = "admissions récentes"
sql = "select max(admitted_at) from stays"
newer-than = "26h"

[[applications.dpi.restore-test.checks]]
name = "observations en nombre"
sql = "select count(*) from observations"
at-least = {observations}

[[applications.dpi.restore-test.checks]]
name = "aucun séjour sans patient"
sql = "select count(*) from stays s left join patients p on p.id = s.patient_id where p.id is null"
equals = 0

[applications.labo]
name = "Laboratoire"
criticality = "C2"
rpo = "24h"
rto = "8h"
failure-domain = "campus-nord/baie-1"
declared-by = "chef de service du laboratoire"
declared-on = {declared_on}
bia-reference = "BIA-07"
recovery.steps = [{{ name = "serveur", duration = "45m", source = "exercice de mars" }}]

[applications.labo.restore-test]
engine = "postgresql"

[[applications.labo.restore-test.checks]]
name = "résultats récents"
sql = "select max(validated_at) from results"
newer-than = "26h"

[applications.pharmacie]
name = "Circuit du médicament"
criticality = "C1"
rpo = "24h"
rto = "4h"
failure-domain = "campus-nord/baie-1"
declared-by = "pharmacien gérant"
declared-on = {declared_on}
bia-reference = "BIA-05"

[applications.pharmacie.restore-test]  # dumps and data directories: recognised from their bytes

[[applications.pharmacie.restore-test.checks]]
name = "délivrances récentes"
sql = "select max(dispensed_at) from dispensations"
newer-than = "2h"

[applications.imagerie]
name = "Imagerie (PACS)"
criticality = "C2"
rpo = "24h"
rto = "24h"
failure-domain = "campus-nord/baie-1"
declared-by = "chef de service de radiologie"
declared-on = {declared_on}
bia-reference = "BIA-09"

[applications.imagerie.restore-test]
engine = "files"

[[applications.imagerie.restore-test.checks]]
name = "images en nombre"
files = "*.dcm"
at-least = 10

[applications.annuaire]
name = "Annuaire du personnel"
criticality = "C1"
rpo = "24h"
rto = "2h"
provides = ["directory"]
failure-domain = "campus-nord/baie-1"
declared-by = "responsable informatique"
declared-on = {declared_on}
bia-reference = "BIA-01"

[applications.annuaire.restore-test]
engine = "openldap"

[[applications.annuaire.restore-test.checks]]
name = "agents en nombre"
filter = "(objectClass=inetOrgPerson)"
at-least = 250

[applications.sterilisation]
name = "Traçabilité de stérilisation"
criticality = "C2"
rpo = "24h"
rto = "8h"
failure-domain = "campus-nord/baie-1"
declared-by = "pharmacien gérant"
declared-on = {declared_on}
bia-reference = "BIA-11"

[applications.sterilisation.restore-test]
engine = "sqlite"

[[applications.sterilisation.restore-test.checks]]
name = "boîtes récentes"
sql = "select max(used_at) from sets"
newer-than = "26h"

[applications.facturation]
name = "Facturation"
criticality = "C2"
rpo = "24h"
rto = "24h"
failure-domain = "campus-nord/baie-1"
declared-by = "direction des finances"
declared-on = {declared_on}
bia-reference = "BIA-12"

[applications.facturation.restore-test]
engine = "mariadb"

[[applications.facturation.restore-test.checks]]
name = "factures récentes"
sql = "select max(issued_at) from invoices"
newer-than = "26h"

[applications.ged]
name = "Gestion documentaire"
criticality = "C3"
rpo = "48h"
rto = "72h"
failure-domain = "campus-nord/baie-1"
declared-by = "secrétariat général"
declared-on = {declared_on}
bia-reference = "BIA-15"

[applications.ged.restore-test]
engine = "files"

[[applications.ged.restore-test.checks]]
name = "lettres en nombre"
files = "*.txt"
at-least = 50
"""

_JOB = """
[applications.{application}.backups.{job}]
repository = "{repository}"
{selects}
every = "{every}"
grace = "2h"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a demonstration's configuration depends on.

    `ports` are those of the two database servers, "server" and "pharma"; without `coffre_port` there
    is no append-only repository.
    """

    language: str
    restic: Path
    borg: Path
    http_port: int
    coffre_port: int | None
    cloud_endpoint: str
    bucket: str
    locked_bucket: str
    medium_uuid: UUID
    closed_port: int
    server_port: int
    pharma_port: int
    observations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    application: str
    name: str
    repository: str
    selects: str
    covers: str | None = None
    every: str = "24h"


def _jobs(layout: Layout, parts: Parts) -> list[_Job]:
    server = f"postgresql://localhost:{parts.server_port}"
    pharmacie = f"postgresql://localhost:{parts.pharma_port}/pharmacie"
    dpi = f'select.paths = ["{layout.dumps}/dpi.dump"]'
    coffre = [_Job(application="dpi", name="nuit-coffre", repository="coffre", selects=dpi,
                   covers=f"{server}/dpi")]  # fmt: skip
    return [
        _Job(application="dpi", name="nuit", repository="nas", selects=dpi, covers=f"{server}/dpi"),
        *(coffre if parts.coffre_port is not None else ()),
        *(
            _Job(application="dpi", name=name, repository=repository, selects=dpi, every=every,
                 covers=f"{server}/dpi")
            for name, repository, every in (("verrou", "verrou", "24h"), ("disque", "disque", "7d"))
        ),
        *(
            _Job(application="labo", name=name, repository=repository,
                 selects='select.pattern = "labo-%Y%m%d-%H%M%S.dump"', covers=f"{server}/labo")
            for name, repository in (("export", "exports"), ("hebergeur", "cloud"))
        ),
        *(
            _Job(application="pharmacie", name=name, repository=repository,
                 selects='select.name = "pharma"', covers=pharmacie)
            for name, repository in (("grappe", "pgbackrest"), ("flux", "barman"))
        ),
        _Job(application="pharmacie", name="nuit", repository="borg",
             selects=f'select.name = "pharmacie-*"\nselect.paths = ["{layout.dumps}/pharmacie.dump"]',
             covers=pharmacie),
        _Job(application="imagerie", name="nuit", repository="borg",
             selects=f'select.name = "imagerie-*"\nselect.paths = ["{layout.images}"]'),
        _Job(application="imagerie", name="hebergeur", repository="cloud",
             selects='select.pattern = "imagerie-%Y%m%d-%H%M%S.tar"'),
        *(
            _Job(application="annuaire", name=name, repository=repository,
                 selects=f'select.paths = ["{layout.dumps}/annuaire.ldif"]')
            for name, repository in (("nuit", "nas"), ("nuit-coffre", "coffre"))
            if repository != "coffre" or parts.coffre_port is not None
        ),
        _Job(application="sterilisation", name="nuit", repository="nas",
             selects=f'select.paths = ["{layout.dumps}/sterilisation.db"]'),
        *(
            _Job(application="facturation", name=name, repository=repository,
                 selects='select.pattern = "facturation-%Y%m%d-%H%M%S.sql"')
            for name, repository in (("export", "exports"), ("hebergeur", "cloud"))
        ),
        _Job(application="ged", name="nuit", repository="nas",
             selects=f'select.paths = ["{layout.documents}"]'),
        _Job(application="ged", name="disque", repository="scripts", selects="", every="7d"),
    ]  # fmt: skip


def _job(job: _Job) -> str:
    selects = "\n".join(
        filter(None, (job.selects, f'covers = ["{job.covers}"]' if job.covers else ""))
    )
    text = _JOB.format(
        application=job.application,
        job=job.name,
        repository=job.repository,
        selects=selects,
        every=job.every,
    )
    return text.replace("\n\nevery", "\nevery")


def write_configuration(layout: Layout, parts: Parts, today: date) -> None:
    """Write the configuration of the demonstration; `today` dates what people declared."""
    declared_on = today - timedelta(days=60)
    values = {
        "configuration": layout.configuration,
        "language": parts.language,
        "state": layout.state,
        "http_port": parts.http_port,
        "secrets": layout.secret("nas").parent,
        "source": layout.source,
        "reference": layout.reference,
        "role": ROLE,
        "restic": parts.restic,
        "borg_program": parts.borg,
        "coffre_port": parts.coffre_port,
        "cloud_endpoint": parts.cloud_endpoint,
        "bucket": parts.bucket,
        "cloud_port": urlsplit(parts.cloud_endpoint).port,
        "locked_bucket": parts.locked_bucket,
        "medium": layout.medium,
        "medium_uuid": parts.medium_uuid,
        "closed_port": parts.closed_port,
        "observations": parts.observations * 9 // 10,
        "declared_on": declared_on,
        "declared": f'declared-by = "responsable infrastructure"\ndeclared-on = {declared_on}\n',
        "ignored": "".join(
            _IGNORED.format(pattern=pattern)
            for pattern in ("sqlite:///*", "mariadb://*/*", "openldap://*/*")
        ),
        **{
            name: layout.root / name
            for name in ("nas", "exports", "borg", "pgbackrest", "barman", "spool")
        },
    }
    texts = [_SITE.format(**values)]
    if parts.coffre_port is not None:
        texts.append(_COFFRE.format(**values))
    texts.append(_APPLICATIONS.format(**values))
    texts += [_job(job) for job in _jobs(layout, parts)]
    layout.configuration.touch(mode=0o600)
    layout.configuration.write_text("".join(texts), encoding="utf-8")


def write_reference(layout: Layout, today: date) -> None:
    """Write the list of applications that the hospital keeps by itself: one more than are saved."""
    rows = (
        ("Dossier patient informatisé", "dpi"),
        ("Laboratoire", "labo"),
        ("Circuit du médicament", "pharmacie"),
        ("Imagerie (PACS)", "imagerie"),
        ("Gestion documentaire", "ged"),
        ("Annuaire du personnel", "annuaire"),
        ("Traçabilité de stérilisation", "sterilisation"),
        ("Facturation", "facturation"),
        ("Bloc opératoire", "bloc_operatoire"),
    )
    lines = ["Nom;Code;Type;Exporté le", *(f"{a};{b};Application;{today}" for a, b in rows)]
    place = layout.reference / f"cmdb-{today:%Y%m%d}.csv"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
