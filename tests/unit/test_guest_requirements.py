# SPDX-License-Identifier: Apache-2.0
"""What Nova has no function for, and what it says in words.

That the rest agrees with Nova is for test_nova_oracle to show.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import get_args

import pytest
from nova import exception

from ceilometer_perf import cpus, guest
from ceilometer_perf.guest import errors, nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from tests.unit import guest_rules

REALTIME = {"hw:cpu_realtime": "yes", "hw:cpu_policy": "dedicated"}


def conf(tmp_path: pathlib.Path, text: str) -> guest.NovaConf:
    path = tmp_path / "nova.conf"
    path.write_text(text)
    return nova_conf.read(NovaFiles((path,)))


@contextlib.contextmanager
def refused(nova_class: str, match: str | None = None) -> Iterator[None]:
    with pytest.raises(errors.NovaRefusal, match=match) as caught:
        yield
    assert caught.value.nova_class == nova_class


def test_nothing_asked_is_nothing_required() -> None:
    assert guest.resolve(guest.Asked(4)) == guest.Requirements()


@pytest.mark.parametrize("text", guest_rules.RULES)
def test_rules_of_nova(text: str) -> None:
    found = guest_rules.ours(guest_rules.case(text))
    assert found == guest_rules.expected(text)


WORDS = {
    "hw:cpu_policy=x":
        "hw:cpu_policy=x must be one of shared, mixed, dedicated",
    "hw_cpu_policy=x":
        "Image property hw_cpu_policy=x must be one of shared, mixed, "
        "dedicated: change or remove it",
    "resources:PCPU=3":
        "resources:PCPU=3, but this flavor needs exactly 4",
    "hw:cpu_dedicated_mask=0":
        "hw:cpu_dedicated_mask needs hw:cpu_policy=mixed",
    "hw:cpu_realtime=yes hw:cpu_realtime_mask=^0":
        "hw:cpu_realtime needs hw:cpu_policy dedicated or mixed",
    "hw:pmu=yes hw_pmu=no":
        "The flavor's hw:pmu is true, the image's hw_pmu is false: make them "
        "agree or unset one",
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WORDS.items())
def test_refusals_say_what_would_be_right(text: str, said: str) -> None:
    vcpus, flavor, image, _ = guest_rules.case(text)
    with pytest.raises(errors.NovaRefusal) as caught:
        guest.resolve(guest.Asked(vcpus, flavor, image))
    assert str(caught.value) == said


def test_nova_conf(tmp_path: pathlib.Path) -> None:
    read = conf(
        tmp_path,
        "[DEFAULT]\nmy_ip = 192.0.2.1\n"
        "[libvirt]\nvirt_type = kvm\nenabled_perf_events = a, B\n"
        "realtime_scheduler_priority = 3\n"
        "[compute]\ncpu_dedicated_set = 4-7,^5\ncpu_shared_set = 0-3\n",
    )
    assert read == guest.NovaConf(
        ("a", "B"), 3, frozenset({4, 6, 7}), frozenset(range(4))
    )


def test_an_empty_nova_conf_has_novas_defaults(
    tmp_path: pathlib.Path,
) -> None:
    assert conf(tmp_path, "") == guest.NovaConf()


@pytest.mark.parametrize(
    "text",
    [
        "no section = 1\n[",
        "[libvirt]\nrealtime_scheduler_priority = high\n",
        "[libvirt]\nrealtime_scheduler_priority = 0\n",
        "[libvirt]\nrealtime_scheduler_priority = 100\n",
        "[compute]\ncpu_dedicated_set = 0-3\ncpu_shared_set = 3-4\n",
    ],
)
def test_a_nova_conf_that_nova_would_not_start_with(
    tmp_path: pathlib.Path, text: str
) -> None:
    with refused("InvalidConfiguration"):
        conf(tmp_path, text)


def test_a_nova_conf_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with refused("InvalidConfiguration"):
        nova_conf.read(NovaFiles((tmp_path / "none",)))


def test_a_nova_conf_that_is_no_text(tmp_path: pathlib.Path) -> None:
    (tmp_path / "nova.conf").write_bytes(b"\xff\xfe\x00")
    with refused("InvalidConfiguration"):
        nova_conf.read(NovaFiles((tmp_path / "nova.conf",)))


@pytest.mark.parametrize("value", ["^1", "0-,1", "x"])
def test_a_cpu_set_that_is_none(tmp_path: pathlib.Path, value: str) -> None:
    with refused("Invalid"):
        conf(tmp_path, f"[compute]\ncpu_shared_set = {value}\n")


def test_events_are_spelled_as_libvirt_spells_them() -> None:
    asked = guest.NovaConf(perf_events=(" CPU_Clock", "cpu_clock", "", "nope"))
    found = guest.resolve(guest.Asked(1), asked)
    assert found.perf_events == ("cpu_clock",)
    assert [note.split()[2] for note in found.notes] == ["nope"]


def test_old_libvirt_and_old_kernel() -> None:
    asked = guest.NovaConf(perf_events=("cmt", "cpu_cycles", "cpu_clock"))
    old = guest.HostFacts(libvirt=(3, 0, 0), intel_cqm=True)
    found = guest.resolve(guest.Asked(1), asked, old)
    assert found.perf_events == ("cmt", "cpu_cycles")
    assert "3.2.0" in found.notes[0]
    new = guest.HostFacts(libvirt=(9, 0, 0))
    found = guest.resolve(guest.Asked(1), asked, new)
    assert found.perf_events == ("cpu_cycles", "cpu_clock")
    assert "4.14" in found.notes[0]


def test_a_boolean_that_is_none_is_noted() -> None:
    found = guest.resolve(guest.Asked(1, {"hw:pmu": "maybe"}))
    assert found.pmu is False
    assert "hw:pmu=maybe" in found.notes[0]
    assert guest.resolve(guest.Asked(1, {"hw:pmu": "yes"})).notes == ()


def test_an_image_property_that_nova_has_not_is_noted() -> None:
    image = {"hw_emulator_threads_policy": "share"}
    assert len(guest.resolve(guest.Asked(1, {}, image)).notes) == 1


SHARING = REALTIME | {"hw:emulator_threads_policy": "share"}
ISOLATED = REALTIME | {"hw:emulator_threads_policy": "isolate"}


def test_a_page_size_that_no_number_holds() -> None:
    """Nova's own API dies of it."""
    with refused("MemoryPageSizeInvalid"):
        guest.resolve(guest.Asked(1, {"hw:mem_page_size": "9" * 400 + "MB"}))


