"""The recovery plan in words: Markdown that reads as plain text, to be printed and kept elsewhere.

Commands stand indented, so that nothing in a file's name can end their block.
"""

from __future__ import annotations

from collections.abc import Iterator

from backupguard.assess.clean_points import Search
from backupguard.assess.forecast import STEPS, TEST, Return
from backupguard.language import Words
from backupguard.model import from_us
from backupguard.reports.plan import PlannedCopy, PlannedReturn, RecoveryPlan


def runbook(plan: RecoveryPlan, words: Words, only: str | None = None) -> str:
    """Return the plan in words; with `only`, the order and that application's own pages."""
    lines = [*_head(plan, words), *_order(plan, words)]
    for number, one in enumerate(plan.applications, 1):
        if only in (None, one.back.application):
            lines += _application(number, one, words)
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a text of the site's on one line, without what Markdown or a terminal would act on."""
    shown = "".join(c if c.isprintable() or c in "\u00a0\u202f" else "�" for c in text)
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in shown)


def _head(plan: RecoveryPlan, words: Words) -> Iterator[str]:
    text = words.text
    yield f"# {text('plan.title', site=_plain(plan.site))}"
    yield ""
    yield text("plan.made", at=words.time(plan.made_at))
    yield ""
    yield text("plan.use")
    yield ""
    yield f"## {text('plan.assumptions')}"
    yield ""
    yield f"- {text('plan.everything')}"
    yield f"- {text('plan.parallel', count=plan.forecast.parallel)}"
    yield f"- {text('plan.hosts')}"
    yield f"- {text('plan.durable', percent=plan.forecast.durable_percent)}"
    yield f"- {text('plan.sizes')}"
    yield f"- {text('plan.not_rto')}"
    yield ""


def _order(plan: RecoveryPlan, words: Words) -> Iterator[str]:
    text = words.text
    yield f"## {text('plan.order')}"
    yield ""
    columns = [text(f"plan.column.{name}") for name in ("rank", "application", "start", "end")]
    columns += [text("plan.column.rto"), text("plan.column.state")]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for number, one in enumerate(plan.applications, 1):
        back = one.back
        end = words.duration(back.end_ms)
        cells = (
            str(number),
            f"{_plain(one.name)} ({back.criticality})",
            words.duration(back.start_ms),
            end if back.measured and not back.behind else text("plan.at_least", duration=end),
            words.duration(back.rto_ms),
            state(back, words),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    names = {one.back.application: _plain(one.name) for one in plan.applications}
    path = " → ".join(names[name] for name in plan.forecast.critical_path)
    yield f"**{text('plan.critical_path')}** {path or '—'}"
    yield ""
    late = ", ".join(_plain(one.name) for one in plan.late)
    yield f"**{text('plan.late')}** {late or text('plan.none')}"
    yield ""


def state(back: Return, words: Words) -> str:
    """Return in words what the forecast of an application is worth."""
    found = []
    if back.late:
        found.append(words.text("plan.state.late"))
    if STEPS in back.missing:
        found.append(words.text("plan.state.no_steps"))
    if TEST in back.missing:
        found.append(words.text("plan.state.no_test"))
    if back.waits_for:
        found.append(words.text("plan.state.waits", others=", ".join(back.waits_for)))
    if back.basis is not None and back.basis.failed_seq is not None:
        found.append(words.text("plan.state.failed"))
    if back.measured and back.behind:
        found.append(words.text("plan.state.behind", count=back.behind))
    if not found:
        known = "plan.state.within" if back.rto_ms is not None else "plan.state.no_rto"
        found.append(words.text(known))
    return ", ".join(found)


def _application(number: int, one: PlannedReturn, words: Words) -> Iterator[str]:
    text, back = words.text, one.back
    yield f"## {number}. {_plain(one.name)} ({back.criticality}, {back.application})"
    yield ""
    yield f"- {text('plan.rests', state=state(back, words))}"
    yield f"- {_basis(back, words)}"
    yield f"- {text('plan.tools', tools=_tools(one) or text('plan.unknown'))}"
    for key in one.keys:
        use, kind = text(f"plan.key.{key.use}"), text(f"plan.key.{key.kind}")
        yield f"- {text('plan.key', use=use, kind=kind)} `{key.reference}`"
    if one.search is not None:
        yield f"- **{_clean(one.search, words)}**"
    for other in one.others:
        where = f"{other.repository} ({other.job})"
        at = words.time(other.point_at)
        yield f"- {text('plan.other', where=where, at=at)} `{_printable(other.point)}`"
    yield ""
    step = 0
    for manual in back.steps:
        step += 1
        source = text("plan.source", source=_plain(manual.source)) if manual.source else ""
        took = words.duration(manual.duration_ms)
        told = text("plan.manual", name=_plain(manual.name), duration=took)
        yield f"{step}. {told} {source} **{text('plan.untested')}**".replace("  ", " ")
        yield ""
    if not back.steps:
        yield f"**{text('plan.no_steps')}**"
        yield ""
    if not one.copies:
        yield f"**{text('plan.no_point')}**"
        yield ""
    for copy in one.copies:
        for lines in _copy(step, one, copy, words):
            yield from lines
        step += 3
    yield f"{step + 1}. {text('plan.check')} **{text('plan.untested')}**"
    yield ""


def _tools(one: PlannedReturn) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(one.tools.items()))


