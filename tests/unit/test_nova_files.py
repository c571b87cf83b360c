# SPDX-License-Identifier: Apache-2.0
"""Nova's options come from the files that nova-compute reads, in its order."""

import itertools
import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from oslo_config import cfg

from ceilometer_perf import files
from ceilometer_perf.guest import errors, nova_conf, nova_files
from ceilometer_perf.guest.nova_files import NovaFiles, started_with
from ceilometer_perf.host import nova_compute
from ceilometer_perf.slices import spec
from tests.unit import shell

#: As Debian's packages start nova-compute.
DEBIAN = ("nova.conf", "nova-compute.conf")


def events(*names: str) -> str:
    return f"[libvirt]\nenabled_perf_events = {', '.join(names)}\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Two files and a folder, which all say something else."""
    (tmp_path / "nova.conf").write_text(
        events("a") + "[compute]\ncpu_shared_set = 0-1\n"
    )
    (tmp_path / "nova-compute.conf").write_text(
        events("b") + "realtime_scheduler_priority = 2\n"
    )
    folder = tmp_path / "nova.conf.d"
    folder.mkdir()
    (folder / "10.conf").write_text(events("ten"))
    (folder / "9.conf").write_text(events("nine"))  # "10" sorts before it
    (folder / ".hidden.conf").write_text(events("hidden"))
    (folder / "README").write_text("not options\n")
    return tmp_path


def read(folder: Path, *names: str) -> nova_conf.NovaConf:
    return nova_conf.read(NovaFiles(tuple(folder / name for name in names)))


def test_debians_pair(etc: Path) -> None:
    found = read(etc, *DEBIAN)
    assert found.perf_events == ("b",)
    assert found.realtime_priority == 2
    assert found.shared_cpus == frozenset({0, 1})


def test_what_comes_later_wins(etc: Path) -> None:
    assert read(etc, *reversed(DEBIAN)).perf_events == ("a",)
    assert read(etc, "nova.conf", "nova.conf.d").perf_events == ("nine",)
    assert read(etc, "nova.conf.d", "nova.conf").perf_events == ("a",)


@pytest.mark.parametrize(
    "names",
    [
        names
        for number in (1, 2, 3)
        for names in itertools.permutations((*DEBIAN, "nova.conf.d"), number)
    ],
)
def test_oslo_config_agrees(etc: Path, names: Sequence[str]) -> None:
    """Of an option that holds one value, and of one that collects them."""
    for at, path in enumerate(sorted(etc.rglob("*.conf"))):
        with path.open("a") as file:
            file.write(f"[libvirt]\n{spec.OPTION} = {at}.1\n")
            file.write(f"{spec.OPTION} = {at}.2\n")
    opts = {"libvirt": [*nova_conf.LIBVIRT_OPTS, *spec.OPTS]}
    novas = cfg.ConfigOpts()
    novas.register_opts(opts["libvirt"], group="libvirt")
    novas([f"--config-{_kind(etc / name)}={etc / name}" for name in names])
    where = NovaFiles(tuple(etc / name for name in names))
    with nova_conf.opened(where, opts) as ours:
        for option in opts["libvirt"]:
            assert ours.libvirt[option.dest] == novas.libvirt[option.dest]
    texts = [text for text, _ in spec._texts(where)]
    assert texts == novas.libvirt.slice_spec


def _kind(path: Path) -> str:
    return "dir" if path.is_dir() else "file"


def test_templates_are_beside_the_file_that_names_them(etc: Path) -> None:
    for folder in etc, etc / "nova.conf.d":
        (folder / f"{folder.name}.xml").write_text("<domain/>")
        with (folder / "9.conf").open("a") as file:
            file.write(
                f'[libvirt]\nslice_spec = {{"name": "{folder.name}", '
                f'"resource_class": "CUSTOM_A", '
                f'"template_file": "{folder.name}.xml"}}\n'
            )
    found = spec.read(NovaFiles((etc / "9.conf", etc / "nova.conf.d")))
    assert [each.template_file for each in found] == [
        str(etc / f"{etc.name}.xml"),
        str(etc / "nova.conf.d" / "nova.conf.d.xml"),
    ]


