#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prepare this checkout for the demo, the tests and the bench:
# distribution packages from bindep.txt, and a virtual environment in .venv.
# Does nothing if nothing changed, so that a second run is fast.
# Only the programs of servers are needed, not the host's services of that
# name: none is started, now or at the next boot.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in -h | --help) sed -n '3,7s/^# //p' "$0"; exit 0 ;; esac

die() { echo "$(basename "$0"): $*" >&2; exit 2; }

[ $# = 0 ] || die "does not take arguments: $1"
[ "$(id -u)" = 0 ] || die "must run as root: it installs packages and starts libvirtd in a mount namespace"
[ "$(uname -sm)" = "Linux x86_64" ] || die "needs Linux on x86_64, this is $(uname -sm)"
command -v apt-get >/dev/null || die "needs Debian 12, 13 or a relative (no apt-get here); elsewhere install what bindep.txt names and 'pip install -e .[test,lint,doc]' into .venv"

# Quiet on success; on failure, the end of the output and the path of the rest.
quietly() {
    local log
    log=$(mktemp)
    "$@" >"$log" 2>&1 || { tail -5 "$log" >&2; die "'$*' failed; its output is in $log"; }
    rm -f "$log"
}

services=(epmd.service epmd.socket postgresql.service prometheus.service rabbitmq-server.service)

# Which of these the next boot starts.
enabled() {
    local service
    for service in "${services[@]}"; do
        ! systemctl is-enabled --quiet "$service" 2>/dev/null || echo "$service"
    done
}

packages() { sed -e 's/#.*//' -e '/platform:dpkg/!d' -e 's/ .*//' bindep.txt; }

missing=()
for package in $(packages); do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "Installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update
    before=$(enabled)
    # Packages ask this before they start a service; 101 means no.
    policy=/usr/sbin/policy-rc.d
    ours=
    if [ ! -e $policy ]; then
        ours=$policy
        trap 'rm -f $ours' EXIT
        printf '#!/bin/sh\nexit 101\n' >$ours
        chmod 755 $ours
    fi
    # New machines update themselves at first, and hold the lock.
    quietly apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "${missing[@]}"
    rm -f $ours
    # Packages enable them; those that already were stay so.
    for service in $(enabled | grep -vxF "$before"); do
        quietly systemctl disable "$service"
    done
fi

# What the environment was made from; any change recreates it.
stamp=$(sha256sum setup.cfg pyproject.toml test-constraints.txt | sha256sum)
if [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ]; then
    echo "Creating the virtual environment .venv (about two minutes, once)" >&2
    rm -rf .venv
    /usr/bin/python3 -m venv .venv
    quietly .venv/bin/pip install --constraint test-constraints.txt \
        --editable '.[test,lint,doc]'
    echo "$stamp" >.venv/stamp
fi
