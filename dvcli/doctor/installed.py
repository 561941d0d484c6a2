"""The versions of everything installed, against what this version of dvid needs at least."""

import platform
import re
from importlib import metadata

from dvcli.doctor import Finding, Findings

NEEDED = re.compile(r"(?P<name>[\w.-]+)\s*>=\s*(?P<least>[\w.]+)\s*(;\s*(?P<marker>.+))?")
EXTRAS = ("xformers", "ray")


def versions() -> Findings:
    """dvid, Python, and each package that dvid needs or can use."""
    yield Finding(name="dvid", said=metadata.version("dvid"))
    yield _python()
    for name, least, extra in requirements():
        if extra is None or (extra in EXTRAS and _version(name) is not None):
            yield package(name, least)


def requirements() -> list[tuple[str, str, str | None]]:
    """(package, lowest version, the extra it belongs to) of the installed dvid."""
    found = []
    for line in metadata.requires("dvid") or []:
        match = NEEDED.match(line)
        if match is not None:
            extra = re.search(r"extra\s*==\s*[\"']([\w-]+)", match["marker"] or "")
            found.append((match["name"], match["least"], extra[1] if extra else None))
    return found


def package(name: str, least: str) -> Finding:
    """Whether it is there and new enough."""
    found = _version(name)
    fix = f"`pip install '{name}>={least}'`"
    if found is None:
        return Finding(name=name, status="fail", said="is not installed", fix=fix)
    if release(found) < release(least):
        return Finding(
            name=name, status="fail", said=f"{found} is older than {least}, the oldest", fix=fix
        )
    return Finding(name=name, said=f"{found}, at least {least}")


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without zeros at its end and without what comes after them."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    least = (metadata.metadata("dvid")["Requires-Python"] or "").removeprefix(">=")
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if release(platform.python_version()) < release(least):
        return Finding(
            name="python",
            status="fail",
            said=f"{said} is older than {least}, the oldest",
            fix=f"install dvid with Python {least} or newer",
        )
    return Finding(name="python", said=said)
