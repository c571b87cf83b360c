# SPDX-License-Identifier: Apache-2.0
"""The files and folders in which nova-compute finds its options.

By the rules of oslo.config, for any nova-compute: of this process's own,
oslo.config reads the home folder and the command line itself.
"""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from oslo_config import cfg

from ceilometer_perf import files
from ceilometer_perf.guest import errors

PROJECT, PROG = "nova", "nova-compute"

#: What is searched for without the option.
DEFAULTS = {"--config-file": ".conf", "--config-dir": ".conf.d"}


@dataclasses.dataclass(frozen=True)
class NovaFiles:
    """Files and folders, of which a later one wins.

    A folder stands for each ``*.conf`` in it, by name. ``origin`` is what
    named them, in messages: an option, or ``nova-compute's``.
    """

    names: tuple[Path, ...]
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.origin} {', '.join(map(str, self.names))}".strip()

    def paths(self) -> tuple[Path, ...]:
        """The files, in order; each of them can be read.

        :raises NovaRefusal: one can't, or a folder that was named by an
            option has none.
        """
        return tuple(self._paths())

    def only(self, name: Path) -> "NovaFiles":
        """One of them."""
        return dataclasses.replace(self, names=(name,))

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """What is wrong with them or a value becomes a NovaRefusal."""
        try:
            yield
        except RecursionError as error:
            raise self._refusal(
                "an option's value refers to itself by a $: write $$ for a "
                "dollar sign"
            ) from error
        except (cfg.Error, ValueError, OSError) as error:
            reason = _LOCATION.sub("", " ".join(files.why(error).split()))
            raise self._refusal(reason) from error

    def _paths(self) -> Iterator[Path]:
        for name in self.names:
            with self.only(name).refusing():
                found = _in(name) if name.is_dir() else [name]
            if not found and self.origin.startswith("-"):
                raise self.only(name)._refusal(
                    "has no *.conf file: name a folder that has one, or a file"
                )
            for path in found:
                with self.only(path).refusing():
                    # oslo.config would wait, or take all memory.
                    files.read(path)
                yield path

    def _refusal(self, why: str) -> errors.NovaRefusal:
        return errors.NovaRefusal("InvalidConfiguration", f"{self}: {why}")


# In oslo.config's words, which name the wrong file where several have the
# option's group.
_LOCATION = re.compile(r" from LocationInfo\(.*\)(?= is not valid)")


def _in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix == ".conf" and not path.name.startswith(".")
    )


def started_with(
    argv: Sequence[str], home: Path | None, root: Path = Path("/")
) -> tuple[Path, ...]:
    """What a nova-compute with these arguments reads.

    ``home`` is the folder of its user, and ``root`` where its / is. What it
    was given relative to its working directory stays relative.
    """
    named = list(_named(argv))
    given = {option for option, _ in named}
    folders = [Path("/etc", PROJECT), Path("/etc")]
    if home is not None:
        folders = [home / f".{PROJECT}", home, *folders]
    return (
        *(
            path
            # Of one option, even where the other is given; and before it.
            for option, suffix in DEFAULTS.items()
            if option not in given
            for path in _searched(folders, suffix, root)
        ),
        *(_below(root, Path(name)) for _, name in named),
    )


def _named(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = iter(argv)
    for word in words:
        option, equals, name = word.partition("=")
        if option in DEFAULTS:
            yield option, name if equals else next(words, "")


def _searched(
    folders: Sequence[Path], suffix: str, root: Path
) -> Iterator[Path]:
    """``cfg.find_config_files`` and ``find_config_dirs``."""
    for name in PROJECT, PROG:
        found = (_below(root, x / f"{name}{suffix}") for x in folders)
        # Path.exists raises where the home is closed to this user.
        there = (path for path in found if os.path.exists(path))  # noqa: PTH110
        yield from itertools.islice(there, 1)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/") if path.is_absolute() else path
