# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What DevStack defines before it sources a plugin, as far as ours uses it:
# everything is done below $ROOT, and what was called is in $ROOT/calls.
#
#   devstack.sh FOLDER ROOT SERVICES MODE [PHASE]
set -o errexit

FOLDER=$1 ROOT=$2 SERVICES=$3
shift 3

called() { echo "$*" >>"$ROOT/calls"; }
echo_summary() { called summary "$@"; }
setup_develop() { called setup_develop "$@"; }
define_plugin() { called define_plugin "$@"; }
plugin_requires() { called plugin_requires "$@"; }
get_python_exec_prefix() { echo "$ROOT/bin"; }
mountpoint() { return 1; }
die() {
    echo "died at line $*" >&2
    exit 1
}

is_service_enabled() {
    local service
    for service in "$@"; do
        [[ " $SERVICES " == *" $service "* ]] && return 0
    done
    return 1
}

iniset() {
    python3 - "$@" <<'PYTHON'
import configparser, sys
path, section, option, value = sys.argv[1:]
ini = configparser.RawConfigParser(default_section="")
ini.read(path)
ini.has_section(section) or ini.add_section(section)
ini.set(section, option, value)
with open(path, "w") as file:
    ini.write(file)
PYTHON
}

# As if root, but who owns a file is left as it is; nothing is mounted.
sudo() {
    called sudo "$@"
    case $1 in
    mount) ;;
    install) command install -m "$3" "${@:8}" ;;
    *) "$@" ;;
    esac
}

# shellcheck disable=SC2034  # the plugin reads them
{
    DEST=$ROOT/dest
    STACK_USER=stack
    NOVA_CONF=$ROOT/nova.conf
    CEILOMETER_CONF_DIR=$ROOT/ceilometer
    CEILOMETER_CONF=$CEILOMETER_CONF_DIR/ceilometer.conf
    CEILOMETER_PERF_DIR=$FOLDER
    CEILOMETER_PERF_RESCTRL=$ROOT/resctrl
    CEILOMETER_PERF_SUDOERS=$ROOT/sudoers
}
# shellcheck source=devstack/settings
source "$FOLDER/devstack/settings"
# shellcheck source=devstack/plugin.sh
source "$FOLDER/devstack/plugin.sh" "$@"
