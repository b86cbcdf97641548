"""How a bucket is locked, read with the reader's credentials: its settings, and object by object.

What may not be read is named in `unread` and never counts as good. Sources: the API reference of
GetObjectLockConfiguration, GetObjectRetention and HeadObject; a HEAD leaves the lock's headers out, and
says nothing, where the right to read retentions is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from backupguard.contracts import Context, ProtectionState, Weakness
from backupguard.errors import AccessRefused, Misunderstood, Unreachable
from backupguard.repositories import s3_client
from backupguard.repositories.s3_ledger import MODES, Entry, Locked
from backupguard.repositories.s3_listing import Page, read_page
from backupguard.repositories.s3_places import S3Place
from backupguard.repositories.s3_policy import DAY_S, bypass_holders, early_rules
from backupguard.repositories.s3_wire import Signer, Wire

MECHANISM = "s3-object-lock"
_THREADS = 8
_AT_ONCE = 32
_TOGETHER = 3 * _AT_ONCE
_YEAR_S = 365 * DAY_S
#: What servers answer where a bucket or an object simply has no such thing. A bucket without Object
#: Lock answers the question for a retention with InvalidRequest (AWS).
_ABSENT = frozenset(
    {
        "ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "InvalidRequest",
        "NoSuchLifecycleConfiguration", "NoSuchBucketPolicy",
    }
)  # fmt: skip
_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
_HEADERS = re.compile(
    rb"\r\nx-amz-(object-lock-mode|object-lock-retain-until-date|object-lock-legal-hold|version-id)"
    rb":[ \t]*([^\r]*)"
)

Wanted = tuple[int, str, str]  # number, key, version


class S3Locks:
    """The locks of one bucket below one prefix. Made once per opened repository; only reads."""

    def __init__(self, identifier: str, place: S3Place, context: Context) -> None:
        """Raises AccessRefused (authentication) without usable keys."""
        if place.credentials is None:
            raise AccessRefused("authentication", repository=identifier)
        self._identifier = identifier
        self.place = place
        self._context = context
        secret = context.secret(place.credentials)
        self._client = s3_client.client(place, secret)
        self._keys = s3_client.keys_of(secret)
        self._requests: Counter[str] = Counter()
        self._state: ProtectionState | None = None

    def requests(self) -> Mapping[str, int]:
        """Return how many requests were made, by operation."""
        return dict(self._requests)

    # ---- settings

    def state(self) -> ProtectionState:
        """Return what is set up. Raises Unreachable, AccessRefused when nothing can be read."""
        if self._state is None:
            self._state = self._read_state()
        return self._state

    def _read_state(self) -> ProtectionState:
        bucket = {"Bucket": self.place.bucket}
        unread: list[str] = []
        versioning = self._setting("versioning", "get_bucket_versioning", bucket, unread)
        lock = self._setting("lock-configuration", "get_object_lock_configuration", bucket, unread)
        lifecycle = self._setting("lifecycle", "get_bucket_lifecycle_configuration", bucket, unread)
        policy = self._setting("policy", "get_bucket_policy", bucket, unread)
        if len(unread) == 4:
            raise AccessRefused("permission", repository=self._identifier)
        settings: dict[str, int | str | bool] = {}
        weaknesses: list[Weakness] = []
        mode, retention_s = _retention(lock, settings, weaknesses)
        _versions(versioning, settings, weaknesses)
        self._lifecycle(lifecycle, retention_s, settings, weaknesses)
        holders = self._holders(policy, settings, unread)
        if holders:
            weaknesses.append(
                Weakness(code="bypass_allowed", values={"holders": ", ".join(holders)[:300]})
            )
        locked = lock is None or bool(settings.get("lock"))
        return ProtectionState(
            mechanism=MECHANISM if locked else "none",
            mode=mode,
            retention_s=retention_s,
            weaknesses=tuple(weaknesses),
            bypass_holders=holders,
            # Rights that users and roles have by themselves are not the bucket's to tell.
            unread=(*unread, "iam"),
            settings=settings,
        )

    def _setting(
        self, name: str, operation: str, parameters: Mapping[str, str], unread: list[str]
    ) -> Mapping[str, Any] | None:
        """Return one setting, empty where there is none; None, and a word in `unread`, if unknown."""
        code, answer = self._ask(operation, parameters)
        if code is None:
            return dict(answer)
        if code in _ABSENT:
            return {}
        unread.append(name)
        return None

    def _ask(self, operation: str, parameters: Mapping[str, str]) -> tuple[str | None, Any]:
        """Return the server's code of a refusal, or None and its answer; raise what stops us."""
        from botocore.exceptions import ClientError

        call = getattr(self._client, operation)
        self._requests["".join(part.capitalize() for part in operation.split("_"))] += 1
        with s3_client.in_our_words(self._identifier):
            try:
                return None, call(**parameters)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
                if {code, status} & (_ABSENT | _UNKNOWN | {"AccessDenied", "AllAccessDisabled"}):
                    return code or status, None
                raise

    def _lifecycle(
        self,
        lifecycle: Mapping[str, Any] | None,
        retention_s: int | None,
        settings: dict[str, int | str | bool],
        weaknesses: list[Weakness],
    ) -> None:
        if lifecycle is None:
            return
        rules = lifecycle.get("Rules") or []
        settings["lifecycle"] = _digest(rules)
        early = sorted(
            (days, rule)
            for rule, days in early_rules(rules, self.place.prefix, self._context.now())
        )
        if early:
            settings["lifecycle-days"] = early[0][0]
            settings["lifecycle-rule"] = early[0][1][:100]
        if early and retention_s is not None and early[0][0] * DAY_S < retention_s:
            values: dict[str, int | str] = {"rule": early[0][1][:100], "days": early[0][0]}
            weaknesses.append(Weakness(code="lifecycle_early", values=values))

    def _holders(
        self,
        policy: Mapping[str, Any] | None,
        settings: dict[str, int | str | bool],
        unread: list[str],
    ) -> tuple[str, ...]:
        text = str((policy or {}).get("Policy") or "")
        if policy is not None:
            settings["policy"] = hashlib.sha256(text.encode()).hexdigest() if text else "none"
        try:
            return bypass_holders(text) if text else ()
        except ValueError:
            unread.append("policy")
            return ()

    # ---- objects

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """Open what asks for many objects at once; its requests are counted at the end."""
        address = self._client.generate_presigned_url(
            "head_object", Params={"Bucket": self.place.bucket, "Key": "x"}
        )
        parts = urlsplit(address)
        trust = None
        if parts.scheme == "https":
            ca = self.place.ca_certificate
            trust = ssl.create_default_context(cafile=str(ca) if ca else None)
        access, private, token = self._keys
        wire = Wire(
            base=f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/x')}",
            signer=lambda host: Signer(access, private, token, self.place.region, host),
            trust=trust,
            timeout_s=self.place.timeout_s,
            identifier=self._identifier,
            cancel=self._context.cancel,
        )
        try:
            yield wire
        finally:
            self._requests.update(wire.requests)
            wire.close()

    def pages(self, wire: Wire, directory: str = "") -> Iterator[tuple[Entry, ...]]:
        """Yield the versions of all objects below the prefix, page by page, to the end.

        `directory` narrows it down.

        Raises Misunderstood, Unreachable, AccessRefused.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="s3-listing") as ahead:
            after: dict[str, str] | None = {}
            coming = ahead.submit(self._page, wire, directory, {})
            while after is not None:
                page = coming.result()
                if page.after is not None:
                    if page.after == after:
                        raise Misunderstood("output_unparsable", repository=self._identifier)
                    # The server lists the next while this one is gone through.
                    coming = ahead.submit(self._page, wire, directory, page.after)
                after = page.after
                yield page.entries

    def _page(self, wire: Wire, directory: str, after: Mapping[str, str]) -> Page:
        asked = {"prefix": self.place.prefix + directory, "encoding-type": "url", **after}
        status, body = wire.listing(asked)
        if status != 200:
            self._refused()
        return read_page(body, self.place.bucket, self._identifier)

    def locks(self, wire: Wire, wanted: Iterable[Wanted]) -> Iterator[Locked]:
        """Yield the lock of each object, in no order that means anything: one request each.

        Raises AccessRefused (permission) where the reader may not see retentions: an object that
        shows none is looked at twice, the first time.
        """
        rest = iter(wanted)
        seen_without = False
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-locks") as pool:
            running: list[Any] = []
            try:
                while True:
                    while len(running) < 2 * _THREADS:
                        chunk = list(islice(rest, _TOGETHER))
                        if not chunk:
                            break
                        running.append(pool.submit(self._chunk, wire, chunk))
                    if not running:
                        return
                    for asked, found in running.pop(0).result():
                        if not seen_without and found.mode == 0 and not found.missing:
                            seen_without = True
                            self._really_without(asked)
                        yield found
            finally:
                for one in running:
                    one.cancel()

    def _chunk(self, wire: Wire, chunk: list[Wanted]) -> list[tuple[Wanted, Locked]]:
        found = []
        for begin in range(0, len(chunk), _AT_ONCE):
            part = chunk[begin : begin + _AT_ONCE]
            answers = wire.heads([(key, version) for _, key, version in part])
            found += [
                (wanted, self._lock(wanted, *answer))
                for wanted, answer in zip(part, answers, strict=True)
            ]
        return found

    def _lock(self, wanted: Wanted, status: int, head: bytes) -> Locked:
        number, key, version = wanted
        if status in (404, 405):  # gone, or a delete marker
            return Locked(number, missing=True)
        if status != 200:
            self._refused(key=key, version=version)
        return read_lock(number, version, head, self._identifier)

    def _really_without(self, wanted: Wanted) -> None:
        """Raise AccessRefused unless this reader would see a retention where there is one."""
        _, key, version = wanted
        asked = {"Bucket": self.place.bucket, "Key": key}
        code, answer = self._ask(
            "get_object_retention", asked if version == "null" else {**asked, "VersionId": version}
        )
        if code is None and (answer or {}).get("Retention", {}).get("Mode"):
            raise Misunderstood("output_unparsable", repository=self._identifier)
        if code is not None and code not in _ABSENT:
            raise AccessRefused("permission", repository=self._identifier)

    def _refused(self, key: str | None = None, version: str = "null") -> None:
        """Ask once more in the way that tells why, and raise that."""
        bucket = self.place.bucket
        with s3_client.in_our_words(self._identifier):
            if key is None:
                self._client.list_object_versions(Bucket=bucket, MaxKeys=1)
            elif version == "null":
                self._client.head_object(Bucket=bucket, Key=key)
            else:
                self._client.head_object(Bucket=bucket, Key=key, VersionId=version)
        raise Unreachable("refused", repository=self._identifier)


def read_lock(number: int, version: str, head: bytes, identifier: str) -> Locked:
    """Return the lock that the header lines of an answer tell of.

    Raises Misunderstood (output_unparsable) for another version than asked for, or a date or mode
    that is none.
    """
    told = dict(_HEADERS.findall(head.lower()))
    answered = told.get(b"version-id")
    if answered and version != "null" and answered.strip() != version.lower().encode():
        raise Misunderstood("output_unparsable", repository=identifier)
    mode, until = told.get(b"object-lock-mode"), told.get(b"object-lock-retain-until-date")
    if not mode:
        held = told.get(b"object-lock-legal-hold", b"").strip() == b"on"
        return Locked(number, MODES.index("legal-hold") if held else 0)
    try:
        ends = datetime.fromisoformat((until or b"").strip().decode("ascii").upper())
        if ends.tzinfo is None:
            raise Misunderstood("output_unparsable", repository=identifier)
        return Locked(number, MODES.index(mode.strip().decode("ascii")), int(ends.timestamp()))
    except ValueError as error:
        raise Misunderstood("output_unparsable", repository=identifier) from error


def _retention(
    lock: Mapping[str, Any] | None,
    settings: dict[str, int | str | bool],
    weaknesses: list[Weakness],
) -> tuple[str | None, int | None]:
    """Return mode and length of the retention that new objects get."""
    if lock is None:
        return None, None
    found = lock.get("ObjectLockConfiguration") or {}
    settings["lock"] = found.get("ObjectLockEnabled") == "Enabled"
    if not settings["lock"]:
        weaknesses.append(Weakness(code="no_lock"))
        return None, None
    rule = (found.get("Rule") or {}).get("DefaultRetention") or {}
    days, years = rule.get("Days"), rule.get("Years")
    mode = str(rule.get("Mode") or "").lower() or None
    seconds = days * DAY_S if days else years * _YEAR_S if years else None
    if mode is None or seconds is None:
        weaknesses.append(Weakness(code="no_default_retention"))
        return None, None
    settings["mode"], settings["retention-s"] = mode, seconds
    if mode != "compliance":
        weaknesses.append(Weakness(code="governance"))
    return mode, seconds


def _versions(
    versioning: Mapping[str, Any] | None,
    settings: dict[str, int | str | bool],
    weaknesses: list[Weakness],
) -> None:
    if versioning is None:
        return
    settings["versioning"] = str(versioning.get("Status") or "none").lower()
    settings["mfa-delete"] = versioning.get("MFADelete") == "Enabled"
    if versioning.get("Status") == "Suspended":
        weaknesses.append(Weakness(code="versioning_suspended"))


def _digest(value: Any) -> str:
    """Return what tells whether a setting has changed; "none" for an empty one."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest() if value else "none"
