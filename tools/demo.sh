#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Real guests, Ceilometer's own services, every counter: see --help.
exec "$(dirname "$0")/run.sh" demo "$@"
