# SPDX-License-Identifier: Apache-2.0
"""Ask libvirt for one command, and give up on a libvirtd that hangs."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar("T")

SECONDS = 15.0


def within(call: Callable[[], T], seconds: float = SECONDS) -> T:
    """What ``call`` returns or raises; TimeoutError if that takes too long.

    A libvirt call can't be cancelled, and Python looks at no signal before it
    is back, not even at an operator's Ctrl-C. So it waits in a thread, which
    does not keep the process from ending.
    """
    answer: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TimeoutError(
            f"no answer within {seconds:g} s (is libvirtd stopped or stuck?)"
        ) from None
