# SPDX-License-Identifier: Apache-2.0
"""L3 occupancy, memory bandwidth, energy: compared with the cycle before.

RDT, Resource Director Technology, is Intel's name for the hardware that counts
them; AMD and Arm have their own. It is read apart from the perf counters, and
only if one of its meters is polled, because it can take long and may create
resctrl groups.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from oslo_log import log

from ceilometer_perf.changes import Changes
from ceilometer_perf.counters import verdicts
from ceilometer_perf.counters.monitor import Report, about
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.host.caches import Caches
from ceilometer_perf.meters import ENERGY_KEYS, L3_CACHE_UTIL, RDT_KEYS
from ceilometer_perf.rdt import tune
from ceilometer_perf.rdt.choice import Answers, Choice
from ceilometer_perf.rdt.rates import FEATURES, Figures, Rates, Sizes
from ceilometer_perf.rdt.usage import OCCUPANCY, Usage
from ceilometer_perf.reading import Guest, Moment, Published, utc_now

_EVERYBODY = "every instance"


@dataclass(frozen=True, slots=True)
class RdtReport:
    """What the instances of a report use, by instance UUID.

    ``judged`` has a judgement on each meter, by key, of all that were read.
    """

    published: Mapping[str, Published] = field(default_factory=dict)
    judged: Mapping[str, Mapping[str, Judgement]] = field(default_factory=dict)


class Rdt:
    """The one of this process. Safe to call from several threads."""

    def __init__(self, choice: Choice, caches: Caches) -> None:
        self._choice = choice
        self._caches = caches
        self._rates = Rates()
        self._changes = Changes(log.getLogger(__name__))
        self._lock = threading.Lock()

    def look(self, report: Report) -> RdtReport:
        """Read what the instances of this report use.

        :raises SourceUnavailableError: libvirt does not answer any more.
        """
        with self._lock:
            answers = self._choice.read(report.reading, report.judged)
            now = Moment(time.monotonic(), utc_now())
            l3 = self._caches.l3(_banks(answers))
            told = dict(answers)
            published: dict[str, Published] = {}
            judged: dict[str, Mapping[str, Judgement]] = {}
            for uuid, answer in answers.items():
                if isinstance(answer, Judgement):
                    judged[uuid] = dict.fromkeys(RDT_KEYS, answer)
                    continue
                moment = answer.moment or now
                found = self._rates.compute(uuid, moment.taken_at, answer, l3)
                published[uuid] = _publish(
                    report.guests[uuid], answer, found, moment
                )
                judged[uuid] = {
                    key: _judge(key, answer, found, l3) for key in RDT_KEYS
                }
                for why in found.beyond.values():
                    told[uuid] = verdicts.beyond(why)
            self._tell(report, told)
            self._rates.forget_all_but(report.guests)
            return RdtReport(published, judged)

    def _tell(
        self, report: Report, answers: Mapping[str, Usage | Judgement]
    ) -> None:
        whys = {u: a for u, a in answers.items() if isinstance(a, Judgement)}
        shared = len(whys) == len(answers) and len(set(whys.values())) == 1
        if shared:
            (why,) = set(whys.values())
            whys = {}
            self._changes.trouble(_EVERYBODY, _text(_EVERYBODY, why))
        elif answers:
            self._changes.fine(_EVERYBODY, _text(_EVERYBODY, verdicts.OK))
        for uuid in answers:
            subject = f"instance {uuid} ({report.guests[uuid].name})"
            if uuid in whys:
                self._changes.trouble(uuid, _text(subject, whys[uuid]))
            elif not shared:
                self._changes.fine(uuid, _text(subject, verdicts.OK))
        self._changes.forget_all_but({*report.guests, _EVERYBODY})


def _banks(answers: Answers) -> frozenset[int]:
    """The L3 caches that instances use."""
    return frozenset(
        bank
        for answer in answers.values()
        if isinstance(answer, Usage) and answer.by_bank
        for bank in answer.banks.get(OCCUPANCY, ())
    )


def _text(subject: str, why: Judgement) -> str:
    return f"{subject}: L3 occupancy and memory bandwidth: {why}"


def _publish(
    guest: Guest, usage: Usage, found: Figures, moment: Moment
) -> Published:
    metadata = {
        "source": usage.source,
        "since": found.since.isoformat(),
        **about(guest),
    }
    if reserved := tune.reserved(guest.xml):
        metadata["reserved"] = _by_bank(reserved)
    return Published(
        values={key: each.value for key, each in found.values.items()},
        moment=moment,
        metadata=metadata,
        details={
            key: {"banks": _by_bank(each.banks)}
            for key, each in found.values.items()
            if usage.by_bank
        },
    )


def _by_bank(numbers: Mapping[int, float]) -> Mapping[str, float]:
    """As JSON has it."""
    return {str(bank): number for bank, number in sorted(numbers.items())}


def _judge(key: str, usage: Usage, found: Figures, l3: Sizes) -> Judgement:
    if key in found.values:
        return verdicts.OK
    if key in found.beyond:
        return verdicts.beyond(found.beyond[key])
    if FEATURES[key] in usage.unread:
        return verdicts.MONITOR_UNREAD
    if usage.sum(FEATURES[key]) is None:
        elsewhere = key in ENERGY_KEYS and usage.source != "resctrl"
        return verdicts.NO_ENERGY if elsewhere else verdicts.NO_NUMBER
    if key == L3_CACHE_UTIL.key and not sum(l3.values()):
        return verdicts.NO_L3
    return verdicts.NEW
