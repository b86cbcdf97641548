"""Writes what is generated from the catalogue of events: the page, the samples, the pipelines.

`python -m backupguard.notify.documents` in a checkout; a test fails when a file is something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from backupguard.language import catalogue
from backupguard.model import Json
from backupguard.notify import samples
from backupguard.notify.catalogue import EVENTS, EventType
from backupguard.notify.diagnostics import DIAGNOSTICS, LIBRARIES
from backupguard.notify.ecs import DATASET, NAMES, SEVERITIES, Sender, line
from backupguard.notify.syslog import frames, message
from backupguard.notify.telling import PlainWords
from backupguard.settings.soc import FACILITIES

ROOT = Path(__file__).resolve().parents[2]

_SENDER = Sender(
    site=samples.SITE_NAME,
    host=samples.HOST,
    words=PlainWords("en", "Europe/Paris"),
    version="0.1.0",
    names=samples.names(),
)

#: Fields that every event has, and what they are.
_COMMON = (
    ("@timestamp", "when it happened"),
    ("event.id", "the same however often it is sent: what to deduplicate by"),
    ("event.code", "one of this page"),
    ("event.kind", "`alert`: somebody should look; `event`: it happened"),
    ("event.category, event.type", "as ECS sorts them; each a list of one"),
    ("event.outcome", "`success`, `failure`, `unknown`; left out where nothing was tried"),
    ("event.severity", "more is worse: 99, 73, 47, 21, 1"),
    ("log.level", "the same in words: `critical`, `error`, `warning`, `notice`, `info`"),
    (
        "event.sequence",
        "the number of the record it comes from: `backupguard evidence show NUMBER`",
    ),
    ("event.created", "when that record was made"),
    ("event.dataset", f"`{DATASET}`"),
    ("message", "one sentence, in the language of the site or of `[soc.syslog]`"),
    ("organization.name", "the site"),
    ("host.name", "the host of the daemon"),
    ("user.id, user.name", "who did it, where a person did"),
    ("backupguard.subject", "what it is about: `application/dpi`, `repository/nas`, `site`"),
    ("backupguard.run", "the run it comes from, where there was one"),
)

_HEAD = """# Events

<!-- Generated from backupguard/notify/catalogue.py by `python -m backupguard.notify.documents`. -->

