#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The complete run: linters, types, docs, unit and functional tests.
# Usage: tools/test.sh [--quick | --on RELEASE] [PYTEST ARGUMENT]...
# --quick, while you work: only linters, types and unit tests.
# --on trixie: on that release of Debian, in a root folder that is made once
# (12 minutes, 2.3 GB); without arguments the demo and what depends on libvirt.
# Arguments go to pytest: tools/test.sh -k connection, tools/test.sh tests/unit
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in -h | --help) sed -n '3,8s/^# //p' "$0"; exit 0 ;; esac
if [ "${1-}" = --on ]; then
    [ -n "${2-}" ] || { echo "test.sh: --on needs a release, such as trixie" >&2; exit 2; }
    . tools/on.sh
    on "${@:2}"
    exit
fi
quick=''
if [ "${1-}" = --quick ]; then
    quick=1
    shift
fi
tools/install.sh
# What a part of the tests does without takes minutes to install.
case "$quick $*" in
    1*) ;;
    *cloud*) . tools/cloud_extra.sh ;;
    *" -k"* | *tests/*) ;;
    *) . tools/cloud_extra.sh ;;
esac

began=$SECONDS
logs=$(mktemp -d)
# A test starts the package many times: what is compiled stays so, whatever
# the environment says.
unset PYTHONDONTWRITEBYTECODE
. tools/cpu.sh
account
trap 'account_no_more; rm -rf "$logs"' EXIT

# Each beside the others, what it says in a file.
declare -A steps
step() {
    local name=$1
    shift
    "$@" >"$logs/$name" 2>&1 &
    steps[$name]=$!
}
step compile .venv/bin/python -m compileall -q ceilometer_perf tests tools
step ruff .venv/bin/ruff check .
step format .venv/bin/ruff format --check .
step mypy .venv/bin/mypy
if [ -z "$quick" ]; then
    # Functional tests wait a third of the time.
    count=3
    step sphinx .venv/bin/sphinx-build -q -W doc/source doc/build/html
    step reno .venv/bin/reno -q lint
else
    count=2
    set -- tests/unit "$@"
fi

# Each worker has modules of its own; the long ones begin. Which belong together
# tests/functional/conftest.py says.
workers=(-n "$count" --dist loadscope --no-loadscope-reorder)
[ ! -t 1 ] || workers+=(--color=yes)
failed=()
code=0
.venv/bin/pytest "${workers[@]}" "$@" | tee "$logs/pytest" || code=$?
# pytest's own last line says how many passed.
summary=$(tail -n 1 "$logs/pytest" | sed -e 's/\x1b\[[0-9;]*m//g' -e 's/^=* *//' -e 's/ *=*$//')
# A machine that others load may starve a test of time. What fails alone as
# well is broken; what doesn't is named, and what it said stays in the output.
if [ "$code" = 1 ] && [ -z "$quick" ]; then
    echo "test.sh: $summary; what failed runs once more, alone"
    code=0
    .venv/bin/pytest --last-failed --last-failed-no-failures none \
        --maxfail 1 "$@" || code=$?
    [ "$code" != 0 ] || summary+="; passed when run alone: $(
        sed -nE 's/^(FAILED|ERROR) ([^ ]+).*/\2/p' "$logs/pytest" | paste -sd ' '
    )"
fi
[ "$code" = 0 ] || failed+=(pytest)

for name in "${!steps[@]}"; do
    wait "${steps[$name]}" || {
        failed+=("$name")
        sed "s/^/$name: /" "$logs/$name" >&2
    }
done

echo "test.sh: $summary; total $((SECONDS - began)) s, $(cpu_seconds) s of CPU time"
if [ ${#failed[@]} -gt 0 ]; then
    echo "test.sh: failed: ${failed[*]}" >&2
    exit 1
fi
