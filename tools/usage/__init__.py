# SPDX-License-Identifier: Apache-2.0
"""The tools' command lines.

Apart from the tools, and with the standard library alone: an option is refused
and help is given before anything is installed.
"""
