# SPDX-License-Identifier: Apache-2.0
"""What stands around a line number in a template that is rendered.

No template and no value has these characters.
"""

LINE_BEGIN, LINE_END = "\x01", "\x02"
