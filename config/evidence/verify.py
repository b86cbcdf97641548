#!/usr/bin/env python3
"""Verify the evidence bundle this file lies in. Needs Python 3.9+ and the library `cryptography`.

Usage: python3 verify.py [--key FINGERPRINT] [--anchors FILE] [DIRECTORY]
Exit: 0 proved, 1 broken, 2 coherent but origin, time or completeness not proved.
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

MINUTE = 60_000_000
NAMING = ("report.issued", "commissioning.issued", "plan.issued")  # documents, by their hashes


class Broken(Exception):
    """The first thing that is wrong."""


def sha(content):
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).digest()


def lines(directory):
    """Yield (seq, kind, hash of the body, hash in the chain, line of records.jsonl) in order."""
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
        if kind == "evidence.pruned" and line and line != b"null\n":
            body = json.loads(line)
            if body["kind"] == kind:
                found.append((seq, body["data"]))
    return found


def signed(key, signature, content):
    """Tell whether this public key made this signature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


class Keys:
    """Which key signs at this place of the chain, and which ones are trusted."""

    def __init__(self, store, known, trusted):
        """Begin with the keys of the manifest and the fingerprints that were given."""
        self.store, self.known, self.trusted = store, known, set(trusted)
        self.given, self.current, self.distrusted = bool(trusted), None, None
        self.vouching = None

    def learn(self, seq, kind, data):
        """Take in a fact about keys: a new one needs the signatures of both."""
        if kind == "evidence.key-created" and data.get("public_key"):
            self.current = self.current or bytes.fromhex(data["public_key"])
        if kind != "evidence.key-rotated":
            return
        new, old = bytes.fromhex(data["public_key"]), self.current or b""
        said = {"format": "backupguard-key-rotation-1", "new": new.hex(), "old": old.hex()}
        said.update(reason=data["reason"], store=self.store)
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        both = ((old, data["signed_by_previous"]), (new, data["signed_by_new"]))
        if not all(signed(key, bytes.fromhex(signature), text) for key, signature in both):
            raise Broken(f"record {seq} names a new key that the old one did not sign")
        if sha(old).hex() in self.trusted:
            self.trusted.add(sha(new).hex())
        elif sha(new).hex() in self.trusted:
            self.vouching = new  # for the key before it, by a seal of its own that follows
        self.known[sha(new).hex()[:16]] = self.current = new

    def check(self, seal, store, seq, link, previous):
        """Check one seal against the record it seals; return what the next names as previous."""
        document, signature = seal["document"].encode("utf-8"), bytes.fromhex(seal["signature"])
        said = json.loads(document)
        key = self.known.get(said["key_id"])
        if key is None or sha(key).hex()[:16] != said["key_id"]:
            raise Broken(f"record {seq} is sealed with an unknown key")
        self.current = self.current or key
        if key != self.current:
            raise Broken(f"record {seq} is sealed with a key that no key before it signed")
        if self.given and sha(key).hex() not in self.trusted and self.distrusted is None:
            self.distrusted = seq
        if not signed(key, signature, document):
            raise Broken(f"the seal of record {seq} is not its key's")
        if said["previous"] != previous:
            raise Broken(f"a seal before record {seq} is missing")
        if (said["store"], said["seq"], said["hash"]) != (store, seq, link.hex()):
            raise Broken(f"the seal of record {seq} speaks of something else")
        if key == self.vouching:
            self.vouching = self.distrusted = None
        return sha(document + signature).hex(), said["sealed_at"]


class Clock:
    """Whether records are dated in their order, but for steps that were recorded as such."""

    def __init__(self):
        """Begin before the first record."""
        self.newest, self.untold = 0, None

    def see(self, seq, kind, said):
        """Take in a record."""
        if said["recorded_at"] < self.newest - MINUTE and self.untold is None:
            self.untold = seq
        self.newest = said["recorded_at"]
        told = kind == "clock.stepped" and said["data"]["step_ms"] < 0
        if told and self.untold is not None and seq - self.untold <= 100:
            self.untold = None

    def sealed(self, seq, at):
        """Take in when that record was sealed."""
        if at < self.newest - MINUTE and self.untold is None:
            self.untold = seq


class Missing:
    """Which bodies are missing, as the newest fact `evidence.pruned` counted them."""

    def __init__(self, allowed):
        """Begin before the first record."""
        self.counted = hashlib.sha256()
        self.newest, data = max(allowed, key=lambda one: one[0], default=(0, {}))
        self.stated = data.get("missing_sha256")

    def see(self, seq, kind, said):
        """Take in a record."""
        if said is None:
            self.counted.update(f"{seq}\t{kind}\n".encode())
        elif seq == self.newest and self.stated not in (None, self.counted.hexdigest()):
            raise Broken(f"other records are missing than record {seq} says")


def read_anchors(paths, store):
    """Return {record: hash} for every anchor of this store in text files.

    A time stamp is none here: it counts once its token was checked (README.txt says how).
    """
    pattern = re.compile(r"backupguard-anchor-1 (\w{26}) (\d{1,16}) ([0-9a-f]{64})\b")
    found = {}
    for path in paths:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        text = re.sub(r"[^\n]*\n[\s>]{0,80}-----BEGIN RFC3161 RESPONSE-----", "", text)
        for name, seq, digest in pattern.findall(text):
            if name == store and found.setdefault(int(seq), digest) != digest:
                raise Broken(f"two anchors of record {seq} differ")
    return found


