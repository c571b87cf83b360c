# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# DevStack plugin: hardware counters of instances, from DevStack's own agents.
#
# In local.conf:
#
#   [[local|localrc]]
#   enable_plugin ceilometer https://opendev.org/openstack/ceilometer
#   enable_plugin ceilometer-perf REPOSITORY
#
# devstack/settings has what localrc may set.

# Save trace setting
_XTRACE_CEILOMETER_PERF=$(set +o | grep xtrace)
set +o xtrace

# Ceilometer's plugin knows where its commands are; ours come beside them.
CEILOMETER_PERF_BIN_DIR=${CEILOMETER_BIN_DIR:-$(get_python_exec_prefix)}

function install_ceilometer_perf {
    setup_develop "$CEILOMETER_PERF_DIR"
}

# As root, as libvirtd would: one event in nova.conf that the host can't count
# keeps every instance from starting.
function _ceilometer_perf_probe {
    sudo "$CEILOMETER_PERF_BIN_DIR/ceilometer-perf" host probe "$@"
}

function _ceilometer_perf_configure_nova {
    local answer events=$CEILOMETER_PERF_EVENTS
    if [[ -z $events ]]; then
        answer=$(_ceilometer_perf_probe --nova-conf) ||
            die $LINENO "ceilometer-perf could not probe this host"
        events=$(sed -n 's/^enabled_perf_events = //p' <<<"$answer")
    fi
    if [[ -z $events ]]; then
        echo "This host can't count any perf event: nova.conf is unchanged"
        return
    fi
    iniset "$NOVA_CONF" libvirt enabled_perf_events "$events"
}

# The user of DevStack's agents, and where its commands are, put into the
# sample file.
function _ceilometer_perf_allow_helper {
    local made
    made=$(mktemp)
    sed -e "s|^ceilometer ALL|$STACK_USER ALL|" \
        -e "s|/usr/bin/privsep-helper|$CEILOMETER_PERF_BIN_DIR/privsep-helper|" \
        "$CEILOMETER_PERF_DIR/etc/sudoers.d/ceilometer-perf" >"$made"
    sudo visudo -cqf "$made" || die $LINENO "$made is not a valid sudoers file"
    sudo install -m 0440 -o root -g root "$made" "$CEILOMETER_PERF_SUDOERS"
    rm -f "$made"
    iniset "$CEILOMETER_CONF" perf privsep_helper \
        "sudo $CEILOMETER_PERF_BIN_DIR/privsep-helper --config-file $CEILOMETER_CONF"
}

# It stays mounted after unstack: others may use it.
function _ceilometer_perf_mount_resctrl {
    if [[ $CEILOMETER_PERF_MOUNT_RESCTRL != True ]] ||
        ! grep -qw resctrl /proc/filesystems ||
        mountpoint -q "$CEILOMETER_PERF_RESCTRL"; then
        return
    fi
    sudo mount -t resctrl resctrl "$CEILOMETER_PERF_RESCTRL" ||
        echo "resctrl can't be mounted: no L3 occupancy, no bandwidth"
}

# What a file of the agents' doesn't choose yet, it chooses then.
function _ceilometer_perf_add_sources {
    "$CEILOMETER_PERF_BIN_DIR/python3" \
        "$CEILOMETER_PERF_DIR/devstack/add_sources.py" \
        "$CEILOMETER_PERF_DIR/etc/ceilometer/$1" "$CEILOMETER_CONF_DIR/$1"
}

function configure_ceilometer_perf_compute {
    local counters
    _ceilometer_perf_configure_nova
    _ceilometer_perf_add_sources polling.yaml
    counters=$(_ceilometer_perf_probe -f value -c hardware_counters)
    if [[ $counters =~ ^[1-9][0-9]*$ ]]; then
        iniset "$CEILOMETER_CONF" perf hardware_counters "$counters"
    fi
    iniset "$CEILOMETER_CONF" perf resctrl_path "$CEILOMETER_PERF_RESCTRL"
    _ceilometer_perf_allow_helper
    _ceilometer_perf_mount_resctrl
}

function configure_ceilometer_perf_notification {
    local command=$CEILOMETER_PERF_BIN_DIR/ceilometer-perf
    local resources=$CEILOMETER_CONF_DIR/gnocchi_resources.yaml
    # Without a pipeline.yaml core's own lets everything through.
    if [[ -e $CEILOMETER_CONF_DIR/pipeline.yaml ]]; then
        _ceilometer_perf_add_sources pipeline.yaml
    fi
    # Gnocchi's publisher drops meters that are not in its mapping.
    if [[ -e $resources ]]; then
        "$command" gnocchi-resources --in-place "$resources"
    else
        "$command" gnocchi-resources >"$resources"
    fi
}

# For the log of stack.sh; no instance is running yet, which it will say.
function check_ceilometer_perf {
    "$CEILOMETER_PERF_BIN_DIR/ceilometer-perf" doctor || true
}

# The agent leaves its groups behind when it stops, so that counters go on.
function stop_ceilometer_perf {
    local group
    for group in "$CEILOMETER_PERF_RESCTRL"{,/*}/mon_groups/ceilometer-perf-*; do
        if [[ -d $group ]]; then
            sudo rmdir "$group"
        fi
    done
}

function cleanup_ceilometer_perf {
    sudo rm -f "$CEILOMETER_PERF_SUDOERS"
}

if is_service_enabled ceilometer-acompute ceilometer-anotification; then
    if [[ "$1" == "stack" && "$2" == "install" ]]; then
        echo_summary "Installing ceilometer-perf"
        install_ceilometer_perf
    elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
        echo_summary "Configuring ceilometer-perf"
        if is_service_enabled ceilometer-acompute; then
            configure_ceilometer_perf_compute
        fi
        if is_service_enabled ceilometer-anotification; then
            configure_ceilometer_perf_notification
        fi
    elif [[ "$1" == "stack" && "$2" == "extra" ]]; then
        if is_service_enabled ceilometer-acompute; then
            echo_summary "Checking ceilometer-perf"
            check_ceilometer_perf
        fi
    fi

    if [[ "$1" == "unstack" ]]; then
        echo_summary "Removing the groups of ceilometer-perf"
        stop_ceilometer_perf
    fi

    if [[ "$1" == "clean" ]]; then
        echo_summary "Cleaning ceilometer-perf"
        cleanup_ceilometer_perf
    fi
fi

# Restore xtrace
$_XTRACE_CEILOMETER_PERF
