# SPDX-License-Identifier: Apache-2.0
"""The whole way of a sample, on one machine: each server is the real one.

One module for each server, and ``chain`` for all of them; ``wire``, ``sent``,
``expected`` and ``check`` compare what came out at the ends.
"""
