"""What is concluded: the catalogue, and one pure function per control.

A control looks at a `View` and answers with a `Judgement`; it knows no clock, disk, network or
waiver. What a view holds is said in `backupguard.controls.facts`.
"""

from collections.abc import Mapping

from backupguard.contracts import Control
from backupguard.controls.acc_01 import PrivilegedAccess
from backupguard.controls.ano_01 import BackupAnomaly
from backupguard.controls.c321_01 import ThreeTwoOne
from backupguard.controls.catalogue import Catalogue, CatalogueEntry, catalogue_of, load_catalogue
from backupguard.controls.cfg_01 import ConfigurationDrift
from backupguard.controls.chf_01 import EncryptionAndEscrow
from backupguard.controls.imm_01 import ImmutabilityConfigured
from backupguard.controls.imm_02 import ImmutabilityTried
from backupguard.controls.int_01 import Integrity
from backupguard.controls.inv_01 import Coverage
from backupguard.controls.inv_02 import CoreServices
from backupguard.controls.iso_01 import Isolation
from backupguard.controls.job_01 import JobSuccess
from backupguard.controls.not_built import NotBuilt
from backupguard.controls.off_01 import OfflineCopy
from backupguard.controls.pdm_01 import RpoMet
from backupguard.controls.prv_01 import EvidenceKept
from backupguard.controls.ret_01 import RetentionDepth
from backupguard.controls.rst_01 import PeriodicRestoreTest
from backupguard.controls.rst_02 import RestoredContent
from backupguard.controls.rst_03 import ForecastWithinRto
from backupguard.controls.rst_04 import DirectoryRebuild

__all__ = ["BUILT", "Catalogue", "CatalogueEntry", "catalogue_of", "controls_of", "load_catalogue"]

#: The controls this version judges, by id.
BUILT: Mapping[str, Control] = {
    control.id: control
    for control in (
        Coverage(),
        CoreServices(),
        ThreeTwoOne(),
        OfflineCopy(),
        ImmutabilityConfigured(),
        ImmutabilityTried(),
        JobSuccess(),
        RpoMet(),
        RetentionDepth(),
        BackupAnomaly(),
        Integrity(),
        Isolation(),
        PeriodicRestoreTest(),
        RestoredContent(),
        ForecastWithinRto(),
        DirectoryRebuild(),
        PrivilegedAccess(),
        ConfigurationDrift(),
        EncryptionAndEscrow(),
        EvidenceKept(),
    )
}


def controls_of(catalogue: Catalogue) -> tuple[Control | NotBuilt, ...]:
    """Return one control per entry of the catalogue, in its order.

    An entry that is not marked as built, or that this version does not know, answers
    `not_applicable`; a catalogue cannot switch on what is not there.
    """
    chosen: list[Control | NotBuilt] = [
        BUILT[entry.id] if entry.built and entry.id in BUILT else NotBuilt(entry.id)
        for entry in catalogue.entries.values()
    ]
    return tuple(chosen)
