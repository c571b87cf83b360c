# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's configuration as its agents find it, without Ceilometer.

For commands, which run outside the agent. Names and defaults are core's.
"""

import errno
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from oslo_config import cfg

from ceilometer_perf import files, options

#: Of ``ceilometer.compute.virt.libvirt.utils``.
URIS = {"parallels": "parallels:///system", "lxc": "lxc:///"}

LIBVIRT_OPTS = [
    cfg.StrOpt(
        "libvirt_type",
        default="kvm",
        choices=["kvm", "lxc", "qemu", "parallels"],
    ),
    cfg.StrOpt("libvirt_uri", default=""),
]
PIPELINE_OPTS = [cfg.StrOpt("pipeline_cfg_file", default="pipeline.yaml")]
POLLING_OPTS = [cfg.StrOpt("cfg_file", default="polling.yaml")]


ETC = Path("/etc/ceilometer")
PROJECT, PROG = "ceilometer", "ceilometer-polling"
AS_AGENT = (
    "run this as the agent's user or as root, or name copies with "
    "--config-file"
)


def read(named: Sequence[str] = (), uri: str | None = None) -> cfg.ConfigOpts:
    """Read these files, or else those that the polling agent reads.

    ``uri`` takes the place of the ``libvirt_uri`` in them.

    :raises cfg.Error: a file is missing, may not be read, or can't be parsed
        by oslo.config.
    """
    conf = cfg.ConfigOpts()
    conf.register_opts(LIBVIRT_OPTS)
    conf.register_opts(PIPELINE_OPTS)
    conf.register_opts(POLLING_OPTS, group="polling")
    options.register(conf)
    for file in named or [*_defaults()]:
        try:
            files.read(file)  # oslo.config would wait, or take all memory
        except (ValueError, OSError) as error:
            option = "--config-file " if named else ""
            is_closed = not named and isinstance(error, PermissionError)
            remedy = f"; {AS_AGENT}" if is_closed else ""
            raise cfg.Error(
                f"{option}{file}: {files.why(error)}{remedy}"
            ) from error
    words = [word for file in named for word in ("--config-file", file)]
    conf(words, project=PROJECT, prog=PROG)
    if uri is not None:
        conf.set_override("libvirt_uri", uri)
    return conf


def _defaults() -> Iterator[str]:
    """What oslo.config reads if no file is named."""
    found = cfg.find_config_files(PROJECT, PROG)
    # To oslo.config there would be none, and every option has its default.
    if not found and ETC.is_dir() and not os.access(ETC, os.X_OK):
        raise cfg.Error(f"{ETC}: {os.strerror(errno.EACCES)}; {AS_AGENT}")
    yield from found
    for folder in cfg.find_config_dirs(PROJECT, PROG):
        yield from map(str, Path(folder).glob("*.conf"))


def find(conf: cfg.ConfigOpts, name: str, fallback: str) -> Path:
    """Where an agent finds a file, or the ``fallback`` in core's package.

    If there is neither, the path where the file should be.
    """
    # Path.exists raises where this user may not look.
    if os.path.exists(name):  # noqa: PTH110
        return Path(name)
    found = conf.find_file(name)
    if found:
        return Path(found)
    ours = core(fallback)
    return ours if ours.exists() else ETC / name


def core(name: str) -> Path:
    """A file of Ceilometer's package, where that is installed."""
    spec = importlib.util.find_spec("ceilometer")
    if spec is None or spec.origin is None:
        return Path("ceilometer", name)
    return Path(spec.origin).parent / name
