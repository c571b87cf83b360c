#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The unit tests, and the pollsters in the real agent, with other versions.
# Usage: tools/versions.sh [25 | 26 | 27 | newest]...
# A number is Ceilometer's, all else being that of test-constraints.txt; newest
# is the newest release of everything. All four by default, an environment each
# in .venv/versions. Runs as root after tools/install.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in -h | --help) sed -n '3,7s/^# //p' "$0"; exit 0 ;; esac

die() { echo "$(basename "$0"): $*" >&2; exit 2; }

[ $# -gt 0 ] || set -- 25 26 27 newest
for name; do
    case "$name" in 25 | 26 | 27 | newest) ;; *) die "$name is none of 25, 26, 27, newest" ;; esac
done
# shellcheck source=tools/environment.sh
. tools/environment.sh
tools/install.sh

failed=()
for name; do
    echo "== $name" >&2
    began=$SECONDS
    summary='not installed'
    case "$name" in
        newest) wanted=(.) ;;  # without any constraint
        *) wanted=(^ceilometer== "ceilometer==$name.*") ;;
    esac
    if environment "$name" "${wanted[@]}" --editable '.[test]'; then
        installed=$((SECONDS - began))
        log=.venv/versions/$name/pytest.log
        ".venv/versions/$name/bin/pytest" -n 2 --dist loadfile tests/unit tests/functional/test_agent.py >"$log" 2>&1 ||
            failed+=("$name")
        summary="$(tail -n 1 "$log" | sed 's/^=* *//; s/ *=*$//'), installed in $installed s"
    else
        failed+=("$name")
    fi
    version=$(".venv/versions/$name/bin/pip" list --format freeze 2>/dev/null | sed -n 's/^ceilometer==//p')
    echo "$name (Ceilometer ${version:-?}): $summary"
    grep '^\(FAILED\|ERROR\)' ".venv/versions/$name/pytest.log" 2>/dev/null || true
done
[ ${#failed[@]} = 0 ] || { echo "versions.sh: failed: ${failed[*]}" >&2; exit 1; }
