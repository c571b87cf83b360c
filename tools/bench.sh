#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What reading costs, next to core and to the bare libvirt call: see --help.
exec "$(dirname "$0")/run.sh" bench "$@"
