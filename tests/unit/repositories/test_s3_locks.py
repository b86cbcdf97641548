"""The parts of looking at locks that need no server: signatures, pages, headers, policies, sums."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from backupguard.errors import Misunderstood
from backupguard.processes import Cancellation
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.repositories.s3_ledger import BELIEVED_S, COMPLIANCE, Entry, Ledger, Locked
from backupguard.repositories.s3_listing import read_page
from backupguard.repositories.s3_locks import read_lock
from backupguard.repositories.s3_places import place_of_restic
from backupguard.repositories.s3_policy import bypass_holders, early_rules
from backupguard.repositories.s3_wire import Signer, Wire

NOW = 1_800_000_000
DAY = 86_400
AT = datetime(2026, 3, 22, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize("key", ["a/b.dump", "été +&=?#%/x y~z", "data/00/" + "0" * 64])
@pytest.mark.parametrize("token", [None, "session-token"])
def test_a_signature_is_what_botocore_makes_of_the_same_request(
    key: str, token: str | None
) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    path, query = "/bucket/" + quote(key, safe="/-_.~"), "versionId=abc"
    moment = "20260322T100000Z"
    signer = Signer("access", "private", token, "eu-west-3", "s3.example.org:8333")
    ours = signer.headers("HEAD", path, query, moment, signer.key("20260322"))
    request = AWSRequest("HEAD", f"http://s3.example.org:8333{path}?{query}")
    request.context["timestamp"] = moment
    request.context["payload_signing_enabled"] = True
    theirs = S3SigV4Auth(Credentials("access", "private", token), "s3", "eu-west-3")
    request.headers["X-Amz-Content-SHA256"] = theirs.payload(request)
    request.headers["X-Amz-Date"] = moment
    if token:
        request.headers["X-Amz-Security-Token"] = token
    text = theirs.string_to_sign(request, theirs.canonical_request(request))
    assert f"Signature={theirs.signature(text, request)}" in ours
    assert "private" not in repr(signer)
    assert "session-token" not in repr(signer)


PAGE = """<?xml version="1.0"?><ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Name>bucket</Name><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{next}
<Version><Key>a%20b+c</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest>
<LastModified>2026-03-22T10:00:00.000Z</LastModified></Version>
<DeleteMarker><Key>d</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest>
<LastModified>2026-03-22T10:00:00Z</LastModified></DeleteMarker></ListVersionsResult>"""


def test_a_page_is_read_to_its_end() -> None:
    after = "<NextKeyMarker>d%2Fe</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>"
    page = read_page(PAGE.format(more="true", next=after).encode(), "bucket", "cloud")
    at = int(AT.timestamp())
    assert page.entries == (
        Entry("a b c", "v1", at, latest=True, marker=False),
        Entry("d", "v2", at, latest=True, marker=True),
    )
    assert page.after == {"key-marker": "d/e", "version-id-marker": "v2"}
    assert read_page(PAGE.format(more="false", next="").encode(), "bucket", "cloud").after is None


@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "<html></html>",
            "<html",
            "<ListVersionsResult><Name>other</Name></ListVersionsResult>",
        ),
        "<ListVersionsResult><Name>bucket</Name></ListVersionsResult>",
        PAGE.format(more="true", next=""),
        PAGE.format(more="false", next="").replace("2026-03-22T", "yesterday"),
    ],
    ids=["empty", "portal", "broken", "other", "no-end", "no-marker", "no-time"],
)
def test_what_is_no_page_makes_nothing_vanish(body: str) -> None:
    with pytest.raises(Misunderstood):
        read_page(body.encode(), "bucket", "cloud")


def headers(**given: str) -> bytes:
    lines = [f"x-amz-{name.replace('_', '-')}: {value}" for name, value in given.items()]
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def test_headers_tell_the_lock() -> None:
    until = {"object_lock_retain_until_date": "2026-03-22T10:00:00.000Z"}
    for mode, number in (("COMPLIANCE", COMPLIANCE), ("GOVERNANCE", 2)):
        found = read_lock(
            1, "v1", headers(object_lock_mode=mode, version_id="v1", **until), "cloud"
        )
        assert found == Locked(1, number, int(AT.timestamp()))
    assert read_lock(1, "v1", headers(object_lock_legal_hold="ON"), "cloud") == Locked(1, 1)
    assert read_lock(1, "v1", headers(object_lock_legal_hold="OFF"), "cloud") == Locked(1, 0)
    for wrong in (
        headers(object_lock_mode="COMPLIANCE"),
        headers(object_lock_mode="STRONG", **until),
        headers(object_lock_mode="COMPLIANCE", object_lock_retain_until_date="soon"),
        headers(version_id="v2"),
    ):
        with pytest.raises(Misunderstood):
            read_lock(1, "v1", wrong, "cloud")


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Statement": list(statements)})


ALLOW = {"Effect": "Allow", "Principal": {"AWS": "writer"}, "Action": "s3:*", "Resource": "*"}
BYPASS = {**ALLOW, "Action": ["s3:GetObject", "s3:Bypass*"]}
DENY = {**ALLOW, "Effect": "Deny", "Principal": "*", "Action": "s3:BypassGovernanceRetention"}


@pytest.mark.parametrize(
    ("text", "holders"),
    [
        (policy(), ()),
        (policy({**ALLOW, "Action": "s3:GetObject"}), ()),
        (policy(ALLOW), ("writer",)),
        (policy(BYPASS), ("writer",)),
        (policy({**BYPASS, "Principal": "*"}), ("*",)),
        (policy(BYPASS, DENY), ()),
        (policy(BYPASS, {**DENY, "Principal": {"AWS": "writer"}}), ()),
        (policy(BYPASS, {**DENY, "Condition": {"Bool": {}}}), ("writer",)),
        (policy({**ALLOW, "Action": None, "NotAction": "s3:Get*"}), ("writer",)),
        (policy({**ALLOW, "Principal": None, "NotPrincipal": {"AWS": "root"}}), ("*",)),
    ],
    ids=list("abcdefghij"),
)
def test_who_may_bypass(text: str, holders: tuple[str, ...]) -> None:
    assert bypass_holders(text) == holders


def test_rules_that_expire_by_age() -> None:
    rules = [
        {"ID": "off", "Status": "Disabled", "Expiration": {"Days": 1}},
        {"ID": "tag", "Status": "Enabled", "Filter": {"Tag": {}}, "Expiration": {"Days": 1}},
        {"ID": "old", "Status": "Enabled", "Prefix": "dumps/x", "Expiration": {"Days": 9}},
        {"ID": "date", "Status": "Enabled", "Expiration": {"Date": AT}},
        {"ID": "upload", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"Days": 1}},
    ]
    assert list(early_rules(rules, "dumps/", AT)) == [("old", 9), ("date", 0)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "work", tmp_path / "kept", NOW)
    yield made
    made.close()


def fill(ledger: Ledger, count: int, unlocked: tuple[int, ...] = ()) -> None:
    """A repository of packs whose locks end in thirty days, listed a thousand at a time."""
    for begin in range(0, count, 1000):
        numbers = range(begin, min(count, begin + 1000))
        ledger.listed(Entry(f"data/{n:06}", f"v{n}", NOW, True, False) for n in numbers)
    ledger.need("snapshot", (f"data/{n:06}" for n in range(count)))
    for wanted in [list(ledger.unasked())]:
        ledger.found(
            [
                Locked(number, *((0, None) if key in bare else (COMPLIANCE, NOW + 30 * DAY)))
                for bare in [{f"data/{n:06}" for n in unlocked}]
                for number, key, _ in wanted
            ]
        )


def test_what_is_asked_for_as_it_is_listed_is_asked_for_once(ledger: Ledger) -> None:
    asked, last = [], -1
    for page in range(3):  # no answer has come yet
        ledger.listed(Entry(f"data/{page}{n}", "v", NOW, True, False) for n in range(5))
        ledger.need("snapshot", [f"data/{page}0"])
        for number, key, _ in (ledger.listed_and_unasked, ledger.unasked)[page == 2](last):
            assert number > last
            last = number
            asked.append(key)
    assert asked == [*(f"data/{page}{n}" for page in range(2) for n in range(5)), "data/20"]


def test_one_single_pack_of_ten_thousand_unlocked(ledger: Ledger) -> None:
    fill(ledger, 10_000, unlocked=(6_021,))
    found = ledger.sum("snapshot")
    assert (found.objects, found.unlocked, found.mode, found.until) == (10_000, 1, 0, None)


def test_ten_thousand_packs_all_locked(ledger: Ledger) -> None:
    fill(ledger, 10_000)
    found = ledger.sum("snapshot")
    assert (found.unlocked, found.mode, found.until) == (0, COMPLIANCE, NOW + 30 * DAY)


def test_a_lock_seen_is_a_lower_bound_for_a_while(tmp_path: Path) -> None:
    places = (tmp_path / "work", tmp_path / "kept")
    first = Ledger(*places, NOW)
    fill(first, 10, unlocked=(3,))
    first.close()
    later = Ledger(*places, NOW + DAY)
    later.listed(Entry(f"data/{n:06}", f"v{n}", NOW, True, False) for n in range(9))
    later.listed([Entry("data/000009", "overwritten", NOW + 5, True, False)])
    later.need("snapshot", (f"data/{n:06}" for n in range(10)))
    assert [key for _, key, _ in later.unasked()] == ["data/000003", "data/000009"]
    # The earliest end is asked for again before it is told.
    assert len(later.ending_first("snapshot")) == 8
    later.close()
    much_later = Ledger(*places, NOW + BELIEVED_S + 2 * DAY)
    much_later.listed([Entry("data/000000", "v0", NOW, True, False)])
    much_later.need("snapshot", ["data/000000"])
    assert len(list(much_later.unasked())) == 1
    much_later.close()


def test_what_was_remembered_may_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"no database" * 100)
    made = Ledger(tmp_path / "work", tmp_path / "kept", NOW)
    fill(made, 3)
    assert made.sum("snapshot").until == NOW + 30 * DAY
    made.close()


def test_markers_hide_and_old_versions_do_not_count(ledger: Ledger) -> None:
    ledger.listed(
        [
            Entry("data/000001", "m", NOW, True, True),
            Entry("data/000001", "v1", NOW - 9, False, False),
            Entry("data/000002", "v2", NOW, True, False),
            Entry("data/000002", "v1", NOW - 9, False, False),
        ]
    )
    assert list(ledger.names("data/")) == [
        ("data/000001", True, NOW - 9),
        ("data/000002", False, NOW),
    ]
    ledger.need("snapshot", ["data/000001", "data/000003"])
    found = ledger.sum("snapshot")
    assert (found.hidden, found.missing) == (True, 1)


@pytest.mark.parametrize(
    ("url", "endpoint", "bucket", "prefix", "region"),
    [
        ("s3:https://s3.example.org/b/p/q", "https://s3.example.org", "b", "p/q/", "us-east-1"),
        ("s3:http://127.0.0.1:8333/b", "http://127.0.0.1:8333", "b", "", "us-east-1"),
        (
            *("s3:s3.eu-west-3.amazonaws.com/b", "https://s3.eu-west-3.amazonaws.com"),
            *("b", "", "eu-west-3"),
        ),
    ],
    ids=["prefix", "port", "aws"],
)
def test_where_a_restic_repository_lies(
    url: str, endpoint: str, bucket: str, prefix: str, region: str
) -> None:
    settings = ResticSettings(type="restic", url=url, credentials={"reader": {"file": "/etc/p"}})
    place = place_of_restic(settings)
    assert place is not None
    assert (place.endpoint, place.bucket, place.prefix) == (endpoint, bucket, prefix)
    assert place.region == region


class Answers(socketserver.StreamRequestHandler):
    """Answers HEADs with their version; `last` bounds how many on one connection."""

    last = 1000
    named = True

    def handle(self) -> None:
        for _ in range(self.last):
            line = self.rfile.readline().decode()
            if not line:
                return
            while self.rfile.readline().strip():
                pass
            version = line.split("versionId=")[1].split()[0]
            type(self).asked.append(version)
            status = "404 Not Found" if version == "gone" else "200 OK"
            told = f"x-amz-version-id: {version}\r\n" if self.named else ""
            self.wfile.write(f"HTTP/1.1 {status}\r\n{told}Content-Length: 9\r\n\r\n".encode())

    asked: ClassVar[list[str]] = []


@pytest.mark.parametrize(("last", "named"), [(1000, True), (1, True), (3, True), (1000, False)])
def test_every_version_is_answered_whatever_the_server_makes_of_many_at_once(
    last: int, named: bool
) -> None:
    handler = type("Handler", (Answers,), {"last": last, "named": named, "asked": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        wire = Wire(
            base=f"http://127.0.0.1:{server.server_address[1]}/bucket",
            signer=lambda host: Signer("access", "private", None, "us-east-1", host),
            trust=None,
            timeout_s=5,
            identifier="cloud",
            cancel=Cancellation(),
        )
        wanted = [(f"key{n}", f"v{n}") for n in range(8)] + [("key", "gone"), ("key", "v9")]
        for _ in range(3):
            found = wire.heads(wanted)
            assert [status for status, _ in found] == [200] * 8 + [404, 200]
            if named:
                for (_, version), (_, head) in zip(wanted, found, strict=True):
                    assert f"x-amz-version-id: {version}".encode() in head
        wire.close()
        server.shutdown()
    if last == 1000 and named:
        assert wire.requests["HeadObject"] == len(handler.asked) <= 3 * (len(wanted) + 2)
