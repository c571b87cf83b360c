# SPDX-License-Identifier: Apache-2.0
"""Calls that may never come back."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T], name: str) -> futures.Future[T]:
    """Call in a thread of its own.

    A call into C can't be cancelled, and Python looks at no signal before it
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
        target=work, name=f"ceilometer-perf-{name}", daemon=True
    ).start()
    return answer
