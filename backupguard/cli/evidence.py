"""`backupguard evidence`: verify the chain, take it elsewhere, look at one record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, cast

import typer

from backupguard.cli import common, evidence_keeping
from backupguard.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NOT_PROVED,
    EvidenceError,
    StoreError,
    UsageError,
)
from backupguard.model import Json, Message

if TYPE_CHECKING:
    from backupguard.anchoring.reading import Kept
    from backupguard.evidence.seals import Anchor
    from backupguard.evidence.verify import Verification
    from backupguard.store.sql import SqlStore

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


app.command()(evidence_keeping.anchor)
app.command("rotate-key")(evidence_keeping.rotate_key)
app.command()(evidence_keeping.prune)
app.command()(evidence_keeping.commissioning)


@contextmanager
def _opened_store() -> Iterator[SqlStore]:
    # A damaged store is to be reported here, not set aside: this command only looks.
    store = cast("SqlStore", common.store(common.settings(), replace_corrupt=False))
    with closing(store):
        yield store


def _anchors(files: list[Path], certificates: Path | None, chain: Path | None) -> Kept:
    from backupguard.anchoring.reading import anchors_in
    from backupguard.processes import Cancellation, Jail

    for path in (*files, *(one for one in (certificates, chain) if one is not None)):
        try:
            path.open("rb").close()
        except OSError as error:
            values = {"file": str(path)}
            message = Message(id="evidence.unreadable-file", values=values)
            raise UsageError("usage", message) from error
    with TemporaryDirectory(prefix="backupguard-evidence-") as name:
        jail = Jail(Path(name), Cancellation())
        given = (one.absolute() if one is not None else None for one in (certificates, chain))
        trusted, between = given
        return anchors_in(files, certificates=trusted, chain=between, tools=jail)


@app.command()
def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="A bundle to verify instead of the store.", show_default=False),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="FINGERPRINT", help="The fingerprint of a key you trust."),
    ] = None,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A syslog file, mail, object or time stamp kept elsewhere."
        ),
    ] = None,
    tsa_certificates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Whose time stamps (RFC 3161) you believe, PEM."),
    ] = None,
    tsa_chain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates between those and the authority's, PEM."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Verify the chain of evidence: exit 0 proved, 1 broken, 2 coherent but not proved."""
    from backupguard.evidence.seals import plain_fingerprint

    try:
        trusted = [plain_fingerprint(one) for one in key or ()]
    except EvidenceError as error:
        raise UsageError("usage", Message(id="evidence.no-fingerprint")) from error
    kept = _anchors(anchors or [], tsa_certificates, tsa_chain)
    known = list(kept.anchors)
    try:
        verification = _verify(bundle, trusted, known)
    except EvidenceError as error:
        common.show_error(error)
        return EXIT_FAILED
    except StoreError as error:
        if error.code != "corrupt_store":
            raise
        common.show_error(error)
        return EXIT_FAILED
    if as_json:
        common.print_json(_as_json(verification))
    else:
        for name in ("unchecked", "wrong"):
            if count := getattr(kept, name):
                common.result(f"evidence.stamps-{name}", count=count)
        _tell(verification, bool(trusted), bool(known))
    return _exit_code(verification)


def _verify(bundle: Path | None, trusted: list[str], anchors: list[Anchor]) -> Verification:
    from backupguard.evidence.verify import prunings
    from backupguard.evidence.verify import verify as verify_chain
    from backupguard.store.bundle import open_bundle

    with ExitStack() as stack:
        if bundle is not None:
            opened = stack.enter_context(open_bundle(bundle))
            return verify_chain(
                opened.records(),
                opened.seals(),
                store=opened.store,
                keys=opened.keys,
                trusted=trusted,
                anchors=anchors,
                pruned=opened.prunings(),
                head=opened.head,
                omitted=opened.omitted,
            )
        store = stack.enter_context(_opened_store())
        # Others may be writing. Seals first: none of them can then speak of a record not yet there.
        seals = store.seals()
        head, last = store.extent()
        return verify_chain(
            store.records(to=last),
            seals,
            store=store.store_id,
            keys=[store.key.public],
            trusted=trusted,
            anchors=anchors,
            pruned=tuple(prunings(store.records(to=last, kinds=["evidence.pruned"]))),
            head=head,
        )


