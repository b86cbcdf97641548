"""The daemon itself mails what is wrong, from the reload on that says to whom."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.integration.daemon.living import Site, stop, wait_for
from tests.integration.notify.relay import serving

MORE = """
[applications.orphan]
name = "Sans sauvegarde"
criticality = "C1"
[notify.mail]
host = "localhost"
port = {port}
security = "none"
from = "backupguard@ch.example"
to = ["dsi@ch.example"]
alive = "0 7 * * *"
"""


def test_what_is_wrong_is_mailed_once_it_is_said_to_whom(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        with serving(tmp_path, "none") as relay:
            process = site.start()
            site.write(MORE.format(port=relay.port))
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: len(relay.mails) >= 2)
            assert stop(process) == 0
        subjects = sorted(str(mail["Subject"]) for mail in relay.mails)
        assert len([one for one in subjects if "la surveillance fonctionne" in one]) == 1
        assert [one for one in subjects if "Couverture des applications critiques" in one]
        assert len(site.facts("notice.due")) == len(relay.mails)
    finally:
        site.end()
