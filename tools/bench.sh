#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What reading costs, next to core and to the bare libvirt call: see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/install.sh
# Ceilometer brings warnings for its own developers.
exec .venv/bin/python -W ignore -m tools.bench "$@"
