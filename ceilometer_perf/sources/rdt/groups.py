# SPDX-License-Identifier: Apache-2.0
"""resctrl groups of our own: one for each instance, as far as RMIDs go."""

import errno
from collections.abc import Collection, Mapping
from typing import Protocol

from oslo_log import log

from ceilometer_perf import verdicts
from ceilometer_perf.host import resctrl
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.reading import Guest
from ceilometer_perf.sources.rdt.usage import Usage, added
from ceilometer_perf.verdicts import Judgement

LOG = log.getLogger(__name__)

_NO_RMID = frozenset({errno.ENOSPC, errno.EBUSY})


class Watches(Protocol):
    """The privileged helper: see :mod:`ceilometer_perf.privsep`."""

    def watch(self, name: str, instance: str) -> None:
        """Have all threads of an instance in its groups."""

    def release(self, instance: str) -> None:
        """Remove an instance's groups."""


class Groups:
    """Keeps the groups and reads them. Not safe for threads."""

    def __init__(self, root: Resctrl, helper: Watches) -> None:
        self._resctrl = root
        self._helper = helper
        #: libvirt's id of each instance when its threads were put in: an
        #: instance that was booted since has others.
        self._watched: dict[str, int] = {}

    def read(
        self, guests: Mapping[str, Guest], keep: Collection[str] = ()
    ) -> Mapping[str, Usage | Judgement]:
        """What these running instances use, or why that isn't known.

        The groups of all others but those to ``keep`` are removed, those
        of an agent that was killed too.
        """
        self._release_all_but({*guests, *keep})
        refused = self._watch(guests)
        ours = self._resctrl.ours()
        answers: dict[str, Usage | Judgement] = dict(refused)
        for uuid in guests.keys() - refused.keys():
            counts = [resctrl.count(group) for group in ours.get(uuid, ())]
            parts = [
                Usage("resctrl", each.identity, each.banks)
                for each in counts
                if each is not None
            ]
            if parts and len(parts) == len(counts):
                answers[uuid] = added(parts)
            else:
                self._watched.pop(uuid, None)
                answers[uuid] = verdicts.GROUP_REMOVED
        return answers

    def _release_all_but(self, uuids: Collection[str]) -> None:
        self._watched = {u: b for u, b in self._watched.items() if u in uuids}
        for uuid in self._resctrl.ours().keys() - set(uuids):
            try:
                self._helper.release(uuid)
            except Exception as exc:  # whatever privsep makes of a failure
                LOG.debug("The group of %s is left: %s", uuid, exc)

    def _watch(self, guests: Mapping[str, Guest]) -> Mapping[str, Judgement]:
        """Put new instances into groups; why some could not be."""
        refused: dict[str, Judgement] = {}
        ours = self._resctrl.ours()
        full: Judgement | None = None
        # Who has a group keeps it, and others come in an order that is the
        # same each time: otherwise series would be cut to pieces.
        for uuid in sorted(guests, key=lambda uuid: (uuid not in ours, uuid)):
            guest = guests[uuid]
            if self._watched.get(uuid) == guest.id and uuid in ours:
                continue
            if full is not None:
                refused[uuid] = full  # each would ask, and get the same
                continue
            try:
                self._helper.watch(guest.name, uuid)
            except Exception as exc:  # whatever privsep makes of a failure
                refused[uuid] = self._why(exc)
                if _number(exc) in _NO_RMID:
                    full = refused[uuid]
            else:
                self._watched[uuid] = guest.id
        return refused

    def _why(self, exc: Exception) -> Judgement:
        number = _number(exc)
        if number in _NO_RMID:
            return verdicts.no_rmid(
                self._resctrl.in_use(), self._resctrl.rmids()
            )
        if number == errno.EEXIST:
            return verdicts.monitored(str(exc))
        if number == errno.ESRCH:
            return verdicts.NOT_RUNNING
        return verdicts.helper_failed(f"{type(exc).__name__}: {exc}")


def _number(exc: Exception) -> int | None:
    return exc.errno if isinstance(exc, OSError) else None
