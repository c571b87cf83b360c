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
[ "$name" != cloud ] || . tools/cloud_extra.sh
# Ceilometer brings warnings for its own developers.
exec .venv/bin/python -W ignore -m tools.start "$name" "$@"
