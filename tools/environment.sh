# SPDX-License-Identifier: Apache-2.0
# Sourced: virtual environments with other versions than those in .venv.
# shellcheck shell=bash

# environment NAME LIFTED WANTED...: .venv/versions/NAME with what is WANTED, in
# the versions of test-constraints.txt without the lines that match LIFTED.
# Created again when what it is made from changed.
environment() {
    local folder=.venv/versions/$1 lifted=$2 stamp log
    shift 2
    stamp=$(cat setup.cfg test-constraints.txt - <<<"$lifted $*" | sha256sum)
    [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$folder"
    /usr/bin/python3 -m venv "$folder"
    grep -vE "$lifted" test-constraints.txt >"$folder/constraints.txt" || true
    log=$folder/install.log
    "$folder/bin/pip" install --constraint "$folder/constraints.txt" "$@" >"$log" 2>&1 ||
        { tail -5 "$log" >&2; return 1; }
    echo "$stamp" >"$folder/stamp"
}
