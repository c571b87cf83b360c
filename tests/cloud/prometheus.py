# SPDX-License-Identifier: Apache-2.0
"""What users see of their instances in Prometheus, and what alarms they get.

Through Aetos, which Aodh asks as well.
"""

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tests.chain.prometheus import metric
from tests.cloud.aetos import Aetos
from tests.cloud.alarms import Alarms
from tests.cloud.cloud import WINDOW
from tests.cloud.identity import Identity
from tests.cloud.story import Story
from tests.cloud.witness import TASK_CLOCK

ALARM = Path(__file__).parents[2] / "etc/aodh/slowed-down-prometheus.json"
#: Nobody calls it, as there is no aodh-notifier.
WEBHOOK = "http://127.0.0.1/"
CLOCK = metric(TASK_CLOCK)
#: As users may ask, and for a series that a rule records.
QUERIES = (
    CLOCK,
    f'{CLOCK}{{instance=~"compute.", project!=""}}',
    f"sum by (project) (last_over_time({CLOCK}[{WINDOW}]))",
    "vm:perf_cpus:rate10m",
)
#: Seconds, in which a scrape that has begun has come to an end.
SETTLED = 5
#: Nanoseconds of CPU time in a second; a paused QEMU uses some, too.
LITTLE = 1e6


def each_sees_his_own(story: Story, _done: float) -> None:
    """An ordinary user what is his project's, an administrator all of it.

    As Prometheus has it, to the last bit.
    """
    own = Identity(story.world.cloud.site)
    project = own.demo.current_project_id
    prometheus = story.world.cloud.prometheus

    def now() -> float:
        """When all have instances of both projects, 0 if they don't."""
        at = time.time() - SETTLED
        counts = (
            f'count({each}{{project{sign}"{project}"}})'
            for each in (CLOCK, QUERIES[-1])
            for sign in ("=", "!=")
        )
        return at if all(prometheus.query(c, time=at) for c in counts) else 0

    at = story.until(now, "Prometheus has instances of two projects")
    for query in QUERIES:
        found = prometheus.query(query, time=at)
        his = [s for s in found if s["metric"]["project"] == project]
        assert 0 < len(his) < len(found)
        assert _values(Aetos(own.admin).query(query, time=at)) == _values(
            found
        )
        assert _values(Aetos(own.demo).query(query, time=at)) == _values(his)
        story.row.published += f"{len(his)} of {len(found)} "
    there = Aetos(own.demo).query(f"last_over_time({CLOCK}[{WINDOW}])")
    assert story.uuid in {each["metric"]["resource"] for each in there}


def _values(found: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """Time and value, by labels."""
    return {json.dumps(s["metric"], sort_keys=True): s["value"] for s in found}


def set_alarm(story: Story) -> None:
    """An ordinary user's, on CPU time that his instance uses."""
    _set_alarm(
        Identity(story.world.cloud.site).demo, story.uuid,
        f'max(rate({CLOCK}{{resource="{story.uuid}"}}[{WINDOW}]))',
        LITTLE,
    )  # fmt: skip


def is_in(state: str) -> Callable[[Story, float], None]:
    """That alarm gets to this state."""

    def check(story: Story, _done: float) -> None:
        alarms = Alarms(Identity(story.world.cloud.site).demo)
        story.until(
            lambda: alarms.find(story.uuid)["state"] == state,
            f"its alarm is in the state {state}",
        )
        story.row.published = f"alarm: {state}"

    return check


def nobody_hears_of_others(story: Story, _done: float) -> None:
    """The same alarm, of an ordinary user and of an administrator.

    It is about the instances of other projects than the former's.
    """
    own = Identity(story.world.cloud.site)
    project = own.demo.current_project_id
    name = "others"
    query = f'max(last_over_time({CLOCK}{{project!="{project}"}}[{WINDOW}]))'
    for user in (own.demo, own.admin):
        _set_alarm(user, name, query, 0)
    his, admins = Alarms(own.demo), Alarms(own.admin)
    story.until(
        lambda: admins.find(name)["state"] == "alarm",
        "an administrator's alarm about all projects",
    )
    at = admins.find(name)["state_timestamp"]
    for _ in range(2):  # the first has begun, the second shows that it ended
        at = story.until(partial(_evaluated, his, name, at), "an evaluation")
    assert his.find(name)["state"] == "insufficient data"
    story.row.published = "alarm: an administrator's alone"


def _evaluated(alarms: Alarms, name: str, after: str) -> str:
    """When it was after that time; empty if it was not."""
    at = str(alarms.find(name)["evaluate_timestamp"])
    return at if at > after else ""


def _set_alarm(user: Any, name: str, query: str, threshold: float) -> None:
    """As our own for Prometheus is, with another query and threshold."""
    body = json.loads(ALARM.read_text())
    body["prometheus_rule"] |= {"query": query, "threshold": threshold}
    # Ordinary users may not have what the file has.
    Alarms(user).create({**body, "name": name, "alarm_actions": [WEBHOOK]})
