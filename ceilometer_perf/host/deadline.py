# SPDX-License-Identifier: Apache-2.0
"""Ask libvirt, and don't wait for ever for one that hangs."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar("T")

SECONDS = 15.0


def start(call: Callable[[], T]) -> futures.Future[T]:
    """Call in a thread of its own.

    A libvirt call can't be cancelled, and Python looks at no signal before it
    is back, not even at an operator's Ctrl-C. The thread is a daemon: what
    hangs in it does not keep the process from ending.
    """
    answer: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(
        target=work, name="ceilometer-perf-libvirt", daemon=True
    ).start()
    return answer


def within(call: Callable[[], T], seconds: float = SECONDS) -> T:
    """What ``call`` returns or raises; TimeoutError if that takes too long."""
    try:
        return start(call).result(seconds)
    except TimeoutError:
        raise TimeoutError(
            f"no answer within {seconds:g} s (is libvirtd stopped or stuck?)"
        ) from None
