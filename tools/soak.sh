#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Break things under the agent for minutes, and count: see --help.
exec "$(dirname "$0")/run.sh" soak "$@"
