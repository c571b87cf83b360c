# SPDX-License-Identifier: Apache-2.0
# Sourced: how much CPU time a script and all that it starts have used. QEMUs
# and other daemons are nobody's children: a cgroup counts them, where one can
# be made; elsewhere what has ended and was waited for.
# shellcheck shell=bash
cgroup=

account() {
    local parent own
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    for parent in /sys/fs/cgroup/cpuacct "/sys/fs/cgroup${own%/}" "/sys/fs/cgroup/unified${own%/}"; do
        [ -e "$parent/cgroup.procs" ] || continue
        cgroup=$parent/ceilometer-perf-test-$$
        if mkdir "$cgroup" 2>/dev/null && { echo $$ >"$cgroup/cgroup.procs"; } 2>/dev/null; then
            return
        fi
        rmdir "$cgroup" 2>/dev/null || true
        cgroup=
    done
}

account_no_more() {
    [ -n "$cgroup" ] || return 0
    echo $$ >"${cgroup%/*}/cgroup.procs" || true
    rmdir "$cgroup" 2>/dev/null || true
}

cpu_seconds() {
    if [ -e "$cgroup/cpuacct.usage" ]; then
        echo $(($(cat "$cgroup/cpuacct.usage") / 1000000000))
    elif [ -n "$cgroup" ]; then
        echo $(($(sed -n 's/^usage_usec //p' "$cgroup/cpu.stat") / 1000000))
    else
        times | sed 's/[ms]/ /g' | awk '{ s += $1 * 60 + $2 + $3 * 60 + $4 } END { printf "%d\n", s }'
    fi
}