def _exit_code(verification: Verification) -> int:
    from backupguard.evidence.verify import Standing

    codes = {Standing.PROVED: EXIT_DONE, Standing.BROKEN: EXIT_FAILED}
    return codes.get(verification.standing, EXIT_NOT_PROVED)


def _tell(found: Verification, key_given: bool, anchors_given: bool) -> None:
    words = common.words()
    if found.problem is not None:
        common.result("evidence.broken", records=found.records)
        common.result(found.problem.message())
        return
    common.result("evidence.records", records=found.records, pruned=found.pruned, store=found.store)
    if found.left_out:
        common.result("evidence.left-out", count=found.left_out_to)
    if found.sealed_to:
        common.result(
            "evidence.sealed",
            seq=found.sealed_to,
            time=words.time(found.sealed_at),
            unsealed=found.records - found.sealed_to,
        )
    else:
        common.result("evidence.unsealed")
    for fingerprint in found.fingerprints:
        common.result("evidence.key", fingerprint=fingerprint)
    if found.anchored_to:
        common.result("evidence.anchored", seq=found.anchored_to)
    for missing in found.unproved:
        if missing == "time":
            common.result("evidence.unproved-time", seq=found.clock_back or 0)
            continue
        given = key_given if missing == "origin" else anchors_given
        common.result(f"evidence.unproved-{missing}{'-given' if given else ''}")
    if found.left_out and found.standing.value == "proved":
        common.result("evidence.proved-from", seq=found.left_out_to + 1)
        return
    common.result(f"evidence.{found.standing.value}")


def _as_json(found: Verification) -> Json:
    return {
        "standing": found.standing.value,
        "store": found.store,
        "records": found.records,
        "pruned": found.pruned,
        "head": found.head.hex(),
        "sealed_to": found.sealed_to,
        "sealed_at": found.sealed_at.isoformat() if found.sealed_at else None,
        "anchored_to": found.anchored_to,
        "fingerprints": list(found.fingerprints),
        "unproved": list(found.unproved),
        "clock_back": found.clock_back,
        "left_out": found.left_out,
        "complete_from": found.left_out_to + 1,
        "problem": None
        if found.problem is None
        else {
            "code": found.problem.code,
            "seq": found.problem.seq,
            "sentence": common.words().say(found.problem.message()),
        },
    }


@app.command()
def export(
    output: Annotated[
        Path,
        typer.Option(metavar="PATH", help="A new directory, or a file ending in .tar.gz."),
    ],
    since: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="Of what is older, put in the hashes only."),
    ] = None,
) -> int:
    """Write a bundle that anybody can verify without BackupGuard."""
    from backupguard.reports import directory_of
    from backupguard.store.bundle import write_bundle

    settings = common.settings()
    moment = evidence_keeping.day_of(since, settings) if since is not None else None
    with _opened_store() as store:
        store.seal()
        try:
            documents = _documents(directory_of(settings))
            count = write_bundle(store, output, since=moment, documents=documents)
        except FileExistsError as error:
            raise UsageError(
                "usage", Message(id="evidence.file-exists", values={"file": str(output)})
            ) from error
    common.say("evidence.exported", records=count, file=str(output))
    common.say("evidence.how-to-verify")
    return EXIT_DONE


def _documents(directory: Path) -> dict[str, Path]:
    """Return the reports and records that lie there, by their names in a bundle."""
    return {
        str(path.relative_to(directory)): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    }


@app.command()
def show(
    identifier: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help="A record's number or key; without it, the chain itself."
        ),
    ] = None,
) -> int:
    """Show one record as it was written, or the chain's identity, key and head."""
    from backupguard.evidence.seals import anchor_line

    with _opened_store() as store:
        if identifier is None:
            common.result("evidence.store", store=store.store_id)
            common.result("evidence.key", fingerprint=store.key.fingerprint)
            print(anchor_line(store.anchor()))
            return EXIT_DONE
        record = store.record(identifier)
    if record is None:
        raise UsageError(
            "usage", Message(id="evidence.no-such-record", values={"record": identifier})
        )
    from backupguard.evidence.records import parse_body

    common.print_json(
        {
            "seq": record.seq,
            "hash": record.hash.hex(),
            "body_hash": record.body_hash.hex(),
            "record": parse_body(record.body) if record.body is not None else None,
        }
    )
    return EXIT_DONE
