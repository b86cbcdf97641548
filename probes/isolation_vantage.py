#!/usr/bin/env python3
"""backupguard-vantage: tries, from a host in production, the ports that must not answer from there.

One file, Python 3.7 or later, the standard library and nothing else: copy it to the host, run it by a
timer. It opens each port, sends nothing, closes at once, and posts what it saw to BackupGuard, signed
with a key of its own. What cannot be sent is kept until it is too old to prove anything. BackupGuard
looks from its own host with the same code.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import hmac
import http.client
import json
import os
import queue
import secrets
import selectors
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

EXIT_DONE, EXIT_NOT_SENT, EXIT_CONFIGURATION = 0, 2, 78

#: What is signed: this, then the body.
SIGNED = b"backupguard-vantage-1\0"
HEADER_VANTAGE = "x-backupguard-vantage"
HEADER_SIGNATURE = "x-backupguard-signature"
KEY_BYTES = 32  # a shorter key is refused
ADDRESSES_LIMIT = 16  # of one name; what is beyond is said to be untried
AT_ONCE = 64  # connections that are being tried
RESOLVE_S = 10.0  # for all names together
#: A lost packet must not look like a wall: Linux sends the first again after one second, and three.
CONNECT_S = 4.0
SEND_S = 20.0
ANSWER_LIMIT = 4096
SPOOL_LIMIT = 200
_FUTURE_US = 600 * 1000000

_FAMILIES = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)

Place = Any  # (family, sockaddr)


class Wrong(Exception):
    """The configuration or the key cannot be used; its text says why, without any secret."""


def now_us() -> int:
    """Return the time in microseconds since 1970."""
    return int(time.time() * 1000000)


# ------------------------------------------------------------------------------------- the look


def split_place(text: str) -> tuple[str, int]:
    """Given "HOST:PORT", also "[ADDRESS]:PORT", return both; raise Wrong."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Wrong(f"{text!r} is not HOST:PORT")
    return host, int(port)


def resolve(names: Sequence[str], seconds: float = RESOLVE_S) -> dict[str, list[Place]]:
    """Return every address of each name, [] for a name that has none or does not answer in time."""
    found: dict[str, list[Place]] = {name: [] for name in names}
    wanted: queue.Queue[str] = queue.Queue()
    for name in found:
        wanted.put(name)

    def work() -> None:
        while True:
            try:
                name = wanted.get_nowait()
            except queue.Empty:
                return
            found[name] = _addresses(name)

    # A resolver may hang for minutes: nobody waits for its thread, not even the end of the program.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(16, len(found)))]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {name: list(places) for name, places in found.items()}


def _addresses(name: str) -> list[Place]:
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    places = ((family, address) for family, _, _, _, address in found if family in _FAMILIES)
    return list(dict.fromkeys(places))


