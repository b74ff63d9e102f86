"""Settings as values that say once what they are: default, range and help stand at the field.

    @settings
    class Tissue:
        dt: ArrayLike = number(0.01, "time step", above=0.0)

The field determines the check (in one sentence, before anything is traced), whether `jax.jit` traces the value or takes
it as static, the option of the command line, what a run file records, and the line of the docstring. Numbers are
traced, so that a new one never recompiles; sizes, choices and flags are static.

A setting that holds settings itself is a *part*. What it holds may be given and read directly: `Model(dt=0.02)` is
`Model(tissue=Tissue(dt=0.02))`, `model.dt` is `model.tissue.dt`, and `dataclasses.replace(model, dt=0.02)` works too.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from lateral.checks import check_choice, check_kind, check_number, check_range, check_size
from lateral.static import register_settings

__all__ = [
    "Setting",
    "choice",
    "documented",
    "flag",
    "interval",
    "number",
    "options_of",
    "part",
    "plain",
    "recorded",
    "setting_names",
    "settings",
    "size",
    "sort_settings",
    "value",
]


class Setting(NamedTuple):
    """What a field says about itself.

    Attributes:
        help: one line without a full stop; it is a line of the docstring and of the command line.
        check: `check(name, value)` returns the value as it is kept, or raises a `ValueError`.
        range: what is allowed, in words.
        static: whether a new value compiles anew.
        option: keyword arguments of `argparse`'s `add_argument`; None where the command line has no such option.
        described: of a part, the class whose settings may be given in its place.
        recorded: whether a run remembers it; False for what does not change a result.
        kind: the function below that made it.
        limits: what that function was told of the range, by name.
    """

    help: str
    check: Callable[[str, Any], Any]
    range: str = ""
    static: bool = False
    option: dict[str, Any] | None = None
    described: type | None = None
    recorded: bool = True
    kind: str = "value"
    limits: Mapping[str, Any] = MappingProxyType({})

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that may be given in place of a part."""
        return () if self.described is None else setting_names(self.described)


def size(default, help: str, *, minimum: int = 1, optional: bool = False, recorded: bool = True):
    """A static whole number."""
    check = _optional(lambda name, value: check_size(name, value, minimum), optional)
    limits = {"minimum": minimum, "optional": optional}
    setting = Setting(help, check, f">= {minimum}", True, {"type": int}, None, recorded, "size", limits)
    return _field(default, setting)


def number(default, help: str, *, above=None, minimum=None, maximum=None, optional: bool = False, static: bool = False):
    """A real number, traced unless `static`."""

    bounds = {"above": above, "minimum": minimum, "maximum": maximum}

    def check(name, value):
        return check_number(name, value, **bounds)

    texts = zip(("> {:g}", ">= {:g}", "<= {:g}"), bounds.values(), strict=True)
    words = " and ".join(text.format(bound) for text, bound in texts if bound is not None)
    limits = bounds | {"optional": optional}
    setting = Setting(help, _optional(check, optional), words, static, {"type": float}, kind="number", limits=limits)
    return _field(default, setting)


def interval(default: tuple, help: str):
    """A pair of numbers (low, high) within [0, 1], traced."""
    option = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
    return _field(default, Setting(help, check_range, "(low, high) within [0, 1]", False, option, kind="interval"))


def choice(default, help: str, choices: Collection):
    """One of a few words or whole numbers, static."""

    def check(name, value):
        return check_choice(name, value, choices)

    limits = {"choices": tuple(choices)}
    option = limits | {"type": type(next(iter(choices)))}
    words = f"one of {', '.join(map(repr, choices))}"
    return _field(default, Setting(help, check, words, True, option, kind="choice", limits=limits))


def flag(default: bool, help: str):
    """True or False, static."""

    def check(name, value):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")
        return value

    return _field(default, Setting(help, check, "", True, kind="flag"))


def value(
    default=dataclasses.MISSING,
    help: str = "",
    check: Callable[[str, Any], Any] | None = None,
    *,
    factory=dataclasses.MISSING,
    option: dict[str, Any] | None = None,
    recorded: bool = True,
    static: bool = False,
):
    """Any object: its arrays and numbers are traced, the rest of it is static."""
    setting = Setting(help, check or (lambda name, value: value), static=static, option=option, recorded=recorded)
    return _field(default, setting, factory)


def part(factory: Callable, help: str, described: type, check: Callable[[str, Any], Any] | None = None):
    """Settings within settings: an object with a method `changed(**settings)` for the settings of `described`.

    Without a check of its own it must be of that class.
    """
    check = check or (lambda name, value: check_kind(name, value, described))
    return _field(dataclasses.MISSING, Setting(help, check, described=described, kind="part"), factory)


