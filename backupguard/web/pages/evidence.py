"""The chain of evidence: its head, its key, where its heads lie elsewhere, and bundles to take away."""

from __future__ import annotations

from backupguard.evidence.seals import anchor_line
from backupguard.web.downloads import bundle_like, files
from backupguard.web.pages.rendering import View

#: Anchors that are listed, newest first.
ANCHORS = 20


def page(view: View) -> str | None:
    """Return the page; None where no store is at hand."""
    records = view.outputs.records
    if records is None:
        return None
    store = records.store
    sealed = store.sealed()
    seq, digest = store.head()
    assessment = view.published.assessment
    anchors = [
        (fact.observation.observed_at, fact.observation.data)
        for fact in store.newest(["evidence.anchored"], limit=ANCHORS)
        if fact.observation.data is not None
    ]
    shown, turned = view.turned(files(records.bundles, bundle_like))
    return view.render(
        "evidence.html",
        store=store.store_id,
        fingerprint=store.key.fingerprint,
        seq=seq,
        digest=digest.hex(),
        sealed=sealed,
        unsealed=seq - sealed[0] if sealed is not None else seq,
        valid=assessment.evidence.valid if assessment is not None else None,
        line=anchor_line(store.anchor()),
        anchors=anchors,
        bundles=shown,
        turned=turned,
    )
