"""The only statements that ever reach a foreign database: one SELECT each."""

from __future__ import annotations

import re

_LITERAL = re.compile(r"'(?:[^']|'')*'")
_WORD = re.compile(r"[A-Za-z_$#]+")
#: Words that make more of a SELECT than reading: where one stands outside a literal, all is refused.
_FORBIDDEN = (
    "alter analyze attach backup begin bulk call checkpoint cluster comment commit copy create dbcc "
    "deallocate declare delete detach do drop exec execute explain grant insert into kill lock merge "
    "notify openquery openrowset pragma prepare purge reindex rename replace reset restore revoke "
    "rollback savepoint security set share shutdown sp_executesql truncate update use vacuum waitfor "
    "xp_cmdshell"
)
_WORDS_FORBIDDEN = frozenset(_FORBIDDEN.split(" "))


class Refused(ValueError):
    """A statement that is no plain SELECT; a mistake in this program, never of a site."""


def only_select(statement: str) -> str:
    """Return `statement` when it is one SELECT that can only read; raise Refused otherwise.

    Literals are passed over, comments and further statements refused. Stricter than any SQL needs:
    `SELECT … INTO`, `FOR UPDATE`, locking hints and procedures are words on the list.
    """
    bare = _LITERAL.sub("''", statement)
    if not bare.lstrip().upper().startswith(("SELECT ", "SELECT\n")):
        raise Refused("no SELECT")
    if any(mark in bare for mark in (";", "--", "/*", "\0")) or "'" in bare.replace("''", ""):
        raise Refused("more than one statement, a comment or an open literal")
    found = {word.lower() for word in _WORD.findall(bare)} & _WORDS_FORBIDDEN
    if found:
        raise Refused(f"not for reading: {', '.join(sorted(found))}")
    return statement
