# SPDX-License-Identifier: Apache-2.0
"""The values that modules pass to each other.

Frozen dataclasses without types of Ceilometer or libvirt.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: Between two readings of which the difference is published: what grows in
#: less time is mostly noise.
SHORTEST = 0.5  # seconds


def utc_now() -> datetime:
    """By the wall clock."""
    return datetime.now(UTC)


Counters = Mapping[str, int]
"""One instance's counters by key (``perf.cpu_cycles``), in the unit of the
meter that reads the key. A missing key is a counter that the instance does
not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What a reading must know of an instance besides its counters."""

    #: libvirt's, as in ``instance-0000002a``.
    name: str
    #: libvirt's: another one at each boot, as long as its daemon is not
    #: restarted in between; -1 while it does not run.
    id: int
    #: As libvirt describes it; that of the running guest, if it runs.
    xml: str
    #: Has a vCPU under a realtime scheduler.
    realtime: bool
    #: The slice of the host that it runs in, None for an ordinary one.
    slice: str | None
    #: Keys of the perf events that it runs with and that its definition, from
    #: which it was started, does not have.
    undefined: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Moment:
    """When counters were read: ``at`` by the wall clock, in UTC.

    ``taken_at`` is in seconds of the monotonic clock.
    """

    taken_at: float
    at: datetime

    @functools.cached_property
    def timestamp(self) -> str:
        """As samples carry it: ISO 8601, in UTC without saying so."""
        return self.at.replace(tzinfo=None).isoformat()


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters of all instances of this host, read at one moment.

    It is between ``asked_at`` and ``taken_at``, in seconds of the monotonic
    clock; ``at`` is the latter by the wall clock, in UTC. ``guests`` has
    every instance of the host and ``instances`` the counters of those that
    were read, each by instance UUID. ``failed`` says why libvirt could not
    read one.
    """

    asked_at: float
    taken_at: float
    guests: Mapping[str, Guest]
    instances: Mapping[str, Counters]
    at: datetime = field(default_factory=utc_now)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def moment(self) -> Moment:
        """When it was read."""
        return Moment(self.taken_at, self.at)


@dataclass(frozen=True, slots=True)
class Published:
    """What may be published of one instance.

    ``values`` are by the meters' keys, all read at one ``moment``, which may
    be another for the next instance. ``metadata`` is of all of them, and
    ``details`` is what there is more of some, by key.
    """

    values: Mapping[str, float]
    moment: Moment
    metadata: Mapping[str, Any]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def about(self, key: str) -> Mapping[str, Any]:
        """A sample's ``resource_metadata["perf"]``."""
        more = self.details.get(key)
        return {**self.metadata, **more} if more else self.metadata


class SourceUnavailableError(Exception):
    """A source or libvirt did not answer, or not with the requested data.

    The message is one line: which source, what it said, what to look at.
    """
