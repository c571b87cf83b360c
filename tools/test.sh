#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a green run: linters, types, docs, unit and functional tests.
# Arguments go to pytest: tools/test.sh -k connection, tools/test.sh tests/unit
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in -h | --help) sed -n '3,4s/^# //p' "$0"; exit 0 ;; esac
tools/install.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/sphinx-build -q -W doc/source doc/build/html
.venv/bin/reno -q lint
exec .venv/bin/pytest "$@"
