"""What the program knows: its settings, routes and metrics, read from what is generated from it and from its sources."""

import difflib
import json
import re
import sys
from pathlib import Path

# Variables of the command that are not keys of the configuration file.
OTHER_SETTINGS = {"VOXRAY_CONFIG", "VOXRAY_MODELS"}

# Exported by the client library for every process.
PROCESS_METRICS = {
    "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_virtual_memory_bytes",
    "process_resident_memory_bytes", "process_start_time_seconds", "process_threads",
}

DECLARATION = re.compile(r'\b(?:float_)?(counter|gauge|histogram)(?:_vec)?\(\s*"([a-z][a-z0-9_]*)"')


class Problems:
    """What was found wrong, as lines for people."""

    def __init__(self):
        self.lines = []

    def expect(self, holds, message):
        if not holds:
            self.lines.append(message)


def settings(schema_file):
    """Environment names of all keys: VOXRAY_ + path in upper snake case, and with _FILE for those read from files."""
    try:
        schema = json.loads(Path(schema_file).read_text())
    except FileNotFoundError:
        sys.exit(f"{schema_file} is missing: it is generated from the table of configuration keys and committed")

    def paths(node, prefix):
        for key, value in node.get("properties", {}).items():
            if value.get("properties"):
                yield from paths(value, f"{prefix}{key}.")
            else:
                yield prefix + key

    names = {"VOXRAY_" + re.sub(r"[^A-Za-z0-9]", "_", path).upper() for path in paths(schema, "")}
    if len(names) < 20:
        sys.exit(f"{schema_file} holds {len(names)} keys: its shape is not understood")
    return names | {name + "_FILE" for name in names} | OTHER_SETTINGS


def table_of_keys(markdown_file="docs/configuration.md"):
    """Environment names of secrets, and of keys that this release refuses."""
    secret, refused = set(), set()
    for line in Path(markdown_file).read_text().splitlines():
        cells = line.split(" | ")
        if len(cells) < 5 or not cells[0].startswith("| `"):
            continue
        names = set(re.findall(r"`(\w+)`", cells[1]))
        if "*Secret.*" in line:
            secret |= names
        if "*Not in this release.*" in line:
            refused |= names
    if len(secret) < 10:
        sys.exit(f"{markdown_file} names {len(secret)} secrets: its shape is not understood")
    return secret, refused


def phone_accounts(markdown_file="docs/configuration.md"):
    """Environment names of what an account at a phone provider consists of."""
    text = Path(markdown_file).read_text()
    names = set(re.findall(r"`((?:TWILIO|TELNYX|PLIVO|EXOTEL|VONAGE|GENESYS)_\w+)`", text))
    if len(names) < 10:
        sys.exit(f"{markdown_file} names {len(names)} settings of phone providers: its shape is not understood")
    return names


def sources():
    for folder in ("service-kit", "session-store", "signaling-svc", "media-svc", "archiver-svc", "carriers", "voxray"):
        for file in Path(folder).rglob("*.rs"):
            if "src" in file.parts and "tests" not in file.parts:
                yield file.read_text().split("#[cfg(test)]\nmod tests")[0]


def routes():
    """Every path that a router of ours has, unversioned."""
    return {path for text in sources() for path in re.findall(r'\.route\(\s*"([^"]+)"', text)}


def conditions():
    """Every name under which `/ready` may give a reason."""
    names = set()
    for text in sources():
        constants = dict(re.findall(r'const (\w+): &str = "(\w+)";', text))
        for literal, constant in re.findall(r'readiness\s*\.(?:not_)?ok\(\s*(?:"(\w+)"|([A-Z_]+))', text):
            names.add(literal or constants.get(constant))
    return names


def metrics():
    """Every name that a running service may export, with what Prometheus makes of a histogram."""
    names = set(PROCESS_METRICS)
    for text in sources():
        for kind, name in DECLARATION.findall(text):
            names.add(name)
            if kind == "histogram":
                names |= {name + suffix for suffix in ("_bucket", "_sum", "_count")}
    return names


def nearest(name, names):
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def check_environment(problems, where, names, known):
    for name in names:
        # What is near is looked for only then: it takes longer than all other checks together.
        if name.startswith("VOXRAY_") and name not in known:
            problems.expect(False, f"{where}: {name} is no setting{nearest(name, known)}")


def check_address(problems, where, value, ports, others):
    """A URL to one of our services must name a port that it listens on; any other must name a service."""
    found = re.match(r"(?:https?|wss?)://([a-z0-9-]+):(\d+)", str(value or ""))
    if not found or found[1] == "localhost":
        return
    host, port = found.groups()
    if host in ports:
        problems.expect(port in ports[host], f"{where}: {host} does not listen on {port}")
    else:
        problems.expect(host in others, f"{where}: there is no {host}")
