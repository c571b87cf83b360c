# SPDX-License-Identifier: Apache-2.0
# Sourced: Keystone and the others, only for who wants a cloud.
# shellcheck shell=bash
if [ ! -x .venv/bin/keystone-manage ]; then
    echo "Installing the cloud's services (about three minutes, once)" >&2
    .venv/bin/pip install --quiet --constraint test-constraints.txt \
        --editable '.[cloud]'
fi
