# SPDX-License-Identifier: Apache-2.0
"""Every option of ``[perf]``.

The agent asks no plugin for its ``oslo.config.opts`` (only the generator of
sample files does), so whoever needs the options calls :func:`register`.
"""

from typing import Any

from oslo_config import cfg

GROUP = "perf"

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "libvirt_timeout",
        default=10.0,
        min=0.1,
        help="Seconds that libvirt may take to answer a call, opening the "
        "connection included. After that the polling cycle goes on without "
        "perf samples, and the next cycle asks again; a late answer is "
        "thrown away. The default is far above what a healthy libvirtd "
        "needs (milliseconds for hundreds of instances) and well below "
        "usual polling intervals, so that a hung libvirtd delays the other "
        "pollsters by little.",
    ),
    cfg.FloatOpt(
        "inventory_interval",
        default=600.0,
        min=0.0,
        help="Seconds after which the XML of every domain is read anew, in "
        "case libvirt's word that it changed was lost; 0 is in every cycle. "
        "It takes one libvirt call for each domain. The default keeps that "
        "to a few calls a minute, and what was lost from being missed for "
        "long.",
    ),
]


def register(conf: cfg.ConfigOpts) -> None:
    """Make ``conf.perf`` known; harmless when it already is."""
    conf.register_opts(OPTS, group=GROUP)


def get(conf: cfg.ConfigOpts, name: str) -> Any:
    """The value of one option.

    :raises ValueError: one line that names the option, what is wrong with
        its value and what would be right.
    """
    try:
        return conf[GROUP][name]
    except ValueError as exc:
        default = next(opt.default for opt in OPTS if opt.name == name)
        wrong = exc.__context__ or exc
        raise ValueError(
            f"[{GROUP}] {name}: {wrong} (the default is {default})"
        ) from exc


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options by group, for ``oslo-config-generator``."""
    return [(GROUP, OPTS)]
