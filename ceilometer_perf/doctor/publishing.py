# SPDX-License-Identifier: Apache-2.0
"""The links behind the polling agent: pipeline.yaml and Gnocchi's mapping.

The notification agent reads them, which may run on another host: copies of
its files, named by this host's ceilometer.conf, are looked at then.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ceilometer_perf.doctor import agent_conf, definitions
from ceilometer_perf.doctor.agent import polled, why_no_compute_host
from ceilometer_perf.doctor.definitions import Source
from ceilometer_perf.doctor.finding import (
    BrokenError,
    Finding,
    fine,
    listed,
    warning,
)
from ceilometer_perf.doctor.patient import Patient
from ceilometer_perf.meters import METERS
from ceilometer_perf.report import gnocchi_resources

LET_THROUGH = (
    "add them to the meters of a source, with a sink, and restart "
    "ceilometer-agent-notification"
)


def pipeline(patient: Patient) -> Finding:
    """pipeline.yaml lets our meters through to a publisher."""
    path = _path(patient)
    sources, sinks = _read(path)
    for source in sources:
        dangling = [sink for sink in source.sinks if sink not in sinks]
        if dangling:
            raise BrokenError(
                f"{source.place}: source {source.name} names sinks that "
                f"don't exist: {listed(dangling)}",
                definitions.REMEDY,
            )
    names = _names(patient)
    through = set(_through(sources, names))
    if not through:
        raise BrokenError(f"{path} passes none of our meters",
                          LET_THROUGH)  # fmt: skip
    kept = [name for name in names if name not in through]
    if kept:
        return warning(f"{path} does not pass {listed(kept)}",
                       LET_THROUGH)  # fmt: skip
    return fine(f"{path} passes everything that is polled")


def mapping(patient: Patient) -> Finding:
    """Gnocchi's publisher knows our meters, where it is used."""
    sources, sinks = _read(_path(patient))
    names = _names(patient)
    lacking: dict[Path, tuple[Path, list[str]]] = {}
    checked: list[Path] = []
    for sink, publishers in sinks.items():
        into = [source for source in sources if sink in source.sinks]
        for asked, path in _mappings(patient, publishers):
            if not patient.notifies and _is_core_s(path):
                return fine(
                    "the notification agent runs on another host: run this "
                    "there, or name copies of its files in ceilometer.conf"
                )
            metrics = _metrics(path)
            missing = [n for n in _through(into, names) if n not in metrics]
            checked.append(path)
            if missing:
                lacking[path] = (asked, missing)
    for path, (asked, missing) in lacking.items():
        return warning(
            f"{path} does not map {listed(missing)}, and Gnocchi's publisher "
            "drops what it does not map",
            f"{_command(asked, path)}, and restart "
            "ceilometer-agent-notification, where that runs",
        )
    if not checked:
        return fine("nothing is published to Gnocchi")
    return fine(f"{listed(map(str, checked))} maps everything that is polled")


def _names(patient: Patient) -> list[str]:
    """What comes along here: on a controller, anything from anywhere."""
    if why_no_compute_host(patient):
        return [meter.name for meter in METERS]
    return polled(patient)


def _path(patient: Patient) -> Path:
    name = patient.conf.pipeline_cfg_file
    return agent_conf.find(patient.conf, name, f"pipeline/data/{name}")


def _read(path: Path) -> tuple[list[Source], Mapping[str, Sequence[str]]]:
    """Sources, and publishers by sink."""
    found = definitions.load(path)
    sinks = {
        str(sink.get("name")): definitions.texts(path, sink, "publishers")
        for sink in definitions.items(path, found, "sinks")
    }
    mute = [name for name, publishers in sinks.items() if not publishers]
    if mute:
        raise BrokenError(
            f"{path}: no publishers in sink {listed(mute)}", definitions.REMEDY
        )
    return definitions.sources(path, found, "sinks"), sinks


def _through(sources: Iterable[Source], names: Iterable[str]) -> Iterator[str]:
    """Those of these meters that a source chooses."""
    chosen = list(sources)
    return (n for n in names if any(s.chooses(n) for s in chosen))


def _mappings(
    patient: Patient, publishers: Iterable[str]
) -> Iterator[tuple[Path, Path]]:
    """The mapping of each of Gnocchi's publishers: as named, as found."""
    for publisher in publishers:
        url = urlsplit(publisher if "://" in publisher else f"{publisher}://")
        if url.scheme == "gnocchi":
            asked = parse_qs(url.query).get("resources_definition_file")
            name = asked[-1] if asked else gnocchi_resources.NAME
            yield (
                agent_conf.ETC / name,
                agent_conf.find(patient.conf, name, gnocchi_resources.CORE),
            )


def _is_core_s(path: Path) -> bool:
    """Whether nobody has written one for this host."""
    return path == agent_conf.core(gnocchi_resources.CORE)


def _command(asked: Path, path: Path) -> str:
    """What adds the meters; core's own file is left alone."""
    if _is_core_s(path):
        return f"ceilometer-perf gnocchi-resources > {asked}"
    return f"ceilometer-perf gnocchi-resources --in-place {path}"


def _metrics(path: Path) -> set[str]:
    """The meters that a mapping has, as a list or a mapping."""
    found: Any = definitions.load(path)
    return {
        name
        for resource in definitions.items(path, found, "resources")
        for name in definitions.names(path, resource, "metrics")
    }