COMMANDS = [
    "guest resolve --vcpus 1",
    "doctor",
    "slice tree",
    "slice validate",
    "slice render --slice a --instance-json b",
    "slice sync",
    "slice flavors",
    "slice choose --consumer 7d4ab4bd-f572-5a34-a3b9-2ad4ddea3499",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_files(command: str, tmp_path: Path) -> None:
    (tmp_path / "nova.conf").write_text("")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nova.conf.d" / "folder.conf").mkdir(parents=True)
    for path, why in {
        tmp_path / "none": "No such file or directory",
        tmp_path / "empty": "has no *.conf file",
        tmp_path / "pipe": "not a regular file",
        tmp_path / "nova.conf.d": "folder.conf: not a regular file",
        Path("/dev/zero"): "not a regular file",
    }.items():
        names = (f"--nova-conf={x}" for x in (tmp_path / "nova.conf", path))
        ran = shell.run(*command.split(), *names)
        assert (ran.code, ran.out) == (2, "")
        assert f"--nova-conf {path}" in ran.err
        assert why in ran.err
        assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[libvirt]\nwhat\n", "nova-compute.conf:2"),
        (
            "[libvirt]\nrealtime_scheduler_priority = high\n",
            "Value for option realtime_scheduler_priority is not valid: ",
        ),
        ("\xff", "can't decode"),
    ],
)
def test_bad_text_is_in_the_file_that_has_it(
    etc: Path, text: str, says: str
) -> None:
    (etc / "nova-compute.conf").write_text(text, "latin-1")
    names = [etc / "nova.conf", etc / "nova-compute.conf", etc / "nova.conf.d"]
    ran = shell.run(
        "guest", "resolve", "--vcpus=1",
        *(f"--nova-conf={name}" for name in names),
    )  # fmt: skip
    assert ran.code == 2
    assert f"--nova-conf {etc}/nova-compute.conf: " in ran.err
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_bad_value_that_a_later_file_replaces(etc: Path) -> None:
    """Nova starts with it."""
    with (etc / "nova.conf").open("a") as file:
        file.write("[libvirt]\nrealtime_scheduler_priority = high\n")
    assert read(etc, *DEBIAN).realtime_priority == 2


def test_a_file_that_may_not_be_read(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "read", denied)
    with pytest.raises(errors.NovaRefusal) as caught:
        NovaFiles((etc / "nova.conf",), "--nova-conf").paths()
    assert str(caught.value) == (
        f"--nova-conf {etc}/nova.conf: Permission denied"
    )


# What nova-compute was started with


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        ([], ["nova.conf", "nova-compute.conf", "nova.conf.d"]),
        (["--config-file", "/x"], ["nova.conf.d", "x"]),
        (["--config-dir=/x"], ["nova.conf", "nova-compute.conf", "x"]),
        (
            ["--config-file=/x", "--debug", "--config-dir", "/y",
             "--config-file", "/z"],
            ["x", "y", "z"],
        ),
    ],
)  # fmt: skip
def test_started_with(etc: Path, argv: list[str], names: list[str]) -> None:
    home = etc / "home" / ".nova"
    home.mkdir(parents=True)
    for name in (*DEBIAN, "nova.conf.d"):
        (etc / name).rename(home / name)
    found = started_with(argv, etc / "home")
    assert [path.name for path in found] == names
    root = etc / "home"
    assert started_with(argv, Path("/"), root) == tuple(
        root / ".nova" / n if (home / n).exists() else root / n for n in names
    )


