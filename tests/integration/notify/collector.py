"""A real rsyslog that takes syslog over TLS, and the authority that it and its clients believe."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.integration.daemon.living import free_port, wait_for

_CONFIGURATION = """
global(
  workDirectory="{directory}"
  maxMessageSize="8k"
  defaultNetstreamDriver="{driver}"
  defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{certificate}"
  defaultNetstreamDriverKeyFile="{key}"
)
module(load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1"
       streamDriver.authMode="{mode}")
template(name="line" type="string"
         string="%pri% %protocol-version% %hostname% %app-name% %msgid% %msg%\\n")
ruleset(name="soc") {{ action(type="omfile" file="{out}" template="line") }}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="soc")
"""


class Authority:
    """Signs certificates for one test session."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Belle-Rive CA")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = directory / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        )
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key()
            )
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        files[1].chmod(0o600)
        return files


class Collector:
    """rsyslogd in the foreground, with a configuration of its own; may be killed and started again."""

    def __init__(
        self, directory: Path, authority: Authority, driver: str = "gtls", mode: str = "anon"
    ) -> None:
        self.directory = directory
        self.authority = authority
        self.port = free_port()
        self.out = directory / "events"
        certificate, key = authority.issue(f"collector-{self.port}")
        self._configuration = directory / "rsyslog.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                directory=directory,
                driver=driver,
                mode=mode,
                ca=authority.file,
                certificate=certificate,
                key=key,
                out=self.out,
                port=self.port,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin")
        if program is None:
            pytest.fail("rsyslogd is missing; run script/install-programs")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-n", "-C", "-f", self._configuration, "-i", self.directory / "pid"],
                stdout=log,
                stderr=log,
            )
        wait_for(self._listens)

    def _listens(self) -> bool:
        wanted = f":{self.port:04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return any(row.split()[1].endswith(wanted) and row.split()[3] == "0A" for row in lines)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self.directory / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def lines(self) -> list[list[str]]:
        """Return PRI, version, host, program, MSGID and text of everything it has written."""
        if not self.out.exists():
            return []
        return [row.split(" ", 5) for row in self.out.read_text().splitlines()]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(row[5]) for row in self.lines()]

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Return its events once there are so many; it must stay at that."""
        wait_for(lambda: len(self.lines()) >= count)
        time.sleep(0.2)
        return self.events()


def ids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["event.id"] for event in events]
