"""What is concluded: the catalogue, and one pure function per control.

A control looks at a `View` and answers with a `Judgement`; it knows no clock, disk, network or
waiver. What a view holds is said in `backupguard.controls.facts`.
"""

from backupguard.controls.catalogue import Catalogue, CatalogueEntry, load_catalogue

__all__ = ["Catalogue", "CatalogueEntry", "load_catalogue"]
