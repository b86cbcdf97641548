"""The web-config file: what it says, and where each mistake stands."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupguard.errors import ConfigurationError
from backupguard.settings import load
from backupguard.settings.http import is_loopback
from backupguard.settings.web_config import WebConfig, read
from tests.certificates import Authority

#: "prometheus", by bcrypt with the cost 8.
HASH = "$2b$08$JEi2W8C1clmdlmToAg.HbuEkDZYRWecEhteOB0h06brpeDe.vDQ5a"
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web")
    authority = Authority(directory)
    authority.issue("server")
    authority.issue("other")
    authority.issue("old", days=-2)
    (directory / "shown.key").write_bytes((directory / "server.key").read_bytes())
    (directory / "shown.key").chmod(0o644)
    (directory / "nonsense.pem").write_text("nothing")
    return directory


def written(place: Path, text: str) -> Path:
    file = place / "web.yml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o640)
    return file


def config(place: Path, text: str) -> WebConfig:
    return read(written(place, text))


def test_what_it_says(place: Path) -> None:
    found = config(
        place,
        TLS
        + '  client_auth_type: "RequireAndVerifyClientCert"\n  client_ca_file: authority.pem\n'
        + "  min_version: TLS13\n"
        + USERS
        + "http_server_config:\n  http2: true\n",
    )
    assert found.certificate == place / "server.pem"
    assert found.clients is ssl.CERT_REQUIRED
    assert found.minimum is ssl.TLSVersion.TLSv1_3
    assert found.users == {"prometheus": HASH.encode()}
    assert found.expires_at is not None
    assert found.secured
    context = found.context()
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("text", "secured"),
    [
        ("", False),
        (USERS, False),  # passwords in clear text
        (TLS, False),
        (TLS + USERS, True),
        (
            TLS + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: authority.pem",
            False,
        ),
        (TLS + "  client_auth_type: NoClientCert\n  client_ca_file:\n" + USERS, True),
        (
            TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.pem",
            True,
        ),
    ],
    ids=["empty", "users", "tls", "both", "if-given", "no-client", "clients"],
)
def test_who_has_to_say_who_they_are(place: Path, text: str, secured: bool) -> None:
    assert config(place, text).secured is secured


MISTAKES = {
    "no yaml": ("a: [1\nb", 2, "settings.http.syntax"),
    "a list": ("- a\n", 1, "settings.wrong-type"),
    "unknown": ("tls_server_confg: {}\n", 1, "settings.unknown-key"),
    "unknown below": (TLS + "  cert-file: x\n", 4, "settings.unknown-key"),
    "twice": (USERS + "basic_auth_users: {}\n", 3, "settings.twice"),
    "not done": (TLS + "  client_allowed_sans: [a]\n", 4, "settings.http.not-done"),
    "headers": ("http_server_config:\n  headers: {}\n", 2, "settings.http.not-done"),
    "no key": ("tls_server_config:\n  cert_file: server.pem\n", 2, "settings.http.no-pair"),
    "absent": (TLS.replace("server.pem", "none.pem"), 2, "settings.unreadable"),
    "other key": (TLS.replace("server.key", "other.key"), 2, "settings.http.unusable"),
    "no certificate": (TLS.replace("server.pem", "nonsense.pem"), 2, "settings.http.unusable"),
    "shown key": (TLS.replace("server.key", "shown.key"), 3, "settings.secret-readable"),
    "any client": (
        TLS + "  client_auth_type: RequireAnyClientCert\n", 4, "settings.http.any-client",
    ),
    "no authority": (
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n", 4, "settings.http.no-ca",
    ),
    "version": (TLS + "  min_version: TLS10\n", 4, "settings.not-one-of"),
    "no hash": ("basic_auth_users:\n  ops: secret\n", 2, "settings.http.bad-hash"),
    "nothing": ("basic_auth_users:\n  ops:\n", 2, "settings.http.bad-hash"),
    "a table": ("basic_auth_users:\n  ops: {a: b}\n", 2, "settings.http.bad-hash"),
    "cheap": (USERS.replace("$08$", "$04$"), 2, "settings.http.hash-cost"),
    "dear": (USERS.replace("$08$", "$31$"), 2, "settings.http.hash-cost"),
    "colon": (USERS.replace("prometheus", '"a:b"'), 2, "settings.http.bad-user"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_a_mistake_is_told_with_its_line(place: Path, name: str) -> None:
    text, line, message = MISTAKES[name]
    with pytest.raises(ConfigurationError) as wrong:
        config(place, text)
    found = [(one.line, one.message.id) for one in wrong.value.problems]
    assert (line, message) in found
    assert len(found) == 1
    assert "secret" not in str(wrong.value.problems[0].message.values)


def test_every_mistake_is_told_at_once(place: Path) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        config(place, "basic_auth_users:\n  ops: x\n" + TLS.replace("server.pem", "none.pem"))
    assert [one.line for one in wrong.value.problems] == [2, 4]


def test_a_file_that_everybody_can_read_is_refused(place: Path) -> None:
    file = written(place, USERS)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError) as wrong:
        read(file)
    assert wrong.value.problems[0].message.id == "settings.secret-readable"
    with pytest.raises(ConfigurationError) as wrong:
        read(place / "none.yml")
    assert wrong.value.problems[0].message.id == "settings.no-file"


@pytest.mark.parametrize(
    ("listen", "alone"),
    [
        ("127.0.0.1:1", True), ("127.8.0.1:1", True), ("[::1]:1", True), ("localhost:1", True),
        ("0.0.0.0:1", False), ("[::]:1", False), ("10.1.2.3:1", False), ("srv:1", False),
    ],
    ids=str,
)  # fmt: skip
def test_what_others_can_reach(listen: str, alone: bool) -> None:
    assert is_loopback(listen) is alone


def problems(place: Path, http: str) -> list[tuple[str, str, int | None]]:
    file = place / "backupguard.toml"
    file.write_text(f'[site]\nname = "CH"\n[http]\n{http}\n', encoding="utf-8")
    try:
        load(file, environ={})
    except ConfigurationError as wrong:
        return [(Path(one.file).name, one.message.id, one.line) for one in wrong.problems]
    return []


def test_a_port_that_others_reach_needs_tls_and_names(place: Path) -> None:
    open_port = [("backupguard.toml", "settings.http.open", 4)]
    assert problems(place, 'listen = "0.0.0.0:9789"') == open_port
    file = 'listen = "0.0.0.0:9789"\nweb-config = "web.yml"'
    written(place, USERS)
    assert problems(place, file) == open_port
    written(place, TLS)
    assert problems(place, file) == open_port
    written(place, TLS + USERS)
    assert problems(place, file) == []
    proxy = 'listen = "[::]:9789"\nproxy.addresses = ["10.1.2.0/24"]'
    assert problems(place, proxy) == []


def test_mistakes_in_both_files_are_told_together(place: Path) -> None:
    written(place, "basic_auth_users:\n  ops: x\n")
    told = problems(place, 'web-config = "web.yml"\nproxy.addresses = ["x", "0.0.0.0/0"]')
    assert told == [
        ("backupguard.toml", "settings.http.no-address", 5),
        ("backupguard.toml", "settings.http.proxy-everywhere", 5),
        ("web.yml", "settings.http.bad-hash", 2),
    ]


def test_an_expired_certificate_can_be_used_and_is_known(place: Path) -> None:
    """The daemon must start: what it watches matters more than its port."""
    found = config(place, TLS.replace("server.", "old."))
    assert found.expires_at is not None
    assert found.expires_at < datetime.now(UTC)
