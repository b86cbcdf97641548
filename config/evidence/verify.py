#!/usr/bin/env python3
"""Verify the evidence bundle this file lies in. Needs Python 3.9+ and the library `cryptography`.

Usage: python3 verify.py [--key FINGERPRINT] [--anchors FILE] [DIRECTORY]
Exit: 0 proved, 1 broken, 2 coherent but origin or completeness not proved.
"""

import argparse
import hashlib
import itertools
import json
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Broken(Exception):
    """The first thing that is wrong."""


def sha(content):
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).digest()


def lines(directory):
    """Yield (line of chain.tsv, line of records.jsonl) in order."""
    with (
        (directory / "chain.tsv").open("rb") as chain,
        (directory / "records.jsonl").open("rb") as records,
    ):
        for left, right in itertools.zip_longest(chain, records):
            if left is None:
                raise Broken(f"a record that the chain does not have: {right[:80]!r}")
            seq, kind, body_hash, link = left.decode("ascii").rstrip("\n").split("\t")
            yield int(seq), kind, bytes.fromhex(body_hash), bytes.fromhex(link), right


def prunings(directory):
    """Return what the facts `evidence.pruned` allow to be missing."""
    found = []
    for seq, kind, _, _, line in lines(directory):
        if kind == "evidence.pruned" and line:
            body = json.loads(line)
            if body["kind"] == kind:
                found.append((seq, body["data"]))
    return found


def check_seal(seal, store, seq, link, previous, keys, trusted):
    """Check one seal against the record it seals; return what the next one names as previous."""
    document, signature = seal["document"].encode("utf-8"), bytes.fromhex(seal["signature"])
    said = json.loads(document)
    key = keys.get(said["key_id"])
    if key is None or sha(key).hex()[:16] != said["key_id"]:
        raise Broken(f"record {seq} is sealed with an unknown key")
    if trusted and sha(key).hex() not in trusted:
        raise Broken(f"record {seq} is sealed with another key than the one given")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, document)
    except InvalidSignature:
        raise Broken(f"the seal of record {seq} is not its key's") from None
    if said["previous"] != previous:
        raise Broken(f"a seal before record {seq} is missing")
    if (said["store"], said["seq"], said["hash"]) != (store, seq, link.hex()):
        raise Broken(f"the seal of record {seq} speaks of something else")
    return sha(document + signature).hex()


def read_anchors(path, store):
    """Return {record: hash} for every anchor of this store in a text file."""
    pattern = re.compile(r"backupguard-anchor-1 (\w{26}) (\d{1,16}) ([0-9a-f]{64})\b")
    text = Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    found = {}
    for name, seq, digest in pattern.findall(text):
        if name == store and found.setdefault(int(seq), digest) != digest:
            raise Broken(f"two anchors of record {seq} differ")
    return found


def check_body(seq, kind, body_hash, line, allowed):
    """Check one record's bytes; a missing body must be allowed by a later fact."""
    if line is None:
        raise Broken(f"record {seq} is missing")
    if line == b"null\n":
        if not any(
            at > seq and d["first_seq"] <= seq <= d["last_seq"] and kind in d["kinds"]
            for at, d in allowed
        ):
            raise Broken(f"the body of record {seq} was removed")
        return
    body = line[:-1]
    if sha(body) != body_hash:
        raise Broken(f"record {seq} is not what was written")
    said = json.loads(body)
    if said["seq"] != seq or said["kind"] != kind:
        raise Broken(f"record {seq} is not in its place")


def verify(directory, trusted, anchors_path):
    """Return (number of records, last sealed, last anchored, runs unsealed); raise Broken."""
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    store = manifest["store"]
    keys = {name: bytes.fromhex(key) for name, key in manifest["keys"].items()}
    with (directory / "seals.jsonl").open(encoding="utf-8") as file:
        seals = [json.loads(line) for line in file][::-1]
    anchors = read_anchors(anchors_path, store)
    allowed = prunings(directory)
    link = sha(b"backupguard-genesis-1\0" + store.encode())
    last = sealed = anchored = unsealed = 0
    previous = None
    for seq, kind, body_hash, stated, line in lines(directory):
        if seq != last + 1:
            raise Broken(
                f"record {last + 1} is missing" if seq > last else f"record {seq} is extra"
            )
        check_body(seq, kind, body_hash, line, allowed)
        link, last = sha(b"backupguard-record-1\0" + link + body_hash), seq
        if link != stated:
            raise Broken(f"record {seq} does not follow the one before")
        unsealed += kind.endswith(".closed")  # every run that ends seals the chain
        while seals and seals[-1]["seq"] <= seq:
            previous = check_seal(seals.pop(), store, seq, link, previous, keys, trusted)
            sealed, unsealed = seq, 0
        if seq in anchors:
            if anchors.pop(seq) != link.hex():
                raise Broken(f"record {seq} is not the one that was anchored")
            anchored, unsealed = seq, 0
    if seals or anchors or manifest["head"]["seq"] != last:
        raise Broken(f"records after {last} are missing")
    return last, sealed, anchored, unsealed


def main():
    """Read the arguments, verify, say it in French and English."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--anchors")
    given = parser.parse_args()
    trusted = {re.sub(r"[\s:]", "", re.sub("(?i)^sha256:", "", key)).lower() for key in given.key}
    try:
        records, sealed, anchored, unsealed = verify(given.directory, trusted, given.anchors)
    except (Broken, OSError, ValueError, KeyError, TypeError) as error:
        print(f"ROMPU / BROKEN: {error}")
        return 1
    print(f"{records} enregistrements, scellés jusqu'au {sealed}, ancrés jusqu'au {anchored}")
    print(f"{records} records, sealed up to {sealed}, anchored up to {anchored}")
    if unsealed:
        print(f"{unsealed} exécutions terminées sans sceau / runs ended without a seal")
    if trusted and sealed and anchored and not unsealed:
        print("PROUVÉ / PROVED")
        return 0
    print("cohérent, origine et exhaustivité non prouvées")
    print("coherent, origin and completeness not proved")
    return 2


if __name__ == "__main__":
    sys.exit(main())
