# SPDX-License-Identifier: Apache-2.0
"""What each scenario is, for people."""

WHAT = {
    "kill": "libvirtd killed in the middle of a cycle",
    "hang": "libvirtd hung",
    "socket": "libvirtd later than the agent, its socket gone and back",
    "guest": "one guest of 20 hung",
    "restart": "libvirtd restarted under a busy guest",
    "live": "an event enabled on a busy guest",
    "churn": "guests that come, go, pause, boot and are renamed",
    "own": "500 instances that come and go, counted by our helper",
    "many": "200 instances at once, counted by our helper",
    "steady": "50 guests and 5,000 cycles",
    "agent": "50 guests and the real agent",
}
