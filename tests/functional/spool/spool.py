# SPDX-License-Identifier: Apache-2.0
"""A notification driver of oslo.messaging that needs no broker.

It appends each message to the file named by ``SPOOL``, a JSON object a line.
The folder that it is in goes on PYTHONPATH, where oslo.messaging finds the
entry point beside it.
"""

import json
import os
from pathlib import Path
from typing import Any

from oslo_messaging.notify import notifier


class Spool(notifier.Driver):  # type: ignore[misc]
    """Where the broker would be."""

    def notify(
        self, ctxt: Any, message: dict[str, Any], priority: str, retry: int
    ) -> None:
        """Append in one write, so that readers see whole lines only."""
        with Path(os.environ["SPOOL"]).open("a") as spool:
            spool.write(json.dumps(message) + "\n")
