"""What all parts of the configuration are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails

_Section = TypeVar("_Section", bound="Section")


class Conflict(NamedTuple):
    """Values that are right by themselves, but not together.

    ``text`` is the mistake in words; if one key is to blame, it begins with the key and a colon. ``about`` are the keys
    whose values it was found by: while one of them is wrong itself, nothing is said of this.
    """

    text: str
    about: tuple[str, ...]


class Conflicts(ValueError):
    """All that does not go together in a section."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__("; ".join(conflict.text for conflict in conflicts))
        self.texts = tuple(conflict.text for conflict in conflicts)


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def conflicts(self) -> Iterator[Conflict]:
        """What does not go together in a section whose values are each right."""
        return iter(())

    @model_validator(mode="wrap")
    @classmethod
    def _at_once(cls: type[_Section], value: Any, handler: ModelWrapValidatorHandler[_Section]) -> _Section:
        """Wrong values and conflicts are told together, not one after the other has been mended."""
        try:
            section = handler(value)
        except ValidationError as error:
            conflicts = _among_the_rest(value, handler, error)
            if not conflicts:
                raise
            told: list[InitErrorDetails] = [_again(item) for item in error.errors(include_url=False)]
            conflict = InitErrorDetails(type="value_error", loc=(), input=value, ctx={"error": Conflicts(conflicts)})
            raise ValidationError.from_exception_data(error.title, [*told, conflict]) from None
        if conflicts := list(section.conflicts()):
            raise Conflicts(conflicts)
        return section


def _among_the_rest(value: Any, handler: ModelWrapValidatorHandler[_Section], error: ValidationError) -> list[Conflict]:
    """The conflicts of a section with wrong values: those that are about none of them."""
    wrong = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
    if isinstance(value, dict) and wrong:
        with suppress(ValidationError):  # a key that has to be there is wrong, or missing
            section = handler({key: given for key, given in value.items() if key not in wrong})
            return [conflict for conflict in section.conflicts() if wrong.isdisjoint(conflict.about)]
    return []


def _again(item: Any) -> InitErrorDetails:
    return InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"], ctx=item.get("ctx", {}))


def exactly_one(*keys: str) -> dict[str, Any]:
    """JSON Schema of a section that holds one of these keys; a null is as good as none."""
    return {"oneOf": [{"required": [key], "properties": {key: {"not": {"type": "null"}}}} for key in keys]}


def given(section: Section, keys: Sequence[str]) -> list[str]:
    """Which of the keys hold something."""
    return [key for key in keys if getattr(section, key) is not None]
