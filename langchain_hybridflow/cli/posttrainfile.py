"""The settings of `hybridflow posttrain`: a TOML file, and the command line, which wins."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.cli.models import read_prices
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain import PosttrainSettings

if TYPE_CHECKING:
    from langchain_hybridflow.budget import Price

__all__ = ["CommandSettings", "read_file", "read_options", "to_toml"]

_NEEDED: Final = ("model", "data", "out")
# Whoever gives one of them on the command line does not want the other one of the file.
_EITHER: Final = {"rho": "share", "share": "rho"}
# What the command itself needs, beside what the training does.
_OWN: Final[dict[str, Any]] = {"cloud": None, "price": [], "time_scale": 1.0}


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """All settings of the command, wherever they come from.

    Attributes:
        values: By name; what nobody has said has its default.
    """

    values: Mapping[str, Any]

    @classmethod
    def of(cls, file: Mapping[str, Any], given: Mapping[str, Any]) -> CommandSettings:
        """Put together a file and a command line, which wins.

        Raises:
            ConfigurationError: The file has a name that means nothing.

        Example:
            >>> found = CommandSettings.of({"rho": 0.5, "steps": 9}, {"share": 0.3})
            >>> found.values["rho"], found.values["share"], found.values["steps"]
            (None, 0.3, 9)
        """
        known = _defaults()
        unknown = sorted(file.keys() - known.keys())
        if unknown:
            raise ConfigurationError(
                f"The configuration file says {', '.join(unknown)}, and there is no such setting. "
                f"There are {', '.join(known)}."
            )
        dropped = {_EITHER[name] for name in given.keys() & _EITHER.keys()}
        kept = {name: value for name, value in file.items() if name not in dropped}
        values = known | kept | dict(given)
        _check_own(values)
        for name in ("lora", "trainer"):  # an option changes one line of the file's table
            if isinstance(file.get(name), Mapping) and isinstance(given.get(name), Mapping):
                values[name] = {**file[name], **given[name]}
        return cls(values)

    def to_toml(self) -> str:
        """Write them down, all of them, as `--config` reads them."""
        return to_toml(self.values)

    def prices(self) -> dict[str, Price]:
        """Return what models cost, by name.

        Raises:
            ConfigurationError: A price cannot be read.
        """
        given = self.values["price"]
        return read_prices([given] if isinstance(given, str) else given)

    def training(self) -> PosttrainSettings:
        """Return what the training is told.

        Raises:
            ConfigurationError: Something is missing, or cannot be.
        """
        missing = [name for name in _NEEDED if not self.values[name]]
        if missing:
            raise ConfigurationError(
                f"Say {' and '.join(f'--{name}' for name in missing)}, on the command line or in "
                f"the file of --config."
            )
        told = {name: value for name, value in self.values.items() if name not in _OWN}
        return PosttrainSettings.from_mapping(told)


def _check_own(values: Mapping[str, Any]) -> None:
    """Make sure that the command's own settings are of their kind; a file may say anything."""
    cloud, price, speed = (values[name] for name in _OWN)
    prices = [price] if isinstance(price, str) else price
    if not (cloud is None or isinstance(cloud, str)):
        raise ConfigurationError(f"cloud must be text, not {cloud!r}.")
    if not (isinstance(prices, list) and all(isinstance(one, str) for one in prices)):
        raise ConfigurationError(f'price must be texts such as ["MODEL=IN,OUT"], not {price!r}.')
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not speed >= 0:
        raise ConfigurationError(f"time_scale must be a number >= 0, not {speed!r}.")


def _defaults() -> dict[str, Any]:
    """Every setting there is, in the order in which it is written."""
    training = {
        one.name: (
            one.default
            if one.default is not MISSING
            else None
            if one.default_factory is MISSING
            else one.default_factory()
        )
        for one in fields(PosttrainSettings)
    }
    named = {name: training.pop(name) for name in ("model", "data", "out")}
    return named | _OWN | training


def read_file(path: Path | None) -> dict[str, Any]:
    """Read a TOML file; no file is an empty one.

    Raises:
        ConfigurationError: It cannot be read, or is no TOML.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ConfigurationError(
            f"{path} is no TOML: {error}. `hybridflow posttrain --print-config` writes one."
        ) from error


def read_options(texts: Sequence[str]) -> dict[str, Any]:
    """Read options of TRL's trainer, given as `NAME=VALUE`, the value as TOML has it.

    Raises:
        ConfigurationError: One of them cannot be read.

    Example:
        >>> read_options(["bf16=true", "beta=0.04", "optim=adafactor"])
        {'bf16': True, 'beta': 0.04, 'optim': 'adafactor'}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.strip().isidentifier() and value.strip()):
            raise ConfigurationError(
                f"An option of the trainer is NAME=VALUE, such as bf16=true; got {text!r}."
            )
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            found[name.strip()] = value.strip()  # a word without quotation marks
    return found


def to_toml(values: Mapping[str, Any]) -> str:
    """Write settings as TOML; what is not set stands there as a comment.

    Example:
        >>> print(to_toml({"model": "m", "rho": None, "lora": {"r": 8}}), end="")
        model = "m"
        # rho is not set
        <BLANKLINE>
        [lora]
        r = 8
    """
    return "\n".join(_lines(values, ())) + "\n"


def _lines(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    tables = {name: one for name, one in values.items() if isinstance(one, Mapping)}
    if path:
        yield from ("", f"[{'.'.join(map(_key, path))}]")
    for name, value in values.items():
        if value is None:
            yield f"# {_key(name)} is not set"
        elif name not in tables:
            yield f"{_key(name)} = {_value(value)}"
    for name, table in tables.items():
        yield from _lines(table, (*path, name))


def _key(name: str) -> str:
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isascii() and bare.isalnum() else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        # JSON's signs are TOML's, but for this one, which JSON lets stand.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(name)} = {_value(one)}' for name, one in value.items())} }}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value))
