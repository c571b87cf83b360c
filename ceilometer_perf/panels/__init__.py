# SPDX-License-Identifier: Apache-2.0
"""What dashboards and reports show: data, drawn by others."""
