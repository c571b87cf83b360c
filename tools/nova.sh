#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The driver with other releases of Nova.
# Usage: tools/nova.sh [32 | 33 | 34]...
# Of each release, all three by default: our unit tests that import Nova, and
# Nova's own functional tests of libvirt, with Nova's driver and with ours. An
# environment for each in .venv/versions. Runs as root after tools/install.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in -h | --help) sed -n '3,7s/^# //p' "$0"; exit 0 ;; esac

die() { echo "$(basename "$0"): $*" >&2; exit 2; }

[ $# -gt 0 ] || set -- 32 33 34
for release; do
    case "$release" in 32 | 33 | 34) ;; *) die "$release is none of 32, 33, 34" ;; esac
done
# shellcheck source=tools/environment.sh
. tools/environment.sh
tools/install.sh

# What Nova's tests need. They make an error of what SQLAlchemy 2.1 deprecates.
needed=('SQLAlchemy<2.1' ddt gabbi openstack-placement oslotest requests-mock wsgi-intercept)
mapfile -t unit < <({ ls tests/unit/test_nova_*.py; grep -lE '^(from|import) nova' tests/unit/test_*.py; } | sort -u)

check() {
    local folder=.venv/versions/nova-$1 version code=0
    environment "nova-$1" '^(nova|SQLAlchemy)==' "nova==$1.*" "${needed[@]}" hypothesis pytest \
        --editable '.[nova]' || return 1
    # They look for it beside the package, where it is in Nova's repository.
    ln -sfn "$PWD/$folder/etc" "$(echo "$folder"/lib/python3*/site-packages)/etc"
    "$folder/bin/pytest" "${unit[@]}" >"$folder/pytest.log" 2>&1 || code=1
    grep '^\(FAILED\|ERROR\)' "$folder/pytest.log" || true
    version=$("$folder/bin/pip" list --format freeze 2>/dev/null | sed -n 's/^nova==//p')
    echo "Nova $version: $(tail -n 1 "$folder/pytest.log" | sed 's/^=* *//; s/ *=*$//')"
    "$folder/bin/python" -m tools.nova "$folder" || code=1
    return $code
}

failed=()
for release; do
    echo "== $release" >&2
    check "$release" || failed+=("$release")
done
[ ${#failed[@]} = 0 ] || { echo "nova.sh: failed: ${failed[*]}" >&2; exit 1; }
