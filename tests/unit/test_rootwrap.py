# SPDX-License-Identifier: Apache-2.0
"""What the documentation says of oslo.rootwrap is so."""

import re
import sys
from pathlib import Path

from oslo_rootwrap import wrapper

PAGE = Path(__file__).parents[2] / "doc/source/cache-and-bandwidth.rst"
BIN = Path(sys.executable).parent


def test_no_filter_is_needed_and_none_restricts() -> None:
    text = " ".join(PAGE.read_text().split())
    assert "without any filter file" in text
    (said,) = re.findall(r"rootwrap\.conf (privsep-helper .*?)``", text)
    for words in (said.split(), ["privsep-helper", "--config-file", "/x"]):
        found = wrapper.match_filter(
            wrapper.load_filters([]), words, exec_dirs=[str(BIN)]
        )
        assert found.name == "privsep-helper"
