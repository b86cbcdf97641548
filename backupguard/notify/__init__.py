"""What a SOC is told, and how: events derived from facts, and the channels that carry them.

`catalogue` names every event, `derive` finds them in a fact, `ecs` and `syslog` give them their shape.
A channel takes facts from its line in the store (`backupguard.store.outbox`) and keeps its place there
until the far end has them.
"""

from backupguard.notify.catalogue import EVENTS, Event, EventType, Level
from backupguard.notify.derive import derive

__all__ = ["EVENTS", "Event", "EventType", "Level", "derive"]
