#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A whole OpenStack on this machine: up, demo, status, down; see --help.
exec "$(dirname "$0")/run.sh" cloud "$@"
