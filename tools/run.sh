#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What demo.sh, chain.sh, cloud.sh, soak.sh and bench.sh share: run.sh NAME ARGUMENTS
set -euo pipefail
cd "$(dirname "$0")/.."
# Neither help nor a wrong option is worth an installation.
if [ -x /usr/bin/python3 ]; then
    said=$(/usr/bin/python3 -m tools.usage "$@")
    [ -z "$said" ] || { echo "$said"; exit; }
fi
tools/install.sh
name=$1
shift
# Keystone and the others are only for who wants a cloud.
if [ "$name" = cloud ] && [ ! -x .venv/bin/keystone-manage ]; then
    echo "Installing the cloud's services (about a minute, once)" >&2
    .venv/bin/pip install --quiet --constraint test-constraints.txt \
        --editable '.[cloud]'
fi
# Ceilometer brings warnings for its own developers.
exec .venv/bin/python -W ignore -m "tools.$name" "$@"
