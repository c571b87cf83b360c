# SPDX-License-Identifier: Apache-2.0
"""From a slice and an instance to the XML that a compute host would boot."""

import dataclasses
from collections.abc import Callable, Iterable

from ceilometer_perf import guest
from ceilometer_perf.guest import slice_metadata, xml
from ceilometer_perf.slices import (
    context,
    nova_instance,
    nova_parts,
    template,
)
from ceilometer_perf.slices.context import Context
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.schema import Schema, SchemaError
from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.template import Rendered, Template


@dataclasses.dataclass(frozen=True)
class Builder:
    """What is the same for all slices of a host."""

    schema: Schema
    conf: guest.NovaConf
    host: guest.HostFacts = dataclasses.field(default_factory=guest.HostFacts)

    def requirements(self, instance: Context) -> guest.Requirements:
        """What the instance's XML must contain.

        :raises GuestError: the instance asks for what Nova refuses.
        """
        return guest.resolve(context.asked(instance), self.conf, self.host)

    def build(self, spec: SliceSpec, instance: Context) -> str:
        """The domain of an instance in a slice, all of it.

        :raises TemplateError: the template can't be rendered or fixed.
        :raises SchemaError: libvirt would not take it.
        """
        wanted = self.requirements(instance)
        (rendered,) = render((spec,), instance, wanted)
        return self.finish(spec, rendered, wanted)

    def finish(
        self,
        spec: SliceSpec,
        rendered: Rendered,
        wanted: guest.Requirements,
    ) -> str:
        """A rendered template with all that the companion adds."""
        text = complete(spec, rendered, rendered.text, wanted)
        fault = self.schema.fault(xml.parse(text).getroot())
        if fault is not None:
            raise self._refusal(rendered, fault)
        return text

    def _refusal(self, rendered: Rendered, fault: xml.Element) -> SchemaError:
        """The fault in words: of the template's line if it is the template's.

        What the companion adds is libvirt's to take; it moves lines.
        """
        own = self.schema.fault(rendered.root())
        if own is not None:
            place = rendered.place(own)
            return SchemaError(
                f"{place.file}, line {place.line}: libvirt's schema refuses "
                f"{place.text}",
                place,
            )
        return SchemaError(
            f"{rendered.file}: libvirt's schema refuses <{fault.tag}> once "
            "it says what the instance requires"
        )


def complete(
    spec: SliceSpec,
    rendered: Rendered,
    text: str,
    wanted: guest.Requirements,
) -> str:
    """The text that came of a template, with the companion's part.

    :raises TemplateError: it can't be fixed.
    """
    rendered.root()  # whose errors know the template's line
    try:
        fixed = guest.apply(text, wanted)
    except guest.GuestError as error:
        raise TemplateError(f"{rendered.file}: {error}") from error
    return slice_metadata.write(fixed, spec.name)


def boot(
    spec: SliceSpec,
    novas: str,
    requirements: Callable[[guest.Asked], guest.Requirements],
) -> str:
    """The domain of a slice, for the instance of which Nova made another.

    libvirt is asked next, so its schema need not be there.

    :raises SliceError: it can't be made.
    """
    instance = nova_instance.read(novas)
    wanted = requirements(context.asked(instance))
    (rendered,) = render((spec,), instance, wanted)
    rendered.root()
    try:
        text = nova_parts.put_into(rendered.text, novas)
    except (TemplateError, guest.GuestError) as error:
        raise TemplateError(f"{rendered.file}: {error}") from error
    return complete(spec, rendered, text, wanted)


def render(
    specs: Iterable[SliceSpec], instance: Context, wanted: guest.Requirements
) -> list[Rendered]:
    """The templates of slices, rendered for an instance.

    :raises TemplateError: one of them can't be.
    """
    jobs = [
        (
            Template.read(spec.template_file),
            context.full(instance, spec, wanted),
        )
        for spec in specs
    ]
    return template.render_all(jobs)