def settings(cls: type) -> type:
    """Class decorator: a frozen dataclass, checked, and a pytree whose numbers are traced.

    A class may define `check_together(self)` for what holds between its settings. Rebuilding an object inside a
    transformation of JAX runs no check.
    """
    cls.__init__ = _init
    if not hasattr(cls, "changed"):
        cls.changed = _changed
    cls = dataclasses.dataclass(frozen=True, init=False)(cls)
    fields = dataclasses.fields(cls)
    for name, where in _places(cls).items():
        if not hasattr(cls, name):
            setattr(cls, name, property(attrgetter(f"{where}.{name}"), doc=f"That of `{where}`."))
    own = [_parameter(f.name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for f in fields]
    loose = [_parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in _places(cls)]
    cls.__signature__ = inspect.Signature([*own, *loose])
    cls.__doc__ = f"{inspect.cleandoc(cls.__doc__)}\n\n{_attributes(cls)}"
    return register_settings(*(f.name for f in fields if f.metadata["setting"].static))(cls)


@lru_cache
def setting_names(cls: type) -> tuple[str, ...]:
    """All settings that a class takes, those of its parts too."""
    return (*(f.name for f in dataclasses.fields(cls)), *_places(cls))


def options_of(*classes: type) -> Iterator[tuple[str, Setting]]:
    """Name and description of each setting that the command line may set, parts included, each name once."""
    named = {}
    for cls in classes:
        for f in dataclasses.fields(cls):
            setting = f.metadata["setting"]
            if setting.described is not None:
                named |= {name: inner for name, inner in options_of(setting.described) if name not in named}
            elif setting.option is not None:
                named.setdefault(f.name, setting)
    yield from named.items()


def documented(*classes: type, replaces: tuple[str, ...] = ()) -> Callable:
    """Decorator of a function whose `**settings` are those of some classes: its signature names them all.

    Args:
        classes: what takes the settings.
        replaces: settings that the function itself says something else about.
    """

    def decorate(function):
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {p.name for p in kept} | set(replaces)
        names = [name for cls in classes for name in setting_names(cls) if name not in taken]
        extra = [_parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in dict.fromkeys(names)]
        function.__signature__ = signature.replace(parameters=[*kept, *extra])
        return function

    return decorate


def sort_settings(given: dict[str, Any], *targets: Any, of: str) -> tuple[Any, ...]:
    """Some settings as values, changed by loose ones; each loose setting goes to the first that has it."""
    changed = []
    for target in targets:
        names = setting_names(type(target))
        changed.append(target.changed(**{name: given.pop(name) for name in names if name in given}))
    if given:
        known = dict.fromkeys(name for target in targets for name in setting_names(type(target)))
        raise TypeError(f"{of} has no setting {min(given)!r}; it has {', '.join(known)}")
    return tuple(changed)


def _init(self, *positional, **given):
    cls, fields = type(self), _fields(type(self))
    names = [name for name, *_ in fields]
    if len(positional) > len(names):
        raise TypeError(f"{cls.__name__} takes at most {len(names)} settings by position, got {len(positional)}")
    if twice := [name for name in names[: len(positional)] if name in given]:
        raise TypeError(f"{cls.__name__} got {twice[0]!r} twice")
    given |= dict(zip(names, positional, strict=False))
    for name, field, check, inner_names in fields:
        value = given.pop(name) if name in given else _default(field)
        value = check(name, value)
        if given and (inner := {inner: given.pop(inner) for inner in inner_names if inner in given}):
            value = check(name, value.changed(**inner))
        object.__setattr__(self, name, value)
    if given:
        raise TypeError(f"{cls.__name__} has no setting {min(given)!r}; it has {', '.join(setting_names(cls))}")
    if hasattr(self, "check_together"):
        self.check_together()


@lru_cache
def _fields(cls: type) -> tuple:
    """Name, field, check and inner names of each setting, looked up once: a tissue is made for each simulation."""
    described = ((f, f.metadata["setting"]) for f in dataclasses.fields(cls))
    return tuple((f.name, f, setting.check, setting.names) for f, setting in described)


def _changed(self, **changes):
    """The same with some settings changed."""
    return self if not changes else dataclasses.replace(self, **changes)


def _places(cls: type) -> dict[str, str]:
    """For each setting of a part the name of the part."""
    return {name: f.name for f in dataclasses.fields(cls) for name in f.metadata["setting"].names}


def _field(default, setting: Setting, factory=dataclasses.MISSING):
    metadata = {"setting": setting}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _default(f: dataclasses.Field):
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    if f.default is dataclasses.MISSING:
        raise TypeError(f"{f.name} must be given")
    return f.default


def _optional(check: Callable, optional: bool) -> Callable:
    return (lambda name, value: None if value is None else check(name, value)) if optional else check


def _parameter(name: str, kind) -> inspect.Parameter:
    # Which value is the default says the docstring: here stands only that there is one.
    return inspect.Parameter(name, kind, default=...)


def _attributes(cls: type) -> str:
    lines = ["Attributes:"]
    for f in dataclasses.fields(cls):
        setting = f.metadata["setting"]
        default = "" if f.default is dataclasses.MISSING else f"default {f.default!r}"
        notes = "; ".join(note for note in (setting.range, default) if note)
        lines.append(f"    {f.name}: {setting.help}{f' ({notes})' if notes else ''}.")
        if setting.names:
            lines.append(f"        Its settings may be given directly: {', '.join(setting.names)}.")
    return "\n".join(lines)


def recorded(settings_: Any) -> dict[str, Any]:
    """What a run remembers of some settings, as plain values of JSON."""
    return {
        f.name: plain(getattr(settings_, f.name))
        for f in dataclasses.fields(settings_)
        if f.metadata["setting"].recorded
    }


def plain(value: Any) -> Any:
    """The same with numbers of any kind as JSON numbers, tuples as lists, settings as dicts and objects by name."""
    if dataclasses.is_dataclass(value) and hasattr(value, "changed"):
        return {"type": type(value).__name__} | recorded(value)
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return [plain(entry) for entry in value]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
