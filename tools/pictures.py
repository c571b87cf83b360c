# SPDX-License-Identifier: Apache-2.0
"""Make the pictures of doc/source/images out of a lab that does something.

Guests that work, rest, come, go, lose their counters and take another one's
CPU, an agent, a Prometheus with the rules, `ceilometer-perf report`, and
Chromium, which photographs the pages.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from ceilometer_perf.panels.table import DASHBOARDS
from tests.chain.prometheus import Prometheus
from tests.chain.server import LOOPBACK, free_ports
from tests.functional.agent import Agent
from tests.lab import EVENTS, Guest, Hardware, Lab, LabError
from tests.lab.pinning import GREED, pin
from tests.lab.requirements import find
from tools.progress import steps
from tools.usage.numbers import at_least

IMAGES = Path(__file__).parents[1] / "doc" / "source" / "images"
BIN = Path(sys.executable).parent
NOTE = (
    "The hardware is emulated: clocks stand in for the PMU and for resctrl, "
    "and each event counts at a fixed rate while a CPU is in use."
)
METERS = ("perf.*", "cpu_l3_cache*", "memory.bandwidth.*")
WINDOW = "30s"  # of rates, as the lab polls every second
BROWSER = "chromium"
HOST = "compute-1"
WIDTH, COLOURS = 1360, 256
# As large as the L3 that libvirt reports here is likely to be.
HARDWARE = Hardware(settling=4.0, l3_bytes=480 << 20, working_set=140 << 20)
LEGACY = Guest("legacy-1", "spin", events=())
BATCH = Guest("batch-1", "spin", vcpus=2)
WEB = Guest("web-1", "spin")
DB = Guest("db-1", "spin")
GREEDY = Guest("greedy-1", "spin")
STEADY = (DB, Guest("idle-1", "idle"))

Act = Callable[[Lab], object]


def _pause(lab: Lab) -> None:
    lab.domain(WEB).suspend()


def _resume(lab: Lab) -> None:
    lab.domain(WEB).resume()


def _count(lab: Lab) -> None:
    """Enabled while it runs: they see none of its vCPUs."""
    lab.domain(LEGACY).setPerfEvents(dict.fromkeys(EVENTS, True))


def _one_cpu(lab: Lab, guest: Guest, nice: int) -> None:
    pin(lab.qemu_pid(guest), min(os.sched_getaffinity(0)), nice)


def _take_its_cpu(lab: Lab) -> None:
    """From the database, which is used to having nearly all of one."""
    lab.start(GREEDY)
    _one_cpu(lab, GREEDY, 2 * GREED)


# What happens when, in parts of the whole time.
PLAY: tuple[tuple[float, Act], ...] = (
    (0.12, lambda lab: lab.start(BATCH)),
    (0.25, _pause),
    (0.35, _resume),
    (0.42, lambda lab: lab.destroy(BATCH)),
    (0.45, lambda lab: lab.start(LEGACY)),
    (0.50, _count),
    (0.60, _pause),
    (0.66, lambda lab: lab.domain(BATCH).create()),
    (0.72, _resume),
    (0.85, lambda lab: lab.remove(BATCH)),
    (0.87, _take_its_cpu),
)


def main() -> None:
    """Run the play, then take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=at_least(60), default=300, help="default: 300"
    )
    seconds = parser.parse_args().seconds
    try:
        find(BROWSER, BROWSER)
    except LabError as error:
        parser.exit(2, f"pictures: {error}\n")
    with TemporaryDirectory(prefix="pictures-") as name:
        folder = Path(name)
        _measure(folder, seconds)
        IMAGES.mkdir(exist_ok=True)
        for page in DASHBOARDS:
            _photograph(page.name, folder)


def _measure(folder: Path, seconds: int) -> None:
    with ExitStack() as stack, steps() as step:
        step("Starting the lab")
        lab = stack.enter_context(Lab(fake_pmu=True, resctrl=HARDWARE))
        exporter = f"{LOOPBACK}:{free_ports(1)[0]}"
        prometheus = Prometheus(
            folder / "prometheus", {HOST: exporter}, window=WINDOW
        )
        prometheus.start()
        stack.callback(prometheus.server.stop)
        prometheus.server.wait()
        lab.start_all((*STEADY, WEB))
        _one_cpu(lab, DB, GREED)
        stack.enter_context(
            Agent(
                folder / "agent",
                lab,
                meters=METERS,
                perf=f"resctrl_path = {lab.resctrl_path}\n"
                f"privsep_helper = {BIN}/privsep-helper "
                f"--config-file {folder}/agent/ceilometer.conf",
                exporter=exporter,
            )
        )
        began = time.monotonic()
        for when, act in PLAY:
            step(f"Playing: {when:.0%}")
            _sleep_until(began + when * seconds)
            act(lab)
        step("Playing: to the end")
        _sleep_until(began + seconds)
        step("Drawing")
        for page in DASHBOARDS:
            only = ("--instance", WEB.uuid) if "vm" in page.chosen else ()
            _report(
                folder / f"{page.name}.html", "--url", prometheus.url,
                "--window", f"{seconds}s", "--page", page.name, *only,
            )  # fmt: skip


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def _report(path: Path, *options: str) -> None:
    subprocess.run(
        [BIN / "ceilometer-perf", "report", path, "--note", NOTE, *options],
        check=True,
    )


def _photograph(page: str, folder: Path) -> None:
    """One dashboard, as long as it is."""
    html, picture = folder / f"{page}.html", IMAGES / f"report-{page}.png"
    subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu",
         "--hide-scrollbars", "--virtual-time-budget=20000",
         f"--window-size={WIDTH},4000", f"--screenshot={picture}",
         html.as_uri()],
        check=True,
        capture_output=True,
    )  # fmt: skip
    image = Image.open(picture).convert("RGB")
    bottom = _bottom(image)
    cut = image.crop((0, 0, image.width, bottom))
    cut.quantize(COLOURS).save(picture, optimize=True)
    sys.stdout.write(f"{picture}: {picture.stat().st_size} bytes\n")


def _bottom(image: Image.Image) -> int:
    """Below the last row that is not white."""
    inverted = image.convert("L").point(lambda value: 255 - value)
    box = inverted.getbbox()
    return min(image.height, (box[3] if box else image.height) + 20)


if __name__ == "__main__":
    main()
