#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A private libvirtd with tiny guests: tools/lab.sh up|down|status [--help]
set -eu
top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$top/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "lab.sh: $python is missing: run tools/install.sh first" >&2
    exit 2
fi
export PYTHONPATH="$top${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m tests.lab "$@"
