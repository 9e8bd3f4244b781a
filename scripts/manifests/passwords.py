"""Who is given which password by compose.yaml."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

SCRIPT = "deploy/compose/secrets.sh"

# Where a service finds its files.
FOLDER = "/run/secrets"


def written(problems):
    """Runs the script as for a new deployment, and again. Returns the names of the files of each group."""
    with tempfile.TemporaryDirectory() as work:
        values, groups = Path(work, "values"), Path(work, "groups")
        values.mkdir()
        first, second = (run(values, groups) for _ in range(2))
        problems.expect(first == second, f"{SCRIPT}: a second run changes passwords")
        next(values.iterdir()).unlink()
        problems.expect(run(values, groups) != first, f"{SCRIPT}: a password that was removed does not change")
        for file in groups.glob("*/*"):
            problems.expect(file.stat().st_mode & 0o777 == 0o444, f"{SCRIPT}: {file.name} must be readable for all")
        for file in values.iterdir():
            problems.expect(file.stat().st_mode & 0o777 == 0o600, f"{SCRIPT}: {file.name} must be readable for root alone")
    return {group: set(files) for group, files in first.items()}


def run(values, groups):
    subprocess.run(["sh", SCRIPT, values, groups], check=True, stderr=subprocess.DEVNULL)
    return {folder.name: {file.name: file.read_text() for file in folder.iterdir()} for folder in groups.iterdir()}


def check_passwords(problems, services, groups):
    """Every service is given the files that it names and no others, after they were written."""
    writer, service = next((item for item in services.items() if mounts_script(item[1])), (None, None))
    problems.expect(writer, f"compose.yaml: no service runs {SCRIPT}")
    if not writer:
        return
    values, root = service["entrypoint"][-2:]
    targets = {mount["target"]: mount["source"] for mount in service["volumes"]}
    volumes = {targets.get(f"{root}/{group}"): group for group in groups}
    problems.expect(None not in volumes and values in targets, f"compose.yaml: {writer}: what it writes is on no volume")
    for name, service in services.items():
        where = f"compose.yaml: {name}"
        mounts = [] if name == writer else service.get("volumes", [])
        problems.expect(targets.get(values) not in [mount["source"] for mount in mounts], f"{where} is given every password")
        mounts = [mount for mount in mounts if mount["source"] in volumes]
        for mount in mounts:
            kept = mount["target"] == FOLDER and mount.get("read_only")
            problems.expect(kept, f"{where}: {mount['source']} must be mounted at {FOLDER}, read-only")
        given = {file for mount in mounts for file in groups[volumes[mount["source"]]]}
        for file in sorted(named(service) - given):
            problems.expect(False, f"{where}: {FOLDER}/{file} is on no volume that is mounted there")
        for file in sorted(given - named(service)):
            problems.expect(False, f"{where} is given {file} and has no use for it")
        condition = service.get("depends_on", {}).get(writer, {}).get("condition")
        problems.expect(not given or condition == "service_completed_successfully", f"{where} does not wait for {writer}")


def mounts_script(service):
    return any(mount["source"].endswith("/" + SCRIPT) and mount.get("read_only") for mount in service.get("volumes", []))


def named(service):
    """The files that a service's settings, command and health check name."""
    text = json.dumps([service.get(key) for key in ("environment", "command", "healthcheck")])
    return set(re.findall(rf"{FOLDER}/([\w.]+)", text))
