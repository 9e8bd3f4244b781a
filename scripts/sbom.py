"""Writes the software bill of materials of the voxray command: every crate that is compiled into it, in CycloneDX 1.6 JSON.

Usage: sbom.py FILE

The same Cargo.lock gives the same bytes. What is not a crate (Debian packages of the image, speech models) is not in it.
"""

import json
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.output import OutputFormat
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation import make_schemabased_validator

ROOT = "voxray"


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for target in tomllib.loads(Path("deny.toml").read_text())["graph"]["targets"]:
        command += ["--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compiled_in(graph, root):
    """Packages that `root` needs to be built, by id: those that only tests need are left out."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    edges, waiting = {}, [root]
    while waiting:
        package = waiting.pop()
        if package in edges:
            continue
        needed = [d["pkg"] for d in nodes[package]["deps"] if any(k["kind"] in (None, "build") for k in d["dep_kinds"])]
        edges[package] = sorted(set(needed))
        waiting += needed
    return edges


def component(package, checksums):
    reference = f"pkg:cargo/{package['name']}@{package['version']}"
    found = {"type": "library", "bom-ref": reference, "name": package["name"], "version": package["version"], "purl": reference}
    if package["license"]:
        # `/` is how crates used to write OR.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ").replace("  ", " ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["description"]:
        found["description"] = " ".join(package["description"].split())
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def bill(lock_text):
    everything = metadata()
    packages = {package["id"]: package for package in everything["packages"]}
    root = next(p for p in everything["workspace_members"] if packages[p]["name"] == ROOT)
    edges = compiled_in(everything["resolve"], root)
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads(lock_text)["package"]}
    components = {package: component(packages[package], checksums) for package in edges}
    main = components[root] | {"type": "application"}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, lock_text)}",
        "version": 1,
        "metadata": {"component": main},
        "components": sorted((c for p, c in components.items() if p != root), key=lambda c: c["bom-ref"]),
        "dependencies": sorted(
            ({"ref": components[p]["bom-ref"], "dependsOn": sorted(components[d]["bom-ref"] for d in needed)} for p, needed in edges.items()),
            key=lambda entry: entry["ref"],
        ),
    }


def main(file):
    found = bill(Path("Cargo.lock").read_text())
    text = json.dumps(found, indent=1) + "\n"
    problem = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(text)
    if problem:
        sys.exit(f"the bill of materials is not CycloneDX 1.6: {problem}")
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)
    print(f"{file}: {len(found['components'])} crates")


if __name__ == "__main__":
    main(*sys.argv[1:])