def _clean(search: Search, words: Words) -> str:
    bad = words.time(from_us(search.bad.at))
    if search.clean is None:
        return words.text("plan.no_clean", bad=bad)
    return words.text(
        "plan.clean",
        clean=words.time(from_us(search.clean.at)),
        bad=bad,
        between=search.between,
    )


def _basis(back: Return, words: Words) -> str:
    basis = back.basis
    if basis is None:
        return words.text("plan.basis.none")
    told = words.text(
        "plan.basis",
        at=words.time(from_us(basis.tested_at)),
        repository=basis.repository,
        level=basis.level,
        seq=basis.seq,
    )
    known = "plan.basis.immutable" if basis.immutable else "plan.basis.not_immutable"
    return f"{told} {words.text(known)}"


def _copy(
    step: int, one: PlannedReturn, copy: PlannedCopy, words: Words
) -> Iterator[tuple[str, ...]]:
    text, back = words.text, one.back
    untested = f"**{text('plan.untested')}**"
    tested = untested
    if copy.tested_at is not None:
        tested = text("plan.tested", at=words.time(copy.tested_at))
    point = text(
        "plan.point",
        job=copy.job,
        repository=copy.repository,
        at=words.time(copy.point_at),
        size=words.size(copy.bytes),
    )
    shown = f"{step + 1}. {text('plan.prepare')} {point} `{_printable(copy.point)}` {untested}"
    yield (shown, "", *_block(copy.before))
    if not copy.fetch:
        yield (f"{step + 2}. {text('plan.no_template', tool=copy.type)} {untested}", "")
        return
    took = text("plan.took", duration=words.duration(back.fetch_ms)) if copy.tested_at else ""
    fetching = " ".join(filter(None, (text("plan.fetch"), took, tested)))
    yield (f"{step + 2}. {fetching}", "", *_block(copy.fetch))
    if not copy.load:
        engine = one.engine or text("plan.unknown")
        yield (f"{step + 3}. {text('plan.no_engine', engine=engine)} {untested}", "")
        return
    loading = words.duration(back.load_ms + back.open_ms)
    took = text("plan.took", duration=loading) if copy.tested_at else ""
    how = f"{tested} {text('plan.equivalent')}" if copy.tested_at else untested
    put_into_use = " ".join(filter(None, (text("plan.load"), took, how)))
    yield (f"{step + 3}. {put_into_use}", "", *_block(copy.load))


def _block(commands: tuple[str, ...]) -> tuple[str, ...]:
    return (*(f"        {_printable(command)}" for command in commands), "") if commands else ()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
