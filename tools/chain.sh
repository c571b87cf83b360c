#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From libvirt's counters to Gnocchi and Prometheus, on real servers: --help.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/install.sh
# Ceilometer brings warnings for its own developers.
exec .venv/bin/python -W ignore -m tools.chain "$@"
