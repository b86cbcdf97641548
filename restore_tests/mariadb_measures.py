"""What must hold between points, and the canary, as a restored MariaDB server is asked for them."""

from __future__ import annotations

from restore_tests import canary
from restore_tests.settings import Invariant


def question(invariant: Invariant, key: str) -> str:
    """Return the statement that measures an invariant; its last column is numbers alone.

    The rows of a closed set have one column: the server has no text of a whole row.
    """
    if not invariant.closed:
        return (
            "select case when v is null then 'null' else 'value' end,"  # noqa: S608
            f" coalesce(truncate(v, 0), '') from (select ({invariant.only_grows}\n) as v) answer;\n"
        )
    part = "coalesce(sum(cast(conv(substr(d, {}, 12), 16, 10) as unsigned)), 0)"
    digest = f"sha2(concat('{key}', coalesce(hex(v), '-')), 256) as d"
    return (
        f"with r(v) as ({invariant.closed_set}\n)"  # noqa: S608
        f" select 'set', concat(count(*), ' ', {part.format(1)}, ':', {part.format(13)})"
        f" from (select {digest} from r) as hashed;\n"
    )


def canaries(beginning: str) -> str:
    """Return the statement that looks at the canaries: as they were written or not, and the newest."""
    at = "date_format(written_at, '%Y-%m-%dT%H:%i:%sZ')"
    wrong = f"coalesce(sum(not token <=> sha2(concat('{beginning}', {at}), 256)), 0)"
    newest = "timestampdiff(microsecond, '1970-01-01', max(written_at))"
    return (
        f"select case when count(*) = 0 then 'missing' when {wrong} > 0 then 'altered'"  # noqa: S608
        f" else 'found' end, coalesce({newest}, '') from {canary.TABLE};\n"
    )


def canary_said(said: str, extra: str) -> tuple[str, str]:
    """Return what the answer, or the want of one, says of the canary."""
    return (canary.MISSING, "") if (said, extra) == ("error", "check_undefined") else (said, extra)
