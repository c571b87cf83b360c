# SPDX-License-Identifier: Apache-2.0
"""The process that a cloud for people belongs to.

It says on stdout what it does, a line a step, and READY when all is up. Until
then it ends with its owner; from then on it stays until SIGTERM. Whenever it
ends, so does all that it started.
"""

import argparse
import os
import select
import signal
import sys
import threading
from pathlib import Path

from tests.chain.errors import ChainError
from tests.cloud.cloud import Cloud
from tests.cloud.folder import FAILED, PID, READY, remove
from tests.lab import LabError, locks


def main() -> int:
    """Keep a cloud in a folder that is there, and empty."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--computes", type=int, required=True)
    parser.add_argument("--interval", type=int, required=True)
    parser.add_argument("--owner", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    locks.claim(arguments.folder / PID)
    up = _end_with(arguments.owner)
    cloud = Cloud(
        arguments.folder,
        computes=arguments.computes,
        interval=arguments.interval,
        step=_say,
    )
    try:
        with cloud:
            up.set()
            _say(READY)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            while True:
                signal.pause()
    except (ChainError, LabError, OSError) as error:
        _say(f"{FAILED}{error}")
        return 1
    except Exception as error:  # whatever a service's client makes of it
        _say(f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        remove(arguments.folder)


def _end_with(owner: int) -> threading.Event:
    """End this process when its owner ends, unless the event is set."""
    done = threading.Event()
    process = os.pidfd_open(owner)

    def watch() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        select.select([process], [], [])
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    return done


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
