"""Settings: `TIPLINE_*` variables over a file over defaults. An unknown name is an error that suggests the right one."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from schemas.errors import TiplineError

PREFIX = "TIPLINE_"
#: Variables that are read elsewhere and are no settings of the service.
_ELSEWHERE = frozenset(
    {"TIPLINE_CONFIG", "TIPLINE_PYTHON", "TIPLINE_FAILPOINT", "TIPLINE_TOKEN", "TIPLINE_URL", "TIPLINE_CA"}
)


class BadSettings(TiplineError):
    """A setting that is unknown or cannot be read; the message says which, where from and how to mend it."""

    exit_code = 2


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The effective settings of one installation."""

    #: Directory of the store: `intake.db`, `work.db`, `keys.json`, `models/`.
    data: str = "./data"
    #: County directories, separated by the system's path separator; empty: those in force in the store, else the packaged
    #: example.
    county: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    #: `kafka://HOST:PORT` for the distributed log; empty: embedded.
    log: str = ""
    #: SQLAlchemy URL of the work database; empty: `work.db` in `data`.
    database: str = ""
    #: File of the keyring; empty: `keys.json` in `data`.
    keys: str = ""
    #: Requests a second that one token may make on average; bursts of ten times that.
    rate: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    #: Bytes the log of tips may take before the door answers 503; 0: no cap.
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    #: PEM files: the certificate with its chain, and its key; both empty: plain HTTP.
    tls_cert: str = ""
    tls_key: str = ""
    #: PEM file of authorities that outgoing webhooks trust besides the system's; empty: the system's alone.
    webhook_ca: str = ""
    #: Addresses or networks, separated by commas, of the proxies whose X-Forwarded-For and -Proto are believed.
    trusted_proxy: str = ""
    #: The origin that people reach the pages at, for QR codes, such as https://tips.example; empty: as the request says.
    public_url: str = ""
    #: Map tiles of a server of one's own, such as https://tiles.example/{z}/{x}/{y}.png; empty: boundaries alone.
    tiles: str = ""


def load_settings(environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the file named by TIPLINE_CONFIG, then the environment, then `overrides` that are not None.

    Raises BadSettings.
    """
    known = {f.name for f in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    if path := environ.get("TIPLINE_CONFIG"):
        try:
            values.update(tomllib.loads(Path(path).read_text("utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadSettings(
                f"{path}: cannot be read as TOML ({error}). TIPLINE_CONFIG must name a TOML file with lines such as `port = 8080`"
            ) from None
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in _ELSEWHERE:
            values[name.removeprefix(PREFIX).lower()] = value
    if "log_level" in values:
        values["log_level"] = str(values["log_level"]).lower()
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = (
                f"; did you mean {PREFIX}{near[0].upper()}?"
                if near
                else f"; known are {', '.join(sorted(PREFIX + k.upper() for k in known))}"
            )
            raise BadSettings(f"{PREFIX}{name.upper()} is no setting{hint}")
    values.update({k: v for k, v in (overrides or {}).items() if v is not None})
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        words, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        wanted = " or ".join(get_args(get_type_hints(Settings)[name])) if name == "log_level" else ""
        raise BadSettings(
            f"{PREFIX}{name.upper()} (or `{name}` in the file of TIPLINE_CONFIG): {words}"
            + (f"; write {wanted}" if wanted else "")
        ) from None


def effective(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of this process."""
    return load_settings(os.environ, overrides)


def override(settings: Settings, **changes: Any) -> Settings:
    """The settings with what is not None of `changes`."""
    return msgspec.structs.replace(settings, **{name: value for name, value in changes.items() if value is not None})


def names_county(settings: Settings) -> bool:
    """Whether an option, a variable or the file names a county; else it is the store's, and the packaged example where the
    store has none in force yet."""
    return any(settings.county.split(os.pathsep))


def counties_of(settings: Settings) -> list[str]:
    """The county names or paths of the settings; one empty string stands for the packaged example."""
    return [part for part in settings.county.split(os.pathsep) if part] or [""]
