#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Break things under the agent for minutes, and count: see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/install.sh
# Ceilometer brings warnings for its own developers.
exec .venv/bin/python -W ignore -m tools.soak "$@"
