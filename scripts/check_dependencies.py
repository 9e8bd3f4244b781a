"""Checks Cargo.lock against the licences, bans and sources of deny.toml, with what a Rust toolchain brings along.

`cargo deny check` does the same and looks up advisories too, where it is installed.
"""

import collections
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path


def licence_is_allowed(expression, allowed):
    """SPDX expression: every part of an AND, one part of an OR. `/` is how crates used to write OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            tokens.pop(0)
            return value
        if tokens and tokens[0] == "WITH":
            token = f"{token} {tokens.pop(0)} {tokens.pop(0)}"
        return token in allowed

    return either()


def main():
    rules = tomllib.loads(Path("deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for target in rules["graph"]["targets"]:
        command += ["--filter-platform", target]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    problems = []
    versions = collections.defaultdict(set)
    for package in packages:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        source = package["source"]
        if source is None:
            continue
        if not source.startswith("registry+"):
            problems.append(f"{name} comes from {source}, not from the package registry")
        licence = package["license"]
        if not licence or not licence_is_allowed(licence, set(rules["licenses"]["allow"])):
            problems.append(f"{name} is under {licence or 'no stated licence'}, which deny.toml does not allow")
    for ban in rules["bans"]["deny"]:
        found = sorted(versions[ban["crate"]])
        if found and not ban.get("deny-multiple-versions"):
            problems.append(f"{ban['crate']} is banned by deny.toml: `cargo tree -i {ban['crate']}` shows who wants it")
        elif len(found) > 1:
            problems.append(f"{ban['crate']} is there in several versions: {', '.join(found)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
