#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From libvirt's counters to Gnocchi and Prometheus, on real servers: --help.
exec "$(dirname "$0")/run.sh" chain "$@"
