#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate etc/ceilometer/perf.conf.sample from the options' help, or
# another file: tools/options.sh [FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in -h | --help) sed -n '3,4s/^# //p' "$0"; exit 0 ;; esac

die() { echo "$(basename "$0"): $*" >&2; exit 2; }

file=${1:-etc/ceilometer/perf.conf.sample}
generator=.venv/bin/oslo-config-generator
case "$file" in -*) die "$file is not an option: the only argument is a file" ;; esac
[ -d "$(dirname "$file")" ] || die "$file: no such folder: $(dirname "$file")"
[ -x $generator ] || die "$generator is missing: run tools/install.sh first"
exec $generator --namespace ceilometer_perf --output-file "$file"
