#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Change what decides what is true, piece by piece, and see if tests notice.
# tools/mutants.sh [MODULE...]; without any, all that tests/mutants.toml names.
# Prints each module's share of mutants that its unit tests kill, and those
# that survive unexplained. The exit code is 1 where a share is below 95 %.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in -h | --help) sed -n '3,6s/^# //p' "$0"; exit 0 ;; esac
tools/install.sh
[ -x .venv/bin/mutmut ] ||
    .venv/bin/pip install -q -c test-constraints.txt -e '.[mutants]'
exec .venv/bin/python -m tools.mutants "$@"