def check_body(seq, kind, body_hash, line, allowed, omitted):
    """Return one record; a missing body must be allowed by a later fact, or by the manifest."""
    if line is None:
        raise Broken(f"record {seq} is missing")
    if line == b"null\n":
        if seq > omitted and not any(
            at > seq and d["first_seq"] <= seq <= d["last_seq"] and kind in d["kinds"]
            for at, d in allowed
        ):
            raise Broken(f"the body of record {seq} was removed")
        return None
    body = line[:-1]
    if sha(body) != body_hash:
        raise Broken(f"record {seq} is not what was written")
    said = json.loads(body)
    if said["seq"] != seq or said["kind"] != kind:
        raise Broken(f"record {seq} is not in its place")
    if seq <= omitted and kind not in (*NAMING, "clock.stepped") and kind[:9] != "evidence.":
        raise Broken(f"what is missing up to {omitted} is no beginning: record {seq} is here")
    return said


def hashes(data):
    """Yield everything in a record's data that looks like a SHA-256."""
    if isinstance(data, str) and re.fullmatch("[0-9a-f]{64}", data):
        yield data
    elif isinstance(data, (dict, list)):
        for one in data.values() if isinstance(data, dict) else data:
            yield from hashes(one)


def verify(directory, trusted, anchor_files):
    """Return what was found; raise Broken."""
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    store, omitted = manifest["store"], manifest.get("bodies_from", 1) - 1
    known = {name: bytes.fromhex(key) for name, key in manifest["keys"].items()}
    keys, named = Keys(store, known, trusted), {}
    with (directory / "seals.jsonl").open(encoding="utf-8") as file:
        seals = [json.loads(line) for line in file][::-1]
    anchors, allowed = read_anchors(anchor_files, store), prunings(directory)
    link = sha(b"backupguard-genesis-1\0" + store.encode())
    last = sealed = anchored = unsealed = 0
    previous, clock = None, Clock()
    missing = Missing([] if omitted else allowed)
    for seq, kind, body_hash, stated, line in lines(directory):
        if seq != last + 1:
            raise Broken(
                f"record {last + 1} is missing" if seq > last else f"record {seq} is extra"
            )
        said = check_body(seq, kind, body_hash, line, allowed, omitted)
        link, last = sha(b"backupguard-record-1\0" + link + body_hash), seq
        if link != stated:
            raise Broken(f"record {seq} does not follow the one before")
        missing.see(seq, kind, said)
        if said is not None:
            keys.learn(seq, kind, said["data"])
            clock.see(seq, kind, said)
            if kind in NAMING:
                named.update(dict.fromkeys(hashes(said["data"]), seq))
        unsealed += kind.endswith(".closed")  # every run that ends seals the chain
        while seals and seals[-1]["seq"] <= seq:
            previous, at = keys.check(seals.pop(), store, seq, link, previous)
            sealed, unsealed = seq, 0
            clock.sealed(seq, at)
        if seq in anchors:
            if anchors.pop(seq) != link.hex():
                raise Broken(f"record {seq} is not the one that was anchored")
            anchored, unsealed = seq, 0
    if seals or anchors or manifest["head"]["seq"] != last:
        raise Broken(f"records after {last} are missing")
    if keys.distrusted is not None:
        raise Broken(f"record {keys.distrusted} is sealed with another key than the one given")
    return last, sealed, anchored, unsealed, clock.untold, omitted, named


def tell_documents(directory, named):
    """Say which files of the bundle the chain names by their hash."""
    folder = directory / "documents"
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            record = named.get(sha(path.read_bytes()).hex())
            name = path.relative_to(folder)
            if record:
                print(f"{name}: enregistrement / record {record}")
            else:
                print(f"{name}: aucun enregistrement ne le nomme / no record names it")


def main():
    """Read the arguments, verify, say it in French and English."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--anchors", action="append", default=[])
    given = parser.parse_args()
    trusted = {re.sub(r"[\s:]", "", re.sub("(?i)^sha256:", "", key)).lower() for key in given.key}
    try:
        found = verify(given.directory, trusted, given.anchors)
    except (Broken, OSError, ValueError, KeyError, TypeError) as error:
        print(f"ROMPU / BROKEN: {error}")
        return 1
    records, sealed, anchored, unsealed, untold, omitted, named = found
    print(f"{records} enregistrements, scellés jusqu'au {sealed}, ancrés jusqu'au {anchored}")
    print(f"{records} records, sealed up to {sealed}, anchored up to {anchored}")
    if omitted:
        print(f"jusqu'au {omitted}: empreintes seules / up to {omitted}: hashes only")
    if unsealed:
        print(f"{unsealed} exécutions terminées sans sceau / runs ended without a seal")
    if untold:
        print(f"l'horloge recule à l'enregistrement / the clock goes back at record {untold}")
    tell_documents(given.directory, named)
    if trusted and sealed and anchored and not unsealed and not untold:
        start = omitted + 1
        since = (f" à partir du {start}", f" from {start} on") if omitted else ("", "")
        print(f"PROUVÉ{since[0]} / PROVED{since[1]}")
        return 0
    print("cohérent, origine et exhaustivité non prouvées")
    print("coherent, origin and completeness not proved")
    return 2


if __name__ == "__main__":
    sys.exit(main())
