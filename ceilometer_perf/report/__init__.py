# SPDX-License-Identifier: Apache-2.0
"""The panels of the dashboards as one page that needs no server."""
