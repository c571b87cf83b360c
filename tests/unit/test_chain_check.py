# SPDX-License-Identifier: Apache-2.0
"""The chain's comparison finds what is wrong."""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ceilometer_perf.meters import COVERAGE, METERS
from tests.chain.agents import Sent
from tests.chain.check import Series, outstanding
from tests.chain.expected import Given
from tests.chain.prometheus import Scraped
from tests.chain.wire import Wire
from tests.lab.rpc import GET_ALL_DOMAIN_STATS

START = 1_800_000_000.0  # the beginning of a minute
END = START + 5  # the last scrape
CYCLES = METERS[0]
VALUES = (100, 130, 190)
GOOD = {"mean": {0: 100, 2: 130, 4: 190}, "rate:mean": {0: 45}}


class FakeGnocchi:
    def __init__(self, **changes: Mapping[int, float | None]) -> None:
        self._answers = {
            what: {
                START + at: value
                for at, value in {
                    **values,
                    **changes.get(what.replace(":", "_"), {}),
                }.items()
                if value is not None
            }
            for what, values in GOOD.items()
        }

    def metrics(self, uuid: str) -> Mapping[str, str]:
        return {CYCLES.name: "id"}

    def measures(
        self, metric: str, aggregation: str, span: int
    ) -> Mapping[float, float]:
        return self._answers[aggregation]


def sent(at: float, value: float) -> Sent:
    when = datetime.fromtimestamp(START + at, UTC).replace(tzinfo=None)
    sample = {"timestamp": when.isoformat(), "counter_volume": value}
    return Sent(sample, START + at + 0.1, START + at + 0.2)


def series(
    given: tuple[float | None, ...] = VALUES, late: float = 0
) -> Series:
    return Series(
        CYCLES,
        [
            Given(value, START + 2 * n + 0.25 - late)
            for n, value in enumerate(given)
        ],
        [sent(2 * n + 0.25, value) for n, value in enumerate(VALUES)],
    )


def test_all_is_well() -> None:
    found = series()
    found.look_into_gnocchi(FakeGnocchi(), "id")
    found.look_into_prometheus(
        [Scraped(START + 2 * n + 1, v) for n, v in enumerate(VALUES)], END
    )
    row = found.row("web")
    assert row.equal
    assert (row.libvirt, row.gnocchi, row.prometheus) == (190, 190, 190)
    assert row.rate
    assert row.rate.libvirt == row.rate.gnocchi == 45


@pytest.mark.parametrize(
    "scraped",
    [
        Scraped(START + 2, 130, 0.4),  # sent while it lasted
        Scraped(START + 2.4, 100),  # sent, and not exported yet
    ],
)
def test_a_sample_is_sent_and_then_exported(scraped: Scraped) -> None:
    found = series()
    found.look_into_prometheus([scraped], END)
    assert found.row("web").equal


@pytest.mark.parametrize("given", [(100, 130, 191), (100, None, 190)])
def test_libvirt_gave_something_else(
    given: tuple[float | None, ...],
) -> None:
    assert not series(given).row("web").equal


def test_libvirt_gave_it_long_before() -> None:
    assert "1.0 s earlier" in series(late=1.0).row("web").amiss[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": {2: None}},  # lost
        {"mean": {2: 131}},
        {"mean": {3: 131}},  # made up
        {"rate_mean": {0: 44}},
        {"rate_mean": {0: None}},
        {"rate_mean": {60: 1}},
    ],
)
def test_gnocchi_has_something_else(
    changes: Mapping[str, Mapping[int, float | None]],
) -> None:
    found = series()
    found.look_into_gnocchi(FakeGnocchi(**changes), "id")
    assert len(found.row("web").amiss) == 1


@pytest.mark.parametrize(
    ("meter", "changes", "late"),
    [
        (CYCLES.name, {}, False),
        (CYCLES.name, {"mean": {0: None}}, True),  # the others are there
        (COVERAGE.name, {}, True),
    ],
)
def test_what_gnocchi_lacks_yet(
    meter: str, changes: Mapping[str, Mapping[int, None]], late: bool
) -> None:
    pending = {("web", meter): {START, START + 2, START + 4}}
    found = outstanding(FakeGnocchi(**changes), pending)
    assert found == (pending if late else {})


@pytest.mark.parametrize(
    "scraped",
    [
        [],
        [Scraped(START + 1, 131)],  # never sent
        [Scraped(START + 4, 100)],  # long replaced
        [Scraped(START + 1, 130)],  # not sent yet
        [Scraped(START + 2, 130, 0.3)],  # nor when the scrape ended
    ],
)
def test_prometheus_has_something_else(scraped: list[Scraped]) -> None:
    found = series()
    found.look_into_prometheus(scraped, END)
    assert len(found.row("web").amiss) == 1


def test_the_first_sample_was_sent_after_the_last_scrape() -> None:
    found = series()
    found.look_into_prometheus([], last=START + 0.3)
    assert found.row("web").equal


def test_what_was_not_sent_must_not_be_there() -> None:
    found = Series(CYCLES, [], [])
    found.look_into_gnocchi(FakeGnocchi(), "id")
    found.look_into_prometheus([Scraped(START, 1)], END)
    assert len(found.row("web").amiss) == 5


@pytest.mark.parametrize(("value", "equal"), [(1.04, True), (1.06, False)])
def test_coverage_is_right_within_its_precision(
    value: float, equal: bool
) -> None:
    found = Series(COVERAGE, [Given(1.0, START)], [sent(0, value)])
    assert found.row("web").equal is equal


def test_answers_on_the_wire() -> None:
    """As XDR has them (RFC 4506)."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)

    def parameter(name: str, kind: int, value: bytes) -> bytes:
        return text(name) + struct.pack(">i", kind) + value

    uuid = "f7827f82-9860-5fee-a95d-7fde6eb0ff93"
    answer = b"".join(
        [
            struct.pack(">I", 1),
            text("instance-1"),
            bytes.fromhex(uuid.replace("-", "")),
            struct.pack(">i", 7),
            struct.pack(">I", 3),
            parameter("perf.cpu_cycles", 4, struct.pack(">Q", 2**63)),
            parameter("name", 7, text("vcpus_0")),
            parameter("count", 2, struct.pack(">I", 2)),
        ]
    )
    wire = Wire()
    wire.see(GET_ALL_DOMAIN_STATS - 1, b"of no interest")
    wire.see(GET_ALL_DOMAIN_STATS, answer)
    expected: dict[str, Any] = {
        "perf.cpu_cycles": 2**63,
        "name": "vcpus_0",
        "count": 2,
    }
    ((_, stats),) = wire.told(uuid, "count")
    assert stats == expected
    assert wire.told(uuid, "perf.cmt") == []
