"""Python and the libraries that vit_jax stands on: installed, against what it supports."""

import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vit_jax.doctor.findings import Finding
from vit_jax.errors import UserError

PACKAGE = "vit_jax"
_SHOWN = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-cpu", "tensorflow")


def look_at_versions() -> Finding:
    """Compares what is installed with the ranges that the package declares.

    Raises:
      UserError: the package itself is not installed.
    """
    python = platform.python_version()
    versions, wrong = {"python": python}, []
    try:
        supported = metadata.metadata(PACKAGE)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        raise UserError(f"{PACKAGE} is not installed, only imported: pip install . in its folder") from None
    if not SpecifierSet(supported).contains(python):
        wrong.append(f"Python {python} (supported: {supported})")
    for requirement in map(Requirement, metadata.requires(PACKAGE) or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = versions[requirement.name] = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} (supported: {requirement.specifier})")
    wrong += _unequal_jaxlib(versions)
    shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
    fix = f"{'; '.join(wrong)}: pip install . in its folder, into a fresh environment" if wrong else ""
    return Finding("versions", f"Python {python}, {shown}", fix, versions)


def _unequal_jaxlib(versions: dict[str, str]) -> list[str]:
    """jaxlib, which must not be newer than jax."""
    try:
        jaxlib = versions["jaxlib"] = metadata.version("jaxlib")
    except metadata.PackageNotFoundError:
        return ["jaxlib is missing"]
    jax = versions.get("jax", jaxlib)
    return [f"jaxlib {jaxlib} with jax {jax}"] if jaxlib.split(".")[:2] != jax.split(".")[:2] else []


def compare_versions(findings: list[Finding]) -> list[Finding]:
    """A finding if the processes of a job have other versions."""
    first, *others = findings
    for other in others:
        names = sorted(first.numbers.keys() | other.numbers.keys())
        differ = [name for name in names if first.numbers.get(name) != other.numbers.get(name)]
        if differ:
            name = differ[0]
            have = [f"process {of.process} has {name} {of.numbers.get(name, 'not at all')}" for of in (first, other)]
            return [Finding("same versions", "no", f"{', '.join(have)}: install the same on every host")]
    return [Finding("same versions", f"on all {len(findings)} processes")] if others else []
