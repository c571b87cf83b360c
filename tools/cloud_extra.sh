# SPDX-License-Identifier: Apache-2.0
# Sourced: Keystone and the others, only for who wants a cloud.
# shellcheck shell=bash
# Goes with .venv, which install.sh makes again when what it is made of changes.
if [ ! -e .venv/cloud-stamp ]; then
    echo "Installing the cloud's services (about three minutes, once)" >&2
    .venv/bin/pip install --quiet --constraint test-constraints.txt \
        --editable '.[cloud]'
    touch .venv/cloud-stamp
fi
