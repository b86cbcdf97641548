"""The daemon's port: TLS and a password, and what is known while nothing can be reached."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.certificates import Authority
from tests.integration.daemon.living import Site, stop, wait_for

#: "prometheus", by bcrypt with the cost 8.
HASH = "$2b$08$JEi2W8C1clmdlmToAg.HbuEkDZYRWecEhteOB0h06brpeDe.vDQ5a"
WEB = f"""
tls_server_config:
  cert_file: server.pem
  key_file: server.key
basic_auth_users:
  prometheus: {HASH}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


def secured(site: Site, days: int = 90) -> Authority:
    """Give the site a web-config file; return the authority of its certificate."""
    authority = Authority(site.directory)
    authority.issue("server", days=days)
    web = site.directory / "web.yml"
    web.touch(mode=0o600)
    web.write_text(WEB)
    text = site.config.read_text()
    site.config.write_text(text.replace("[http]", '[http]\nweb-config = "web.yml"'))
    return authority


def test_the_port_speaks_tls_and_asks(site: Site) -> None:
    authority = secured(site)
    site.start()
    trusting = ssl.create_default_context(cafile=str(authority.file))
    url = f"https://localhost:{site.port}"
    with pytest.raises(urllib.request.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/metrics", context=trusting, timeout=5)
    with refused.value:
        assert refused.value.code == 401
    token = base64.b64encode(b"prometheus:prometheus").decode()
    asked = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Basic {token}"})
    with urllib.request.urlopen(asked, context=trusting, timeout=5) as answer:
        text = answer.read().decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {
        "backupguard_control_status",
        "backupguard_scheduler_last_tick_timestamp_seconds",
        "backupguard_http_certificate_expiry_timestamp_seconds",
    } <= names
    with urllib.request.urlopen(f"{url}/-/ready", context=trusting, timeout=5) as answer:
        assert answer.status == 200


def test_a_port_that_everybody_reaches_is_not_opened(site: Site) -> None:
    text = site.config.read_text()
    site.config.write_text(text.replace("127.0.0.1", "0.0.0.0"))
    assert site.start(ready=False).wait(30) == 78
    assert not site.state.exists()


def test_an_expired_certificate_is_told_and_keeps_nothing_from_starting(site: Site) -> None:
    secured(site, days=-3)
    checked = site.command("--language", "en", "config", "check")
    assert checked.returncode == 0
    assert "The certificate of the port expired on" in checked.stdout + checked.stderr
    checks = json.loads(site.command("doctor", "--json").stdout)["checks"]
    (found,) = [one for one in checks if one["check"] == "certificate"]
    assert found["state"] == "bad"


def scraped(site: Site) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(site.get("/metrics")[1])
        for sample in family.samples
        if sample.name.startswith("backupguard_")
    }


def test_after_a_restart_what_was_known_of_an_unreachable_repository_is_there(site: Site) -> None:
    process = site.start()

    def seen() -> bool:
        return any(
            number == 1
            for (name, labels), number in scraped(site).items()
            if name == "backupguard_probe_success" and ("probe", "inventory") in labels
        )

    wait_for(seen)
    before = scraped(site)
    stop(process)
    shutil.rmtree(site.dumps)
    site.start()
    after = scraped(site)  # from the first second
    assert set(before) <= set(after)
    for (name, labels), number in before.items():
        if name == "backupguard_control_status" and number == 2:
            assert after[name, labels] in (2, 3), labels
        if name == "backupguard_control_last_non_compliant_timestamp_seconds":
            assert after[name, labels] >= number, labels
