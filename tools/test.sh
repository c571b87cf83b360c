#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a green run: linters, types, docs, unit and functional tests.
# Arguments go to pytest: tools/test.sh -k connection, tools/test.sh tests/unit
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in -h | --help) sed -n '3,4s/^# //p' "$0"; exit 0 ;; esac
tools/install.sh
# What pytest can't run should not wait for the linters.
if [ $# -gt 0 ] && ! found=$(.venv/bin/pytest --collect-only -q "$@"); then
    echo "$found" | tail -15 >&2
    echo "test.sh: pytest has nothing to run for: $*" >&2
    exit 2
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/sphinx-build -q -W doc/source doc/build/html
.venv/bin/reno -q lint
exec .venv/bin/pytest "$@"
