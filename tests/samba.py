"""Makes a small domain for the tests: provisioned once, without a controller that runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

REALM = "hopital.example"
_PYTHON = "/usr/bin/python3"
#: Sysvol's access rules need root, and nothing here looks at sysvol.
_PROVISION = """
import logging, sys
from samba.auth import system_session
from samba.dsdb import DS_DOMAIN_FUNCTION_2008_R2
from samba.provision import provision

place, realm, people = sys.argv[1], sys.argv[2], int(sys.argv[3])
logging.disable(logging.CRITICAL)
made = provision(
    logging.getLogger(), system_session(), realm=realm, domain=realm.partition(".")[0],
    serverrole="active directory domain controller", targetdir=place, adminpass="P@ssw0rd-1234",
    hostname="dc1", hostip="127.0.0.1", dns_backend="NONE", skip_sysvolacl=True,
    dom_for_fun_level=DS_DOMAIN_FUNCTION_2008_R2, base_schema="2008_R2", use_rfc2307=False)
database = made.samdb
database.transaction_start()
for n in range(people):
    database.newuser(f"u{n}", f"Pw-{n}-abcDEF", givenname="ZZSECRETZZ", surname=f"Noel{n}")
for n in range(5):
    database.newgroup(f"g{n}")
    database.add_remove_group_members(f"g{n}", [f"u{k}" for k in range(n, people, 5)])
for n in range(12):
    database.newcomputer(f"pc{n}")
database.transaction_commit()
"""
_CHANGE = """
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

rules = LoadParm()
rules.set("private dir", sys.argv[1])
rules.set("log level", "0")
database = SamDB(f"tdb://{sys.argv[1]}/sam.ldb", session_info=system_session(rules), lp=rules)
database.transaction_start()
exec(sys.argv[2])
database.transaction_commit()
"""


def _python(text: str, *arguments: str) -> None:
    done = subprocess.run(
        [_PYTHON, "-I", "-c", text, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def provisioned(place: Path, *, realm: str = REALM, people: int = 60) -> Path:
    """Provision a domain below `place`; return its directory."""
    place.mkdir(parents=True)
    (place / "etc").mkdir()
    _python(_PROVISION, str(place), realm, str(people))
    return place


def backed_up(domain: Path, into: Path) -> Path:
    """Return what `samba-tool domain backup offline` makes of a domain."""
    argv = ["samba-tool", "domain", "backup", "offline", f"--targetdir={into}", "-s"]
    done = subprocess.run(
        [*argv, domain / "etc" / "smb.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = into.glob("samba-backup-*.tar.bz2")
    return made


def changed(private: Path, statements: str) -> None:
    """Run statements of Python on `database`, the SamDB of a domain's `private` directory."""
    _python(_CHANGE, str(private), statements)
