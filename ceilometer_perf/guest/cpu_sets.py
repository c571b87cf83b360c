# SPDX-License-Identifier: Apache-2.0
"""Sets of CPUs that an operator wrote: a wrong one is refused as Nova does."""

from ceilometer_perf import cpus
from ceilometer_perf.guest import errors


def parse(spec: str) -> frozenset[int]:
    """The CPUs of nova.conf, a flavor or an image.

    :raises NovaRefusal: ``spec`` is no set of CPUs.
    """
    try:
        return cpus.parse(spec)
    except ValueError as error:
        raise errors.NovaRefusal("Invalid", str(error)) from error
