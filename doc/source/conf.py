# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds this documentation."""

project = "ceilometer-perf"
author = "The ceilometer-perf developers"
html_theme = "alabaster"
html_theme_options = {
    "description": "Hardware counters of OpenStack instances, only when "
    "they are right",
    "page_width": "1100px",
}
nitpicky = True
