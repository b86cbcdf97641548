"""Masks, receivers, cancel, packages, ownership: the parts of the jail without a process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from backupguard.contracts import Secret
from backupguard.errors import Cancelled, MissingMeans
from backupguard.language import LANGUAGES, Words
from backupguard.processes import Cancellation, become_owner, find_program
from backupguard.processes.masking import Masker
from backupguard.processes.programs import program_missing, require_program
from backupguard.processes.supervision import Head, HeadAndTail, Lines


def mask(*values: bytes) -> Masker:
    return Masker([Secret(f"s{n}", value) for n, value in enumerate(values)])


def test_a_secret_is_masked_with_and_without_its_line_end():
    assert mask(b"correct horse\n")(b"pw=correct horse; ok") == b"pw=****; ok"


def test_parts_of_a_file_of_secrets_are_masked():
    credentials = (
        b"[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtn/FEMI\n"
    )
    assert mask(credentials)(b"sign wJalrXUtn/FEMI by AKIDEXAMPLE") == b"sign **** by ****"
    assert mask(b"db:5432:dpi:lecteur:s3cr3t-pw\n")(b"auth s3cr3t-pw") == b"auth ****"


def test_a_secret_quoted_for_a_url_is_masked():
    assert (
        mask(b"p@ss/w\xc3\xb6rd")(b"rest:http://u:p%40ss%2Fw%C3%B6rd@h/")
        == b"rest:http://u:****@h/"
    )


def test_the_longer_of_two_overlapping_secrets_leaves_no_rest():
    assert mask(b"hunter", b"hunter2-long")(b"x hunter2-long y hunter") == b"x **** y ****"


def test_without_secrets_nothing_changes():
    assert mask()(b"any") == b"any"
    assert mask(b"")(b"any") == b"any"


def test_head_keeps_the_first_bytes_and_says_when_it_dropped_some():
    head = Head(5)
    for chunk in (b"abc", b"de"):
        head.take(chunk)
    assert not head.truncated
    head.take(b"f")
    assert (head.end(), head.truncated) == (b"abcde", True)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_head_and_tail_keep_both_ends(size):
    text = b"BEGIN" + b"-" * 500 + b"THE END"
    kept = HeadAndTail(40)
    for start in range(0, len(text), size):
        kept.take(text[start : start + size])
    assert kept.end().startswith(b"BEGIN")
    assert kept.end().endswith(b"THE END")
    assert b"[...]" in kept.end()
    assert len(kept.end()) <= 40 + len(b"\n[...]\n")
    assert kept.truncated


def test_what_fits_is_kept_whole():
    kept = HeadAndTail(40)
    for chunk in (b"a" * 30, b"b" * 10):
        kept.take(chunk)
    assert kept.end() == b"a" * 30 + b"b" * 10
    assert not kept.truncated


def test_lines_are_handed_over_whole_whatever_the_chunks():
    seen: list[bytes] = []
    lines = Lines(seen.append, mask())
    for chunk in (b"one\ntw", b"o\n", b"\nlast"):
        lines.take(chunk)
    lines.end()
    assert seen == [b"one", b"two", b"", b"last"]


def test_a_line_without_end_is_cut():
    seen: list[bytes] = []
    lines = Lines(seen.append, mask(), limit=10)
    for _ in range(100):
        lines.take(b"xxxxxxx")
    lines.take(b"y\nok\n")
    assert seen == [b"x" * 7 + b"xxx", b"ok"]
    assert lines.truncated


def test_secrets_are_masked_in_lines():
    seen: list[bytes] = []
    Lines(seen.append, mask(b"hunter2-long")).take(b"key hunter2-long\n")
    assert seen == [b"key ****"]


def test_cancel_keeps_its_first_reason_and_wakes_who_waits():
    cancel = Cancellation()
    cancel.raise_if_set()
    assert not cancel.wait(0.01)
    threading.Timer(0.05, cancel.set, ["by_stop"]).start()
    began = time.monotonic()
    assert cancel.wait(10)
    assert time.monotonic() - began < 5
    cancel.set("by_operator")
    assert cancel.reason == "by_stop"
    with pytest.raises(Cancelled) as raised:
        cancel.raise_if_set()
    assert raised.value.code == "by_stop"


def test_cancel_refuses_a_reason_outside_the_vocabulary():
    with pytest.raises(ValueError, match="not a code"):
        Cancellation().set("because")


def test_cancel_may_be_set_by_a_signal_handler_of_the_waiting_thread():
    cancel = Cancellation()
    before = signal.signal(signal.SIGALRM, lambda *_: cancel.set("by_stop"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert cancel.wait(10)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_programs_are_found_by_name_on_the_fixed_path_only(monkeypatch, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("mine") is None
    assert find_program("../../bin/sh") is None
    assert find_program(str(mine)) == mine
    assert find_program("sh") == Path("/usr/bin/sh")
    mine.chmod(0o644)
    assert find_program(str(mine)) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_missing_program_is_named_with_its_package(language):
    error = program_missing("/opt/bin/borg")
    words = Words(language)
    assert "borg" in words.say(error.message)
    assert "borgbackup" in words.say(error.message)
    assert error.remedy is not None
    assert "apt-get install borgbackup" in words.say(error.remedy)
    with pytest.raises(MissingMeans):
        require_program("no-such-program-here")


def test_become_owner_does_nothing_as_an_ordinary_user(tmp_path):
    if os.geteuid() == 0:
        return  # tests marked root look at that
    become_owner(tmp_path / "absent")
    assert os.geteuid() != 0
