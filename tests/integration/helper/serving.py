"""A helper that serves until it is ended, as systemd would start it: one process per connection.

Run as `python serving.py SOCKET CONFIGURATION ROOT OWNER CALLER RUNTIME GID`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from backupguard.helper.configuration import Trust
from backupguard.helper.media import Media
from backupguard.helper.server import Place, serve


def main() -> None:
    os.umask(0o077)
    where, configuration, root, owner, caller, runtime, gid = sys.argv[1:]
    place = Place(
        callers=frozenset({int(caller)}),
        trust=Trust(file=Path(configuration), root=Path(root), owner=int(owner)),
        media=Media(directory=Path(runtime) / "media", gid=int(gid)),
        request_s=1,
    )
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(where)
    Path(where).chmod(0o666)
    listener.listen(8)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            serve(connection, place)
            os._exit(0)
        connection.close()


main()
