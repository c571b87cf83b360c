# SPDX-License-Identifier: Apache-2.0
"""One instance takes the CPU of another, until Watcher migrates it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ceilometer_perf.meters import CULPRIT, VICTIM, Meter
from ceilometer_perf.neighbours.judge import LEAST_BEFORE
from tests.chain.prometheus import metric
from tests.cloud.aetos import Aetos
from tests.cloud.flavors import DEDICATED
from tests.cloud.identity import Identity
from tests.cloud.story import Story
from tests.cloud.watcher import Watcher
from tests.cloud.witness import Seen
from tests.lab.pinning import GREED, pin

#: Seconds for which both must have lasted.
PERIOD = 10
NAME = "victim"
#: Those of the strategy.
THRESHOLDS = {VICTIM: 0.15, CULPRIT: 0.35}


def take_cpu(nice: int) -> Callable[[Story], None]:
    """Have the host's other CPU, the sooner the lower ``nice`` is.

    It is no CPU of the other host's: those are one machine's here.
    """

    def act(story: Story) -> None:
        server = story.server()
        folder = story.world.compute(story.host).lab.run_dir / "qemu"
        path: Path = folder / f"{server.instance_name}.pid"
        pin(int(path.read_text()), int(DEDICATED), nice)

    return act


#: Other processes of this machine are no neighbours of an instance.
BEFORE_OTHERS, BEFORE_ALL = take_cpu(GREED), take_cpu(2 * GREED)


def is_known(story: Story, done: float) -> None:
    """The agent has learnt what is usual for it."""
    needed = LEAST_BEFORE + 3
    story.until(
        lambda: len(story.published(done, meter=VICTIM.name)) >= needed,
        "it is known what is usual",
    )
    story.row.published = f"{VICTIM.name}, {needed} times"


def boot_beside(story: Story) -> None:
    """On the victim's host, on which it was alone with idle ones."""
    story.boot("perf.small", "spin", _victim(story).compute_host)


def is_named(story: Story, _done: float) -> None:
    """Victim and culprit are, for as long as the audit wants it."""
    admin = Aetos(Identity(story.world.cloud.site).admin)
    asked = {VICTIM: _victim(story).id, CULPRIT: story.uuid}

    def lasts(meter: Meter) -> bool:
        series = f'{metric(meter.name)}{{resource="{asked[meter]}"}}'
        lowest = f"min_over_time({series}[{PERIOD}s])"
        return bool(admin.query(f"{lowest} >= {THRESHOLDS[meter]}"))

    story.until(lambda: all(map(lasts, asked)), "the harm lasts")
    (last,) = _last(story, asked[VICTIM])
    about = last.metadata["perf"]
    assert (about["cause"], about["partner"]) == ("cpu", story.uuid), about
    story.row.published = f"the victim loses {last.volume:.0%}"


def audit(story: Story) -> None:
    """As an administrator has it done."""
    watcher = Watcher(Identity(story.world.cloud.site).admin)
    before = story.host
    made = watcher.audit(period=PERIOD)
    story.until(
        lambda: watcher.plan(made) in ("SUCCEEDED", "FAILED"),
        "the plan is carried out",
    )
    assert watcher.plan(made) == "SUCCEEDED"
    (action,) = watcher.actions(made)
    assert action["resource_id"] == story.uuid
    assert action["source_node"] == before
    assert action["destination_node"] == story.host != before


def is_over(story: Story, done: float) -> None:
    """The victim is none any more."""
    victim = _victim(story)

    def relieved() -> bool:
        last = _last(story, victim.id)
        return bool(last) and last[0].at > done and last[0].volume == 0

    story.until(relieved, "the victim is none any more")
    story.row.published = f"on {story.host}, nobody loses any more"


def _victim(story: Story) -> Any:
    """What Nova says of it."""
    servers = story.admin.servers(all_projects=True, name=NAME)
    return next(each for each in servers if each.name == NAME)


def _last(story: Story, uuid: str) -> list[Seen]:
    samples = story.world.samples
    return samples.after(0, instance=uuid, meter=VICTIM.name)[-1:]
