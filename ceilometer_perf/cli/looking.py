# SPDX-License-Identifier: Apache-2.0
"""What commands that read this host's instances share."""

import argparse
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping

from ceilometer_perf import wiring
from ceilometer_perf.counters.verdicts import Judgement
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.wiring import Parts


def parts(args: argparse.Namespace) -> Parts:
    """The agent's own parts, made from the agent's options."""
    conf = agent_conf.read(args.config_file, args.uri)
    return wiring.parts(conf, agent_conf.URIS)


#: The lowest level that is shown. The table itself shows what these warn of.
_SHOWN = {
    "ceilometer_perf": logging.WARNING,
    "ceilometer_perf.counters.gated": logging.ERROR,
    "ceilometer_perf.counters.monitor": logging.ERROR,
    "ceilometer_perf.rdt.look": logging.ERROR,
}
#: For a screen that nothing else may write to.
SILENT = {"ceilometer_perf": logging.CRITICAL}


@contextlib.contextmanager
def quiet(levels: Mapping[str, int] = _SHOWN) -> Iterator[None]:
    """Keep lower levels of these logs off the screen."""
    logs = {logging.getLogger(name): lowest for name, lowest in levels.items()}
    before = {log: log.level for log in logs}
    for log, level in logs.items():
        log.setLevel(level)
    try:
        yield
    finally:
        for log, level in before.items():
            log.setLevel(level)


def summary(judgements: Mapping[str, Judgement]) -> str:
    """How many meters have each verdict, briefly."""
    counts = Counter(j.verdict.value for j in judgements.values())
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(
        f"{number} {verdict}" for verdict, number in sorted(counts.items())
    )


def ratio(value: float | None) -> str:
    """For people."""
    return "-" if value is None else f"{value:.3f}"
