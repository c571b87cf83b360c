# SPDX-License-Identifier: Apache-2.0
"""Nova's libvirt driver, with slices and the companion.

Nothing else here imports Nova.
"""