ALL, NONE = frozenset({0, 1}), frozenset[int]()
HOST = guest.NovaConf(realtime_priority=3, shared_cpus=frozenset({8, 9}))


@pytest.mark.parametrize(
    ("flavor", "conf", "expected"),
    [
        (
            REALTIME | {"hw:cpu_realtime_mask": "^0"},
            HOST,
            guest.Realtime(frozenset({1}), frozenset({0}), 3),
        ),
        (SHARING, None, guest.Realtime(ALL, NONE, 1, "share", None)),
        (
            SHARING,
            HOST,
            guest.Realtime(ALL, NONE, 3, "share", HOST.shared_cpus),
        ),
        (ISOLATED, HOST, guest.Realtime(ALL, NONE, 3, "isolate", None)),
    ],
)
def test_what_a_realtime_guest_needs(
    flavor: dict[str, str],
    conf: guest.NovaConf | None,
    expected: guest.Realtime,
) -> None:
    assert guest.resolve(guest.Asked(2, flavor), conf).realtime == expected


def test_sharing_threads_need_a_pool_on_a_known_host() -> None:
    asked = guest.Asked(2, SHARING)
    with refused("RealtimeMaskNotFoundOrInvalid", "cpu_shared_set"):
        guest.resolve(asked, guest.NovaConf())


def test_a_pool_is_what_of_it_is_online() -> None:
    asked = guest.Asked(2, SHARING)
    host = guest.NovaConf(shared_cpus=frozenset({0, 1, 9}))
    online = guest.HostFacts(online=frozenset(range(4)))
    found = guest.resolve(asked, host, online).realtime
    assert found is not None
    assert found.pool == frozenset({0, 1})
    off = guest.HostFacts(online=frozenset({5}))
    with refused("Invalid", "online"):
        guest.resolve(asked, host, off)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", set()),
        (" 1 , 3-4,^3 ,, ", {1, 4}),
        ("^2,0-2", {0, 1}),
        ("0-99999999999,^2-99999999999", {0, 1}),
        ("0-2,4,5,9", {0, 1, 2, 4, 5, 9}),
        ("8200,^10000", {8200}),
        ("8200,^8200", set()),
        ("9000-9002,^9001", {9000, 9002}),
        ("0-9,0-9,^5", {0, 1, 2, 3, 4, 6, 7, 8, 9}),
        ("0-99999999999", set(range(cpus.LIMIT + 1))),
        ("5,3-99999999999,^4", {3, *range(5, cpus.LIMIT + 5)}),
    ],
)
def test_cpu_sets(spec: str, expected: set[int]) -> None:
    assert cpus.parse(spec) == expected
    assert cpus.parse(cpus.text(expected)) == expected


def test_libvirt_reads_from_left_to_right() -> None:
    assert cpus.parse_libvirt("^2,0-2") == {0, 1, 2}
    assert cpus.parse_libvirt("0-2,^2,5,") == {0, 1, 5}
    assert cpus.parse_libvirt("8200,^10000,16383") == {8200, 16383}


@pytest.mark.parametrize("spec", ["16384", "0-16384", "0,^99999999999"])
def test_libvirt_has_a_highest_number(spec: str) -> None:
    with pytest.raises(ValueError, match="16383"):
        cpus.parse_libvirt(spec)


def test_cpu_sets_as_text() -> None:
    assert cpus.text({4, 0, 1, 2, 9, 5}) == "0-2,4-5,9"
    assert cpus.text(()) == ""


def test_refusals_have_the_names_of_novas_exceptions() -> None:
    names = get_args(errors.NovaClass)
    assert names
    assert [n for n in names if not hasattr(exception, n)] == []
