# SPDX-License-Identifier: Apache-2.0
# Sourced by test.sh: the tests on another release of Debian, in a root
# folder of its own that is made once and kept.
# shellcheck shell=bash

on_cache=${XDG_CACHE_HOME:-$HOME/.cache}/ceilometer-perf

# What to run there unless told: what depends on libvirt, QEMU and the kernel.
on_tests=(tests/unit tests/functional/test_{agent,connection,counting,discovery,gate,guest_monitors,migration,own_counters,rdt_agent,rdt_faults,rdt_sources,status,watching}.py)

# A minimal system in the folder $2; all or nothing.
on_make() {
    local release=$1 root=$2 log=$2.log
    command -v debootstrap >/dev/null ||
        apt-get install -y --no-install-recommends debootstrap >"$log" 2>&1 ||
        { tail -3 "$log" >&2; return 1; }
    echo "Making a Debian $release in $root (about two minutes, once)" >&2
    local mirror
    # shellcheck disable=SC2016 # it is apt-get's to expand
    mirror=$(apt-get indextargets --format '$(SITE)' | head -n 1)
    rm -rf "$root.part"
    debootstrap --variant=minbase --include=ca-certificates \
        "$release" "$root.part" "$mirror" >"$log" 2>&1 ||
        { tail -3 "$log" >&2; return 1; }
    mv "$root.part" "$root"
}

# This checkout as it is now; the environment there stays.
on_copy() {
    local there=$1
    mkdir -p "$there"
    find "$there" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    cp -a .git "$there"
    git ls-files -zco --exclude-standard | tar -c --null -T - | tar -x -C "$there"
}

# Run test.sh with these arguments on a release, or what is in on_tests and the
# demo; what it starts ends with it.
on() {
    local release=$1 root=$on_cache/$1 demo=''
    shift
    [ "$(id -u)" = 0 ] || { echo "test.sh: --on needs root" >&2; return 2; }
    mkdir -p "$on_cache"
    [ -d "$root" ] || on_make "$release" "$root" || {
        echo "test.sh: no Debian '$release' to be had; its log is $root.log" >&2
        return 2
    }
    on_copy "$root/src"
    local file
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
        [ ! -e $file ] || cp -L $file "$root$file"
    done
    [ $# -gt 0 ] || { demo=1; set -- "${on_tests[@]}"; }
    # shellcheck disable=SC2016 # it is the inner shell's to expand
    demo=$demo unshare --mount --pid --fork --kill-child bash -c '
        set -e
        root=$1
        shift
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        for each in sys dev; do mount --rbind /$each "$root/$each"; done
        mount -t tmpfs -o mode=755 run "$root/run"
        # Whose certificates this machine trusts, the tests trust.
        mount --bind /etc/ssl/certs "$root/etc/ssl/certs"
        chroot "$root" /src/tools/test.sh "$@"
        [ -z "$demo" ] || chroot "$root" /src/tools/demo.sh
    ' on "$root" "$@"
}
