# SPDX-License-Identifier: Apache-2.0
"""The links in the polling agent: its options, our pollsters, polling.yaml."""

import fnmatch
import importlib.metadata
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from oslo_config import cfg
from stevedore import NamedExtensionManager

from ceilometer_perf.doctor import agent_conf, definitions
from ceilometer_perf.doctor.definitions import Source
from ceilometer_perf.doctor.finding import (
    BrokenError,
    Finding,
    fine,
    listed,
    warning,
)
from ceilometer_perf.doctor.names import meant
from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.meters import (
    BANDWIDTH_LOCAL,
    BANDWIDTH_TOTAL,
    L3_CACHE,
    METERS,
    PERF_KEYS,
    RDT,
    WAITING,
)
from ceilometer_perf.plural import number_of
from ceilometer_perf.reading import SourceUnavailableError

POLLSTERS = "ceilometer.poll.compute"
DISCOVERY = "ceilometer.discover.compute"
NO_COMPUTE_HOST = "not a compute host"
#: What is read without any perf counter.
_WITHOUT_PERF = frozenset(m.name for m in (*RDT, *WAITING))
#: What core's own polling.yaml asked for until its meters were removed.
_STOCK = frozenset(
    m.name for m in (L3_CACHE, BANDWIDTH_TOTAL, BANDWIDTH_LOCAL)
)
ASK = (
    "add perf.hw.*, perf.sw.*, perf.coverage, perf.withheld and "
    "perf.derived.* to a source, and restart the agent"
)
INSTALL = (
    "install ceilometer-perf into the Python that runs the agent "
    f"(this is {sys.executable})"
)


def ceilometer_conf(patient: Patient) -> Finding:
    """The agent's options can be used."""
    try:
        uri = patient.parts.connection.uri
    except SourceUnavailableError as error:
        raise BrokenError(str(error), "fix ceilometer.conf") from error
    files = patient.conf.config_file or patient.conf.default_config_files
    return fine(
        f"{listed(files) or 'no file, all defaults'}; libvirt at {uri}"
    )


def entry_points(_patient: Patient) -> Finding:
    """The agent's Python has our pollsters and can load them."""
    wanted = {
        POLLSTERS: [meter.name for meter in METERS],
        DISCOVERY: ["perf_instances"],
    }
    for group, names in wanted.items():
        found = Counter(installed(group))
        missing = [name for name in names if not found[name]]
        if missing:
            raise BrokenError(f"not installed: {listed(missing)}", INSTALL)
        _load(group, names)
    ours = Counter(installed(POLLSTERS))
    twice = [name for name in wanted[POLLSTERS] if ours[name] > 1]
    if twice:
        return warning(
            f"{listed(twice)} is installed twice, and only one of the two "
            "polls",
            "uninstall the other package that provides it",
        )
    return fine(f"{len(METERS)} pollsters load")


def installed(group: str) -> Iterator[str]:
    """The names of entry points, once for each package that has them."""
    found = importlib.metadata.entry_points(group=group)
    return (each.name for each in found)


def _load(group: str, names: list[str]) -> None:
    failed: dict[str, str] = {}

    def fails(_manager: object, entry: object, error: BaseException) -> None:
        failed[str(entry)] = f"{type(error).__name__}: {error}"

    NamedExtensionManager(
        group,
        names,
        on_load_failure_callback=fails,
        warn_on_missing_entrypoint=False,
    )
    if failed:
        why = next(iter(failed.values()))
        raise BrokenError(
            f"{number_of(len(failed), 'pollster')} can't be loaded ({why})",
            INSTALL,
        )