def connect(
    places: Sequence[Place],
    seconds: float = CONNECT_S,
    stopped: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Try to connect to each (family, address); return what came of it, in the same order.

    "open": it answered. "refused": a reset came back, from the host or from a firewall in its name.
    "filtered": no answer within `seconds`. "unreachable": the network says there is no way.
    "untried": this host itself would not, or could not; that proves nothing.
    """
    outcomes = ["untried"] * len(places)
    waiting = list(range(len(places)))[::-1]
    ends: dict[int, float] = {}
    with selectors.DefaultSelector() as selector:
        while (waiting or ends) and not stopped():
            while waiting and len(ends) < AT_ONCE:
                number = waiting.pop()
                begun = _begin(places[number])
                if isinstance(begun, str):
                    outcomes[number] = begun
                    continue
                selector.register(begun, selectors.EVENT_WRITE, number)
                ends[number] = time.monotonic() + seconds
            if not ends:
                continue
            first = min(ends.values()) - time.monotonic()
            for key, _ in selector.select(min(0.5, max(0.0, first))):
                sock: Any = key.fileobj
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                outcomes[key.data] = _outcome(error, places[key.data][0])
                _end(selector, sock, ends, key.data)
            late = time.monotonic()
            for key in list(selector.get_map().values()):
                if ends[key.data] <= late:
                    outcomes[key.data] = "filtered"
                    _end(selector, key.fileobj, ends, key.data)
        for key in list(selector.get_map().values()):  # stopped: nothing is known of these
            _end(selector, key.fileobj, ends, key.data)
    return outcomes


def _begin(place: Place) -> Any:
    """Return a socket that is connecting, or at once what came of it."""
    family, address = place
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return "unreachable" if error.errno == errno.EAFNOSUPPORT else "untried"
    sock.setblocking(False)
    try:
        code = sock.connect_ex(address)
    except (OSError, OverflowError):
        sock.close()
        return "untried"
    if code in (errno.EINPROGRESS, errno.EAGAIN):
        return sock
    sock.close()
    return _outcome(code, family)


def _outcome(code: int, family: int) -> str:
    if code in (0, errno.ECONNRESET):  # a reset after the handshake: somebody was there
        return "open"
    if code == errno.ECONNREFUSED:
        return "refused"
    # Linux says EACCES where a router answers "administratively prohibited" over IPv6.
    if code == errno.ETIMEDOUT or (code == errno.EACCES and family == socket.AF_INET6):
        return "filtered"
    return "unreachable" if code in _UNREACHABLE else "untried"


def _end(selector: Any, sock: Any, ends: dict[int, float], number: int) -> None:
    selector.unregister(sock)
    sock.close()
    del ends[number]


def look(
    wanted: Sequence[tuple[str, str, int]],
    witness: str | None,
    seconds: float = CONNECT_S,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Try every (target, name, port) between two looks at the witness ("HOST:PORT").

    Return `families` over which the witness answered both times ([]: nothing closed is proved), when
    it began and ended, and a row per address and port.
    """
    began = now_us()
    before = _answering(witness, seconds, stopped)
    known = resolve(sorted({name for _, name, _ in wanted}))
    rows: list[dict[str, Any]] = []
    places: list[Place] = []
    numbers: list[int] = []
    for target, name, port in wanted:
        row = {"target": target, "name": name, "address": None, "family": None, "port": port}
        if not known[name]:
            rows.append(dict(row, outcome="unresolved"))
            continue
        for family, address in known[name][:ADDRESSES_LIMIT]:
            numbers.append(len(rows))
            places.append((family, (address[0], port, *address[2:])))
            plain = str(address[0]).partition("%")[0]
            rows.append(dict(row, address=plain, family=_FAMILIES[family]))
        if len(known[name]) > ADDRESSES_LIMIT:
            rows.append(dict(row, outcome="untried"))
    for number, outcome in zip(numbers, connect(places, seconds, stopped)):
        rows[number]["outcome"] = outcome
    families = before & _answering(witness, seconds, stopped) if before else before
    return {
        "families": sorted(families),
        "began_at": began,
        "ended_at": max(began, now_us()),
        "rows": rows,
    }


def _answering(witness: str | None, seconds: float, stopped: Callable[[], bool]) -> set[str]:
    """Return the families over which the witness answers."""
    if witness is None:
        return set()
    host, port = split_place(witness)
    places = [
        (family, (address[0], port, *address[2:]))
        for family, address in resolve([host])[host][:ADDRESSES_LIMIT]
    ]
    outcomes = connect(places, seconds, stopped)
    return {_FAMILIES[place[0]] for place, came in zip(places, outcomes) if came == "open"}


# ---------------------------------------------------------------------------------- what it is told


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration that `backupguard vantage config ID` printed; raise Wrong."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Wrong(f"{path}: {error.strerror}") from None
    except ValueError:
        raise Wrong(f"{path}: not JSON") from None
    if not isinstance(found, dict) or found.get("version") != 1:
        raise Wrong(f"{path}: not a configuration of this version")
    texts = ("vantage", "url", "witness", "key-file")
    missing = [key for key in texts if not isinstance(found.get(key), str)]
    if missing or not isinstance(found.get("targets"), dict):
        absent = ", ".join(missing) or "targets"
        raise Wrong(f"{path}: {absent} missing")
    if (
        urlsplit(found["url"]).scheme not in ("http", "https")
        or not urlsplit(found["url"]).hostname
    ):
        raise Wrong(f"{path}: url is neither http:// nor https://")
    split_place(found["witness"])
    return found


def wanted_of(config: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return what is to be tried: (target, name, port); raise Wrong."""
    try:
        return [
            (str(target), str(host), int(port))
            for target, one in sorted(config["targets"].items())
            for host in one["hosts"]
            for port in one["ports"]
        ]
    except (KeyError, TypeError, ValueError):
        raise Wrong("targets: not TARGET: {hosts: [...], ports: [...]}") from None


def read_key(path: Path) -> bytes:
    """Return the key. Raise Wrong where others could read or replace it, or it is too short."""
    try:
        handle = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Wrong(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        # systemd grants access to a credential by an access list, whose mask shows as group rights.
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        forbidden = 0o007 if given and Path(given) == path.parent else 0o077
        if not stat.S_ISREG(status.st_mode):
            raise Wrong(f"{path}: not a file")
        if status.st_mode & forbidden:
            raise Wrong(f"{path}: others may read it; chmod 600 {path}")
        if status.st_uid not in (0, os.geteuid()):
            raise Wrong(f"{path}: belongs to somebody else")
        key = os.read(handle, 4096).rstrip(b"\r\n")
    finally:
        os.close(handle)
    if len(key) < KEY_BYTES:
        raise Wrong(f"{path}: fewer than {KEY_BYTES} characters")
    return key


# ------------------------------------------------------------------------------------- the report


def signature(key: bytes, body: bytes) -> str:
    """Return the HMAC-SHA256 of a body, in hexadecimal."""
    return hmac.new(key, SIGNED + body, hashlib.sha256).hexdigest()


def body_of(vantage: str, witness: str, seen: dict[str, Any]) -> bytes:
    """Return the bytes of a report: what was seen, whose it is, when it is sent."""
    report = dict(seen, version=1, vantage=vantage, witness=witness)
    report.update(sent_at=now_us(), nonce=secrets.token_hex(16))
    return json.dumps(report, sort_keys=True, separators=(",", ":")).encode()


def send(url: str, vantage: str, key: bytes, body: bytes, ca: str | None = None) -> int:
    """Post a report; return the status. Raises OSError and http.client.HTTPException."""
    parts = urlsplit(url)
    host = str(parts.hostname)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(host, parts.port, timeout=SEND_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=SEND_S)
    headers = {
        HEADER_VANTAGE: vantage,
        HEADER_SIGNATURE: signature(key, body),
        "content-type": "application/json",
        "connection": "close",
    }
    try:
        connection.request("POST", parts.path or "/", body, headers)
        answer = connection.getresponse()
        answer.read(ANSWER_LIMIT)
        return answer.status
    finally:
        connection.close()


class Spool:
    """What was seen and not yet taken, oldest first; nothing is kept beyond its age."""

    def __init__(self, directory: Path, max_age_s: int) -> None:
        self.directory = directory
        self.max_age_us = max_age_s * 1000000

    def sequence(self) -> int:
        """Return a number above every one before; a clock that was far ahead is forgotten."""
        place, now = self.directory / "sequence", now_us()
        try:
            last = int(place.read_text(encoding="ascii"))
        except (OSError, ValueError):
            last = 0
        number = now if last > now + _FUTURE_US else max(now, last + 1)
        self._write(place, str(number))
        return number

    def add(self, seen: dict[str, Any]) -> None:
        """Keep what was seen."""
        self._write(self.directory / f"{seen['sequence']:020d}.json", json.dumps(seen))

    def waiting(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield what is not too old to prove anything; remove the rest."""
        oldest = now_us() - self.max_age_us
        files = sorted(self.directory.glob("[0-9]*.json"))
        for number, place in enumerate(files):
            try:
                seen = json.loads(place.read_text(encoding="utf-8"))
                kept = (
                    isinstance(seen, dict) and oldest <= seen["ended_at"] <= now_us() + _FUTURE_US
                )
            except (OSError, ValueError, KeyError, TypeError):
                kept = False
            if kept and len(files) - number <= SPOOL_LIMIT:
                yield place, seen
            else:
                place.unlink()

    def _write(self, place: Path, text: str) -> None:
        half = place.with_name("." + place.name)
        half.write_text(text, encoding="utf-8")
        half.replace(place)


#: Answers after which a report is not sent again: it will never be taken.
_FINAL = (400, 409, 413, 422)
_MEANING = {
    401: "not taken: this vantage or its key is not known there",
    404: "not taken: nothing takes reports there",
    409: "not taken: newer ones were, or what is to be tried has changed; fetch the configuration",
    422: "not taken: its times cannot be; look at both clocks",
}


def deliver(config: dict[str, Any], key: bytes, spool: Spool) -> bool:
    """Send what waits, oldest first; tell whether the newest was taken."""
    taken = False
    for place, seen in spool.waiting():
        body = body_of(config["vantage"], config["witness"], seen)
        try:
            status = send(config["url"], config["vantage"], key, body, config.get("ca-file"))
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            _say(f"not sent: {why}")
            return False
        taken = status in (200, 201)
        if not taken:
            _say(_MEANING.get(status, f"not taken: HTTP {status}"))
        if taken or status in _FINAL:
            place.unlink()
        else:
            return False
    return taken


def _say(line: str) -> None:
    print("backupguard-vantage: " + line, flush=True)


def _summary(seen: dict[str, Any]) -> str:
    outcomes = [row["outcome"] for row in seen["rows"]]
    counts = ", ".join(f"{one} {outcomes.count(one)}" for one in sorted(set(outcomes)))
    witness = "answers over " + ", ".join(seen["families"]) if seen["families"] else "is silent"
    told = counts or "nothing to try"
    return f"{told}; witness {witness}"


def run(arguments: Sequence[str] | None = None) -> int:
    """Look once and send; return the exit code: 0 taken, 2 not sent, 78 configuration."""
    parser = argparse.ArgumentParser(prog="backupguard-vantage", description=str(__doc__))
    parser.add_argument("--config", type=Path, default=Path("/etc/backupguard-vantage/config.json"))
    parser.add_argument("--key", type=Path, help="the key, instead of the configured file")
    parser.add_argument("--state", type=Path, help="where what was not sent is kept")
    parser.add_argument("--show", action="store_true", help="print what is seen; send nothing")
    given = parser.parse_args(arguments)
    try:
        config = read_config(given.config)
        wanted = wanted_of(config)
        if given.show:
            print(json.dumps(look(wanted, config["witness"]), indent=2))
            return EXIT_DONE
        key = read_key(given.key or Path(config["key-file"]))
        state = given.state or Path(
            os.environ.get("STATE_DIRECTORY", "/var/lib/backupguard-vantage")
        )
        if not state.is_dir():
            raise Wrong(f"{state}: no such directory")
    except Wrong as wrong:
        _say(str(wrong))
        return EXIT_CONFIGURATION
    spool = Spool(state, int(config.get("max-age-s", 86400)))
    try:
        sequence = spool.sequence()
        seen = dict(look(wanted, config["witness"]), sequence=sequence)
        _say(_summary(seen))
        spool.add(seen)
        return EXIT_DONE if deliver(config, key, spool) else EXIT_NOT_SENT
    except OSError as error:
        _say(f"{state}: {error.strerror}")
        return EXIT_NOT_SENT


if __name__ == "__main__":
    sys.exit(run())
