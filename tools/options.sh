#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Write etc/ceilometer/perf.conf.sample anew from the options' own help.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/oslo-config-generator --namespace ceilometer_perf \
    --output-file "${1:-etc/ceilometer/perf.conf.sample}"
