# SPDX-License-Identifier: Apache-2.0
"""A notification driver that sends as messagingv2 does, and keeps a record.

A message is written to the file named by ``RECORD``, a JSON object a line,
once the broker has it: oslo.messaging asks RabbitMQ to confirm each message.
The folder that this is in goes on PYTHONPATH, where oslo.messaging finds the
entry point beside it.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from oslo_messaging.notify import messaging


class Recorder(messaging.MessagingV2Driver):  # type: ignore[misc]
    """What the agent's ``telemetry_driver`` is in the chain."""

    def __init__(self, conf: Any, *, topics: Any, transport: Any) -> None:
        super().__init__(conf, topics=topics, transport=_Witness(transport))


class _Witness:
    """The transport, and who saw what it took."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def _send_notification(
        self, target: Any, ctxt: Any, message: dict[str, Any], **options: Any
    ) -> None:
        self._transport._send_notification(target, ctxt, message, **options)
        line = json.dumps({"sent_at": time.time(), **message["payload"]})
        # In one write, so that readers see whole lines only.
        with Path(os.environ["RECORD"]).open("a") as record:
            record.write(line + "\n")
