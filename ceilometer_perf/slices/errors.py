# SPDX-License-Identifier: Apache-2.0
"""What is wrong with slices, in one line each."""


class SliceError(Exception):
    """Names the option, file or entry, and what would be right."""


class SpecError(SliceError):
    """An entry of ``[libvirt] slice_spec`` can't be used."""


class InstanceError(SliceError):
    """The description of an instance can't be used."""


class TemplateError(SliceError):
    """A template can't be rendered, or not into a domain."""
