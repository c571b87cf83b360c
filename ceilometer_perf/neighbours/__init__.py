# SPDX-License-Identifier: Apache-2.0
"""Who waits for what the host's instances share."""