def polling(patient: Patient) -> Finding:
    """polling.yaml asks for our meters, each by its right name."""
    path = _path(patient.conf)
    sources = _sources(patient.conf)
    known = set(installed(POLLSTERS))
    unknown = [
        (source, pattern)
        for source in sources
        for pattern in source.included
        if pattern.startswith("perf.") and not fnmatch.filter(known, pattern)
    ]
    if unknown:
        source, pattern = unknown[0]
        raise BrokenError(
            f"{source.place}: source {source.name} asks for {pattern}, which "
            "matches no pollster",
            f"did you mean {listed(meant([pattern], known))}?",
        )
    asked = Counter(_asked(sources))
    if not asked:
        raise BrokenError(
            f"{path} asks for none of ceilometer-perf's meters", ASK
        )
    if _STOCK.issuperset(asked):
        return warning(
            f"{path} asks for {listed(asked)}, as Ceilometer's own file did "
            "for years, and for nothing of perf.*",
            ASK,
        )
    twice = [name for name, times in asked.items() if times > 1]
    if twice:
        return warning(
            f"{path}: more than one source asks for {listed(twice)}",
            "keep it in one: its samples are sent once for each",
        )
    return _held_up(sources, known) or fine(
        f"{path} asks for {len(asked)} of our meters"
    )


def _held_up(sources: list[Source], known: set[str]) -> Finding | None:
    """Whether another's meters are polled before ours, in the same task.

    The agent has one for each interval.
    """
    others = known - {meter.name for meter in METERS}
    ours = {source.interval for source in sources if any(_asked([source]))}
    for source in sources:
        foreign = [name for name in others if source.chooses(name)]
        if foreign and source.interval in ours:
            return warning(
                f"{source.place}: source {source.name} polls meters of "
                f"others ({listed(sorted(foreign))}) every {source.interval} "
                "s, and ceilometer-perf's are polled at this interval, too: "
                "they wait while those wait for libvirt, and the Prometheus "
                "exporter keeps values of instances that are gone",
                "give the sources of ceilometer-perf's meters an interval "
                "that no other source has",
            )
    return None


def polled(patient: Patient) -> list[str]:
    """The meters of ours that the agent polls.

    :raises BrokenError: as :func:`polling`.
    """
    return list(dict.fromkeys(_asked(_sources(patient.conf))))


def polls_perf(patient: Patient) -> bool:
    """Whether anything needs perf counters; true if unknown."""
    asked = _polled(patient)
    return not asked or not _WITHOUT_PERF.issuperset(asked)


def why_no_compute_host(patient: Patient) -> str:
    """Why nothing can be polled here, and nobody wants it; else empty.

    :raises BrokenError: whether anybody does is unknown: polling.yaml is
        there and can't be used, on whatever kind of host this is.
    """
    if _polled(patient):
        return ""
    try:
        uri = patient.parts.connection.uri
    except SourceUnavailableError:
        return ""
    try:
        _ = patient.status
    except SourceUnavailableError:
        if _means_ours(patient):
            return ""
        return (
            f"{NO_COMPUTE_HOST}: libvirt at {uri} does not answer, and "
            "polling.yaml asks for none of ceilometer-perf's meters"
        )
    return ""


def _means_ours(patient: Patient) -> bool:
    """Whether a polling.yaml that is there names meters like ours."""
    try:
        sources = _sources(patient.conf)
    except BrokenError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise
    return any(p.startswith("perf.") for s in sources for p in s.included)


def _polled(patient: Patient) -> list[str]:
    """None where polling.yaml can't be used."""
    try:
        return polled(patient)
    except BrokenError:
        return []


def intervals(conf: cfg.ConfigOpts) -> set[int]:
    """How often this host's polling.yaml has perf counters polled.

    Empty where it asks for none, or can't be used.
    """
    try:
        sources = _sources(conf)
    except BrokenError:
        return set()
    growing = [m.name for m in METERS if m.key in PERF_KEYS]
    return {
        source.interval
        for source in sources
        if source.interval is not None and any(map(source.chooses, growing))
    }


def _path(conf: cfg.ConfigOpts) -> Path:
    # Core falls back to a file that it does not ship.
    name = conf.polling.cfg_file
    return agent_conf.find(conf, name, f"pipeline/data/{name}")


def _sources(conf: cfg.ConfigOpts) -> list[Source]:
    path = _path(conf)
    return definitions.sources(path, definitions.load(path), "interval")


def _asked(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        yield from (m.name for m in METERS if source.chooses(m.name))