An event is one line of JSON in the names of the
[Elastic Common Schema](https://www.elastic.co/docs/reference/ecs) 8.11, with dotted names. The same
line goes to the journal and, where `[soc.syslog]` is configured, to a collector: [siem.md](siem.md)
says how, and what is promised. A code is never given another meaning.

Events come from records of the evidence, put in line in the transaction that makes the record: what
is recorded is told, on every channel, and what a SOC was told can be proved. No event holds a secret,
a value of restored data, or a text that a person wrote freely: a reason or a statement is read in the
evidence.

## Fields of every event

| field | what it is |
|---|---|
"""


def _field(name: str) -> str:
    return NAMES.get(name, f"backupguard.{name}")


def _row(kind: EventType) -> str:
    sentence = catalogue("en")[f"event.{kind.code}"].replace("|", "/")
    fields = ", ".join(f"`{_field(name)}`" for name in kind.fields)
    return (
        f"| `{kind.code}` | {kind.kind} | {kind.level.name.lower()} |"
        f" {kind.category} / {kind.type} | {kind.outcome or ''} | {sentence} | {fields} |"
    )


def page() -> str:
    """Return docs/soc/events.md."""
    lines = [_HEAD.rstrip("\n")]
    lines += [f"| `{name.replace(', ', '`, `')}` | {what} |" for name, what in _COMMON]
    lines += [
        "",
        "## Events",
        "",
        "The level is the worst: that of a finding follows its severity. Values in braces are fields;",
        "`{name}` is what people call the subject.",
        "",
        "| code | kind | level | category / type | outcome | sentence | own fields |",
        "|---|---|---|---|---|---|---|",
        *map(_row, EVENTS.values()),
        "",
        "## Diagnostics",
        "",
        "In the journal only, for whoever looks for a fault: no rule should need one. They have",
        "neither `event.id` nor `event.dataset`, which tells them from an event with the same code.",
        f"Warnings of libraries come as `{LIBRARIES}NAME`.",
        "",
        "| code | what it says |",
        "|---|---|",
        *(f"| `{code}` | {what} |" for code, what in sorted(DIAGNOSTICS.items())),
        "",
    ]
    return "\n".join(lines)


def sample() -> str:
    """Return one line of JSON for every event, as the journal has them."""
    return "".join(f"{line(event, _SENDER)}\n" for event in samples.events())


def sample_syslog() -> str:
    """Return the same as RFC 5424 messages, one a line, without the frames."""
    facility = FACILITIES["local0"]
    told = [message(event, _SENDER, facility) for event in samples.events()]
    assert frames(told[:1]).startswith(b"%d <" % len(told[0]))
    return "".join(f"{one.decode('ascii')}\n" for one in told)


#: A line as the journal or a file has it, or an RFC 5424 message: what grok takes apart.
_LINE = (
    "^(?:<%{NONNEGINT}>(?:1 %{TIMESTAMP_ISO8601} %{NOTSPACE} backupguard - %{NOTSPACE} - )?)?"
    "(?<backupguard_json>\\{.*\\})$"
)


def pipeline() -> Json:
    """Return the ingest pipeline for Elasticsearch: from a line, as it came, to ECS."""
    return {
        "description": "BackupGuard events: JSON with dotted names, alone or in an RFC 5424 message",
        "processors": [
            {"set": {"field": "event.original", "copy_from": "message", "override": False}},
            {
                "grok": {
                    "field": "message",
                    "patterns": [_LINE],
                }
            },
            {"json": {"field": "backupguard_json", "target_field": "backupguard_event"}},
            {"dot_expander": {"path": "backupguard_event", "field": "*", "override": True}},
            {
                "drop": {
                    "description": "diagnostics of the journal are no events",
                    "if": f"ctx.backupguard_event?.event?.dataset != '{DATASET}'",
                }
            },
            {
                "script": {
                    "description": "what the event says takes the place of what the carrier said",
                    "source": (
                        "def told = ctx.remove('backupguard_event');"
                        " def original = ctx.event?.original;"
                        " for (entry in told.entrySet()) { ctx[entry.getKey()] = entry.getValue(); }"
                        " ctx.event.original = original;"
                    ),
                }
            },
            {"date": {"field": "@timestamp", "formats": ["ISO8601"]}},
            {"set": {"field": "_id", "copy_from": "event.id"}},
            {"set": {"field": "event.ingested", "value": "{{{_ingest.timestamp}}}"}},
            {"remove": {"field": "backupguard_json", "ignore_missing": True}},
        ],
        "on_failure": [
            {"set": {"field": "event.kind", "value": "pipeline_error"}},
            {
                "set": {
                    "field": "error.message",
                    "value": "{{{_ingest.on_failure_processor_type}}}: "
                    "{{{_ingest.on_failure_message}}}",
                }
            },
        ],
    }


def template() -> Json:
    """Return the types of our own fields, as a component template for Elasticsearch."""
    own: dict[str, Json] = {}
    for event in samples.events():
        for name, value in event.values.items():
            field = _field(name)
            if not field.startswith("backupguard."):
                continue
            number = isinstance(value, int) and name not in {"before", "after"}
            kind = "date" if name.endswith("_at") else "long" if number else "keyword"
            own[field.removeprefix("backupguard.")] = {"type": kind}
    for name in ("subject", "run"):
        own[name] = {"type": "keyword"}
    for kind_of_event in EVENTS.values():
        for name in kind_of_event.fields:
            if _field(name).startswith("backupguard."):
                own.setdefault(_field(name).removeprefix("backupguard."), {"type": "keyword"})
    ordered = {name: own[name] for name in sorted(own)}
    return {"template": {"mappings": {"properties": {"backupguard": {"properties": ordered}}}}}


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def lookup() -> str:
    """Return Splunk's lookup of codes: what each means, for searches and dashboards."""
    rows = ["code,kind,severity,category,type,sentence"]
    for kind in EVENTS.values():
        sentence = catalogue("en")[f"event.{kind.code}"].replace('"', '""')
        rows.append(
            f"{kind.code},{kind.kind},{SEVERITIES[kind.level]},{kind.category},{kind.type},"
            f'"{sentence}"'
        )
    return "\n".join(rows) + "\n"


def files() -> Mapping[str, str]:
    """Return what each generated file holds, by its path in a checkout."""
    return {
        "docs/soc/events.md": page(),
        "config/events/sample.ndjson": sample(),
        "config/events/sample.syslog": sample_syslog(),
        "config/elastic/backupguard-events.pipeline.json": _json(pipeline()),
        "config/elastic/backupguard-events.component.json": _json(template()),
        "config/splunk/lookups/backupguard_events.csv": lookup(),
    }


def write(root: Path = ROOT) -> Iterator[Path]:
    """Write every generated file; yield those that were another before."""
    for name, text in files().items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            yield path


if __name__ == "__main__":
    for changed in write():
        print(changed.relative_to(ROOT))