def test_the_search_is_oslos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ".nova/nova.conf", "nova.conf", "nova-compute.conf":
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "nova-compute.conf.d").mkdir()
    oslos = [
        *cfg.find_config_files("nova", "nova-compute"),
        *cfg.find_config_dirs("nova", "nova-compute"),
    ]
    assert [str(path) for path in started_with((), tmp_path)] == oslos
    assert len(oslos) >= 3


def test_a_home_that_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def denied(path: str | Path, **how: bool) -> os.stat_result:
        if Path(path).is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **how)

    monkeypatch.setattr(os, "stat", denied)
    assert started_with(("--config-file=/a",), tmp_path)[-1] == Path("/a")


class Proc:
    """A /proc with a user's home, and mount namespaces."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "proc"
        self.home = folder / "home"
        self.home.mkdir()
        user = SimpleNamespace(pw_dir=str(self.home))
        monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
        monkeypatch.setattr(pwd, "getpwnam", lambda _name: user)
        self.runs("self", [], "mnt:[1]")

    def runs(
        self, pid: str, argv: Sequence[str], mounts: str | None = "mnt:[1]"
    ) -> None:
        process = self.path / pid
        (process / "ns").mkdir(parents=True)
        (process / "cmdline").write_text("".join(f"{w}\0" for w in argv))
        if mounts is not None:
            (process / "ns" / "mnt").symlink_to(mounts)

    def found(self) -> NovaFiles:
        found = nova_compute.configuration(self.path)
        assert found is not None
        return found


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    return Proc(tmp_path, monkeypatch)


PYTHON, NOVA = "/usr/bin/python3", "/usr/bin/nova-compute"
ARGS = "--config-file=/a --config-file /b"
TITLE = f"nova-compute: master process [{NOVA} {ARGS}]"


@pytest.mark.parametrize(
    "argv",
    [
        [PYTHON, NOVA, "--config-file=/a", "--config-file=/b", "--debug"],
        [NOVA, "--config-file", "/a", "--config-file", "/b"],
        [TITLE],
    ],
)  # fmt: skip
def test_of_the_running_one(proc: Proc, argv: list[str]) -> None:
    proc.runs("7", ["grep", "--config-file=/c", "nova-compute"])
    proc.runs("9", [PYTHON, NOVA, "--config-file=/d"], "mnt:[2]")
    proc.runs("10", argv)
    proc.runs("11", [PYTHON, NOVA, "--config-file=/c"])  # its worker, say
    assert str(proc.found()) == "nova-compute's /a, /b"


def test_of_one_with_other_mounts(proc: Proc) -> None:
    """A container's, seen from the host: it means its own files."""
    proc.runs("9", [PYTHON, NOVA, "--config-file=/d", "x.conf"], "mnt:[2]")
    assert proc.found().names == (proc.path / "9" / "root" / "d",)


def test_of_one_whose_mounts_are_hidden(proc: Proc) -> None:
    proc.runs("9", [PYTHON, NOVA, "--config-file=/d"], None)
    assert proc.found().names == (Path("/d"),)


def test_relative_to_where_it_works(proc: Proc) -> None:
    proc.runs("9", [PYTHON, NOVA, "--config-file=d"])
    assert proc.found().names == (proc.path / "9" / "cwd" / "d",)


@pytest.mark.parametrize("runs", [True, False])
def test_the_default_files(proc: Proc, runs: bool) -> None:
    (proc.home / "nova.conf").touch()
    if runs:
        proc.runs("9", [PYTHON, NOVA])
    found = proc.found()
    assert found.names[0] == proc.home / "nova.conf"
    assert found.origin == ("nova-compute's" if runs else "")


def test_none(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nova_files, "PROJECT", "no-such-project")
    monkeypatch.setattr(nova_files, "PROG", "no-such-program")
    assert nova_compute.configuration(proc.path) is None


def test_a_user_without_a_name(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_uid: int) -> Mapping[str, str]:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    proc.runs("9", [PYTHON, NOVA, "--config-file=/d"])
    assert proc.found().names == (Path("/d"),)
