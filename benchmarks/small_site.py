"""A small site for benchmarks: real restic repositories, each with a few snapshots of a small file."""

from __future__ import annotations

from pathlib import Path

from harness import run

PASSWORD = "benchmark"


def make_repository(directory: Path, snapshots: int, password_file: Path) -> Path:
    """Make a local restic repository with that many snapshots of a small dump-like file."""
    source = directory.with_suffix(".source")
    source.mkdir(parents=True)
    environment = {"RESTIC_PASSWORD_FILE": str(password_file), "RESTIC_REPOSITORY": str(directory)}
    run(["restic", "init", "-q"], environment)
    for number in range(snapshots):
        (source / "app.dump").write_bytes(b"%d " % number * 1000)
        run(["restic", "backup", "-q", "--no-cache", source / "app.dump"], environment)
    return source / "app.dump"


def make_site(directory: Path, *, repositories: int, snapshots: int = 3) -> Path:
    """Make repositories and a configuration that watches them; return the configuration's path."""
    password = directory / "password"
    password.write_text(PASSWORD, encoding="ascii")
    password.chmod(0o600)
    lines = [
        '[site]\nname = "Banc"\ntimezone = "Europe/Paris"\nlanguage = "fr"\n',
        f'[store]\ndirectory = "{directory / "state"}"\n',
    ]
    for number in range(repositories):
        place = directory / f"repository-{number}"
        dump = make_repository(place, snapshots, password)
        lines.append(
            f'[repositories.r{number}]\ntype = "restic"\nurl = "{place}"\n'
            f'credentials.reader.file = "{password}"\n'
            f'[applications.a{number}]\nname = "Application {number}"\ncriticality = "C2"\n'
            f'rpo = "24h"\n[applications.a{number}.backups.nightly]\nrepository = "r{number}"\n'
            f'select.paths = ["{dump}"]\nevery = "24h"\n'
        )
    path = directory / "backupguard.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
