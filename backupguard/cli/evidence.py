"""`backupguard evidence`: verify the chain, take it elsewhere, look at one record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from backupguard.cli import common
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
    from backupguard.evidence.seals import Anchor
    from backupguard.evidence.verify import Verification
    from backupguard.store.sql import SqlStore

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@contextmanager
def _opened_store() -> Iterator[SqlStore]:
    # A damaged store is to be reported here, not set aside: this command only looks.
    store = cast("SqlStore", common.store(common.settings(), replace_corrupt=False))
    with closing(store):
        yield store


def _anchors(path: Path | None) -> list[Anchor]:
    from backupguard.evidence.seals import read_anchors

    if path is None:
        return []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return list(read_anchors(file))
    except OSError as error:
        raise UsageError(
            "usage", Message(id="evidence.unreadable-file", values={"file": str(path)})
        ) from error


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
        Path | None,
        typer.Option(metavar="FILE", help="A text with the anchors kept elsewhere."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Verify the chain of evidence: exit 0 proved, 1 broken, 2 coherent but not proved."""
    from backupguard.evidence.seals import plain_fingerprint

    try:
        trusted = [plain_fingerprint(one) for one in key or ()]
    except EvidenceError as error:
        raise UsageError("usage", Message(id="evidence.no-fingerprint")) from error
    known = _anchors(anchors)
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
                pruned=tuple(prunings(opened.records())),
                head=opened.head,
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
        given = key_given if missing == "origin" else anchors_given
        common.result(f"evidence.unproved-{missing}{'-given' if given else ''}")
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
) -> int:
    """Write a bundle that anybody can verify without BackupGuard."""
    from backupguard.store.bundle import write_bundle

    with _opened_store() as store:
        store.seal()
        try:
            count = write_bundle(store, output)
        except FileExistsError as error:
            raise UsageError(
                "usage", Message(id="evidence.file-exists", values={"file": str(output)})
            ) from error
    common.say("evidence.exported", records=count, file=str(output))
    common.say("evidence.how-to-verify")
    return EXIT_DONE


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
