# SPDX-License-Identifier: Apache-2.0
"""resctrl groups of our own: one for each instance, as far as RMIDs go.

No state is kept between cycles. Each cycle reads which groups exist and which
threads are in them, so it copes with removed groups, new threads, and groups
of an earlier agent.
"""

import errno
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from oslo_log import log

from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.host import resctrl
from ceilometer_perf.host.processes import Process, Processes
from ceilometer_perf.host.resctrl import Resctrl
from ceilometer_perf.host.watching import Watching
from ceilometer_perf.rdt.usage import Usage, added
from ceilometer_perf.reading import Guest

if TYPE_CHECKING:  # wiring says why
    from ceilometer_perf.privsep import Helper

LOG = log.getLogger(__name__)

_NO_RMID = frozenset({errno.ENOSPC, errno.EBUSY})
#: What comes in the way of one instance, and not of the next.
_ITS_OWN = frozenset({errno.EEXIST, errno.ESRCH})

# A freed RMID keeps its tag on cache lines, so that the next group that has
# it begins with another's occupancy; and what the instance holds has other
# tags still. In this time a last-level cache is written over many times.
SETTLING = 1.0  # seconds

Paths = Iterable[Path]


class Groups:
    """Keeps the groups and reads them. Not safe for threads."""

    def __init__(
        self,
        root: Resctrl,
        processes: Processes,
        helper: "Helper | Watching | None",
    ) -> None:
        """``helper`` creates and removes groups; None: they stay.

        Root needs none but :class:`Watching` itself.
        """
        self._resctrl = root
        self._processes = processes
        self._helper = helper

    def read(
        self, guests: Mapping[str, Guest], keep: Collection[str] = ()
    ) -> Mapping[str, Usage | Judgement]:
        """What these running instances use, or why that isn't known.

        The groups of all others but those to ``keep`` are removed, those
        of an agent that was killed too.
        """
        if not self._resctrl.monitors:
            return dict.fromkeys(guests, self._why_none()) if guests else {}
        before = self._resctrl.ours()
        self._release(before.keys() - {*guests, *keep})
        refused = self._watch(guests, before)
        ours = self._resctrl.ours()
        return {
            uuid: refused.get(uuid) or _usage(ours.get(uuid, ()))
            for uuid in guests
        }

    def why_wrong(self) -> Judgement | None:
        """Why no number of resctrl's is right, whoever reads it."""
        if self._resctrl.is_split_unseen():
            return verdicts.SPLIT_UNSEEN
        return None

    def _why_none(self) -> Judgement:
        if self._resctrl.mounted:
            return verdicts.only_control(
                self._resctrl.root, resctrl.how_to_enable()
            )
        if resctrl.cpus_can_monitor():
            return verdicts.not_mounted(self._resctrl.root)
        return verdicts.NO_MONITORING

    def _release(self, uuids: Collection[str]) -> None:
        if self._helper is None:
            return
        for uuid in uuids:
            try:
                self._helper.release(uuid)
            except (OSError, ValueError) as exc:
                LOG.debug(
                    "The resctrl group of %s is not removed: %s", uuid, exc
                )
            except Exception as exc:  # whatever privsep makes of a failure
                LOG.debug("No resctrl group is removed: %s", exc)
                return  # one that hangs would hold up each of the others

    def _watch(
        self, guests: Mapping[str, Guest], ours: Mapping[str, Paths]
    ) -> Mapping[str, Judgement]:
        """Put instances without a group into one; why that failed for some."""
        refused: dict[str, Judgement] = {}
        hopeless: Judgement | None = None
        # Instances with a group keep it, and the others come in a stable
        # order: otherwise series would be fragmented.
        for uuid in sorted(guests, key=lambda uuid: (uuid not in ours, uuid)):
            name = guests[uuid].name
            process = self._processes.guest(name, uuid)
            if process is None:
                refused[uuid] = verdicts.UNSEEN
            elif self._is_inside(process, ours.get(uuid, ())):
                continue
            elif self._helper is None:
                refused[uuid] = self._not_made()
            elif hopeless is not None:
                refused[uuid] = hopeless  # each would ask, and get the same
            else:
                try:
                    self._helper.watch(name, uuid)
                except Exception as exc:  # whatever privsep makes of it
                    refused[uuid] = self._why(exc)
                    if _number(exc) not in _ITS_OWN:
                        hopeless = refused[uuid]
        return refused

    def _is_inside(self, process: Process, groups: Paths) -> bool:
        # Before the groups: those that start in the meantime follow by
        # themselves.
        threads = self._processes.threads(process)
        inside = frozenset().union(*map(resctrl.threads, groups))
        return bool(threads) and threads <= inside

    def _not_made(self) -> Judgement:
        """Why there is no group, as far as is known without trying."""
        rmids = self._resctrl.rmids()
        if rmids is not None and self._resctrl.in_use() >= rmids:
            return self._no_rmid()
        return verdicts.NO_GROUP

    def _no_rmid(self) -> Judgement:
        return verdicts.no_rmid(self._resctrl.in_use(), self._resctrl.rmids())

    def _why(self, exc: Exception) -> Judgement:
        number = _number(exc)
        if number in _NO_RMID:
            return self._no_rmid()
        if number == errno.EEXIST:
            return verdicts.monitored(str(exc))
        if number == errno.ESRCH:
            return verdicts.NOT_RUNNING
        return verdicts.helper_failed(f"{type(exc).__name__}: {exc}")


def _usage(groups: Paths) -> Usage | Judgement:
    counts = [resctrl.count(group) for group in groups]
    parts = [
        Usage("resctrl", each.identity, each.banks, settling=SETTLING)
        for each in counts
        if each is not None
    ]
    whole = parts and len(parts) == len(counts)
    return added(parts) if whole else verdicts.GROUP_REMOVED


def _number(exc: Exception) -> int | None:
    return exc.errno if isinstance(exc, OSError) else None
