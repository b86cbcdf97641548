"""Reads a web-config file as Prometheus' own tools have it (github.com/prometheus/exporter-toolkit).

`tls_server_config` with certificate, key, authorities of clients and versions, `basic_auth_users` with
bcrypt hashes. What that format can hold and this daemon does not do is refused, never passed over.
Paths are relative to the file.
"""

from __future__ import annotations

import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Message
from backupguard.settings.problems import nearest

if TYPE_CHECKING:
    import yaml

_LIMIT = 1 << 20
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
#: The exponent of a hash's cost: below, guessing is cheap; above, a check takes seconds.
_COSTS = range(8, 16)

_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
#: Take a certificate without looking who signed it.
_ANY_CLIENT = frozenset({"RequestClientCert", "RequireAnyClientCert"})
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

_FILES = ("cert_file", "key_file", "client_ca_file")
_KNOWN = {
    "": frozenset({"tls_server_config", "basic_auth_users", "http_server_config"}),
    "tls_server_config": frozenset(
        {*_FILES, "client_auth_type", "min_version", "max_version", "prefer_server_cipher_suites"}
    ),
    "http_server_config": frozenset({"http2"}),
}
_NOT_DONE = frozenset(
    {
        "cert", "key", "client_ca", "client_allowed_sans", "cipher_suites", "curve_preferences",
        "headers", "rate_limit",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """What a web-config file says: `users` are bcrypt hashes; `expires_at` is the certificate's."""

    file: Path
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    clients: ssl.VerifyMode = ssl.CERT_NONE
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    users: Mapping[str, bytes] = field(default_factory=dict)
    expires_at: datetime | None = None

    @property
    def secured(self) -> bool:
        """Tell whether whoever reads is encrypted, and has to say who they are."""
        known = bool(self.users) or self.clients is ssl.CERT_REQUIRED
        return self.certificate is not None and known

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that it is made of."""
        places = (self.file, self.certificate, self.key, self.client_ca)
        return tuple(place for place in places if place is not None)

    def context(self) -> ssl.SSLContext | None:
        """Return what new connections are made with, None without TLS.

        Raises OSError (ssl.SSLError included) and ValueError for files that cannot be used.
        """
        if self.certificate is None:
            return None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version, made.maximum_version = self.minimum, self.maximum
        made.set_alpn_protocols(["http/1.1"])
        # a key that wants a passphrase is refused: nobody is there to type one
        made.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        if self.client_ca is not None:
            made.load_verify_locations(self.client_ca)
        made.verify_mode = self.clients
        return made


def read(file: Path) -> WebConfig:
    """Read a file and what it names; raises ConfigurationError with every problem and its line."""
    reader = _Reader(file)
    found = reader.read()
    if reader.problems or found is None:
        raise ConfigurationError(reader.problems)
    return found


class _Reader:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[ConfigurationProblem] = []

    def _wrong(
        self,
        node: yaml.Node | None,
        where: str,
        message: str,
        remedy: str = "",
        **values: int | str,
    ) -> None:
        problem = ConfigurationProblem(
            file=str(self.file),
            line=node.start_mark.line + 1 if node is not None else None,
            column=node.start_mark.column + 1 if node is not None else None,
            key=where,
            message=Message(id=message, values=values),
            remedy=Message(id=remedy, values={"place": str(self.file)}) if remedy else None,
        )
        self.problems.append(problem)

    def read(self) -> WebConfig | None:
        root = self._root()
        if root is None:
            return WebConfig(file=self.file) if not self.problems else None
        tables = self._table(root, "")
        self._table(tables.get("http_server_config"), "http_server_config")
        users = self._users(tables.get("basic_auth_users"))
        found = self._tls(tables.get("tls_server_config"), users)
        return None if self.problems else found

    def _root(self) -> yaml.Node | None:
        import yaml

        try:
            text = self.file.read_bytes()[:_LIMIT].decode()
            mode = stat.S_IMODE(self.file.stat().st_mode)
            if mode & 0o007:
                values = {"place": str(self.file), "mode": f"{mode:04o}"}
                self._wrong(None, "", "settings.secret-readable", "remedy.http-readable", **values)
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except FileNotFoundError:
            self._wrong(None, "", "settings.no-file")
        except OSError as error:
            self._wrong(None, "", "settings.unreadable", why=error.strerror or "")
        except UnicodeDecodeError:
            self._wrong(None, "", "settings.not-utf8")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            why = getattr(error, "problem", None) or "YAML"
            at = yaml.ScalarNode("", "", start_mark=mark) if mark is not None else None
            self._wrong(at, "", "settings.http.syntax", why=str(why))
        return None

    def _table(self, node: yaml.Node | None, name: str) -> dict[str, yaml.Node]:
        """Return the values of a table by their keys; unknown and doubled ones are reported."""
        import yaml

        if node is None or _is_empty(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            values = {"found": "…", "expected": "@settings.expected.table"}
            self._wrong(node, name, "settings.wrong-type", **values)
            return {}
        found: dict[str, yaml.Node] = {}
        known = _KNOWN.get(name)
        for key, value in node.value:
            word = str(key.value)
            path = f"{name}.{word}" if name else word
            if word in found:
                place = f"{self.file}:{found[word].start_mark.line + 1}"
                self._wrong(key, path, "settings.twice", place=place)
            elif known is not None and word in _NOT_DONE:
                self._wrong(key, path, "settings.http.not-done", key=word)
            elif known is not None and word not in known:
                meant = nearest(word, known)
                self._wrong(key, path, "settings.unknown-key", key=word)
                if meant is not None:
                    self._hint(meant)
            else:
                found[word] = value
        return found

    def _hint(self, meant: str) -> None:
        last = self.problems.pop()
        remedy = Message(id="remedy.meant", values={"meant": meant})
        self.problems.append(
            ConfigurationProblem(
                file=last.file,
                line=last.line,
                column=last.column,
                key=last.key,
                message=last.message,
                remedy=remedy,
            )
        )

    def _users(self, node: yaml.Node | None) -> dict[str, bytes]:
        users: dict[str, bytes] = {}
        for name, value in self._table(node, "basic_auth_users").items():
            key = f"basic_auth_users.{name}"
            known = _HASH.match(str(value.value))
            if known is None:
                self._wrong(value, key, "settings.http.bad-hash", "remedy.http-hash", user=name)
            elif int(known[1]) not in _COSTS:
                self._wrong(
                    value,
                    key,
                    "settings.http.hash-cost",
                    "remedy.http-hash",
                    user=name,
                    cost=int(known[1]),
                    least=_COSTS.start,
                    most=_COSTS.stop - 1,
                )
            elif not name or ":" in name:
                self._wrong(value, key, "settings.http.bad-user")
            else:
                users[name] = known[0].encode()
        return users

    def _tls(self, node: yaml.Node | None, users: dict[str, bytes]) -> WebConfig:
        found = {
            k: v for k, v in self._table(node, "tls_server_config").items() if not _is_empty(v)
        }
        places = {name: self._place(found[name]) for name in _FILES if name in found}
        certificate, key = places.get("cert_file"), places.get("key_file")
        if node is not None and found and (certificate is None or key is None):
            self._wrong(node, "tls_server_config", "settings.http.no-pair")
        kind = self._choice(found, "client_auth_type", list(_CLIENTS))
        made = WebConfig(
            file=self.file,
            certificate=certificate,
            key=key,
            client_ca=places.get("client_ca_file"),
            clients=_CLIENTS.get(kind or "", ssl.CERT_NONE),
            minimum=_VERSIONS[self._choice(found, "min_version", list(_VERSIONS)) or "TLS12"],
            maximum=_VERSIONS[self._choice(found, "max_version", list(_VERSIONS)) or "TLS13"],
            users=users,
        )
        if made.clients is not ssl.CERT_NONE and made.client_ca is None:
            values = {"found": kind or ""}
            self._wrong(
                found["client_auth_type"],
                "tls_server_config.client_auth_type",
                "settings.http.no-ca",
                **values,
            )
        self._readable(found)
        return self._usable(made, found["cert_file"]) if not self.problems and certificate else made

    def _place(self, node: yaml.Node) -> Path:
        return self.file.parent / str(node.value)

    def _choice(self, found: Mapping[str, yaml.Node], key: str, known: list[str]) -> str | None:
        node = found.get(key)
        if node is None:
            return None
        if node.value in known:
            return str(node.value)
        path = f"tls_server_config.{key}"
        if node.value in _ANY_CLIENT:
            self._wrong(node, path, "settings.http.any-client", found=str(node.value))
        else:
            values = {"found": f'"{str(node.value)[:40]}"', "expected": ", ".join(known)}
            self._wrong(node, path, "settings.not-one-of", **values)
        return None

    def _readable(self, found: Mapping[str, yaml.Node]) -> None:
        """Report files that cannot be read, and a key that others can read."""
        for name in _FILES:
            place = self._place(found[name]) if name in found else None
            if place is None:
                continue
            path = f"tls_server_config.{name}"
            try:
                with place.open("rb"):
                    mode = stat.S_IMODE(place.stat().st_mode)
            except OSError as error:
                values = {"why": f"{place}: {error.strerror}"}
                self._wrong(found[name], path, "settings.unreadable", **values)
                continue
            if name == "key_file" and mode & 0o007:
                values = {"place": str(place), "mode": f"{mode:04o}"}
                self._wrong(
                    found[name], path, "settings.secret-readable", "remedy.http-readable", **values
                )

    def _usable(self, made: WebConfig, at: yaml.Node) -> WebConfig:
        """Try what the files hold together; return it with the certificate's end."""
        try:
            made.context()
            return _with_end(made)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or str(error) or type(error).__name__
            self._wrong(at, "tls_server_config", "settings.http.unusable", why=str(why))
        return made


def _is_empty(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null" or node.value == ""


def _with_end(made: WebConfig) -> WebConfig:
    from dataclasses import replace

    from cryptography import x509

    assert made.certificate is not None
    first = x509.load_pem_x509_certificates(made.certificate.read_bytes())[0]
    return replace(made, expires_at=first.not_valid_after_utc)
