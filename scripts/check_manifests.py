"""Checks what schemas cannot: that names, ports and settings in the manifests fit each other and the program.

Usage: check_manifests.py config.schema.json Dockerfile compose.json RENDERED.yaml...
"""

import json
import re
import sys
import tomllib
from pathlib import Path

import yaml

# Variables of the command that are not keys of the configuration file.
OTHER_SETTINGS = {"VOXRAY_CONFIG", "VOXRAY_MODELS"}

# What compose.yaml itself is parameterised with.
COMPOSE_SETTINGS = {"VOXRAY_VERSION", "VOXRAY_PUBLIC_PORT"}

ROLES = {"signaling", "media", "archiver"}


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


def nearest(name, names):
    import difflib

    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


class Checks:
    def __init__(self, known):
        self.known = known
        self.problems = []

    def expect(self, holds, message):
        if not holds:
            self.problems.append(message)

    def environment(self, where, names):
        for name in names:
            if name.startswith("VOXRAY_"):
                self.expect(name in self.known, f"{where}: {name} is no setting{nearest(name, self.known)}")

    def dockerfile(self, text):
        # `ENV A=1 \ B=2` is one instruction over several lines.
        for instruction in re.findall(r"^ENV (.*(?:\\\n.*)*)", text, re.M):
            self.environment("Dockerfile", re.findall(r"(?:^|\s)(\w+)=", instruction))
        self.expect(re.search(r"^USER 10001", text, re.M), "Dockerfile: the service must run as user 10001")

    def compose(self, compose):
        services = compose["services"]
        ports = {}
        for name, service in services.items():
            env = service.get("environment") or {}
            self.environment(f"compose.yaml: {name}", env)
            self.expect("healthcheck" in service or service.get("image", "").startswith("voxray:"),
                        f"compose.yaml: {name} has no health check")
            role = (service.get("command") or [""])[0]
            if role not in ROLES:
                continue
            ports[name] = {env.get("VOXRAY_PORT", "8080"), env.get("VOXRAY_MEDIA_CONTROL_PORT"),
                           env.get("VOXRAY_ARCHIVER_PORT")}
            for alias in (service.get("networks", {}).get("default") or {}).get("aliases", []):
                ports[alias] = ports[name]
        roles = {(service.get("command") or [""])[0] for service in services.values()}
        self.expect(ROLES <= roles, f"compose.yaml: no service runs {', '.join(sorted(ROLES - roles))}")
        for name, service in services.items():
            for key, value in (service.get("environment") or {}).items():
                self.address(f"compose.yaml: {name}: {key}", value, ports, services)
        return ports

    def address(self, where, value, ports, others):
        """A URL to one of our services must name a port that it listens on; any other must name a service."""
        found = re.match(r"(?:http|ws)://([a-z0-9-]+):(\d+)", str(value or ""))
        if not found or found[1] == "localhost":
            return
        host, port = found.groups()
        if host in ports:
            self.expect(port in ports[host], f"{where}: {host} does not listen on {port}")
        else:
            self.expect(host in others, f"{where}: there is no {host}")

    def nginx(self, text, ports):
        for host, port in re.findall(r"\b([a-z][a-z0-9-]*):(\d+);", text):
            self.expect(host in ports and port in ports[host], f"nginx.conf: {host} does not listen on {port}")

    def kubernetes(self, file, documents):
        workloads = [d for d in documents if d["kind"] in ("Deployment", "StatefulSet")]
        configs = {d["metadata"]["name"]: d.get("data", {}) for d in documents if d["kind"] == "ConfigMap"}
        for name, data in configs.items():
            self.environment(f"{file}: ConfigMap {name}", data)
        for document in documents:
            self.expect(document["kind"] != "Secret", f"{file}: secrets are referred to, not committed")
        for workload in workloads:
            self.workload(file, workload, configs)
        services = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Service"}
        for name, service in services.items():
            self.service(file, name, service, workloads)
        for workload in workloads:
            wanted = workload["spec"].get("serviceName")
            self.expect(wanted is None or wanted in services, f"{file}: there is no Service {wanted}")
        known = {(w["kind"], w["metadata"]["name"]) for w in workloads}
        for d in documents:
            if d["kind"] == "HorizontalPodAutoscaler":
                target = d["spec"]["scaleTargetRef"]
                self.expect((target["kind"], target["name"]) in known, f"{file}: the autoscaler's target does not exist")
            if d["kind"] == "PodDisruptionBudget":
                selector = d["spec"]["selector"]["matchLabels"]
                self.expect(self.selected(selector, workloads), f"{file}: budget {d['metadata']['name']} selects nothing")
        self.addresses(file, configs, workloads, services)

    @staticmethod
    def selected(selector, workloads):
        labels = lambda w: w["spec"]["template"]["metadata"]["labels"]
        return [w for w in workloads if selector.items() <= labels(w).items()]

    def workload(self, file, workload, configs):
        name = f"{file}: {workload['kind']} {workload['metadata']['name']}"
        spec = workload["spec"]["template"]["spec"]
        selector = workload["spec"]["selector"]["matchLabels"]
        self.expect(self.selected(selector, [workload]), f"{name}: its selector does not match its own pods")
        env = {}
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                config = source["configMapRef"]["name"]
                self.expect(config in configs, f"{name}: there is no ConfigMap {config}")
                env |= configs.get(config, {})
            own = {e["name"]: e.get("value") for e in container.get("env", [])}
            self.environment(name, own)
            env |= own
            names = {port["name"] for port in container["ports"]}
            numbers = {str(port["containerPort"]) for port in container["ports"]}
            self.expect(env["VOXRAY_PORT"] in numbers, f"{name}: VOXRAY_PORT is no port of the container")
            for probe in ("livenessProbe", "readinessProbe"):
                port = container[probe]["httpGet"]["port"]
                self.expect(port in names, f"{name}: {probe} asks port {port}, which does not exist")
            self.limits(name, container["resources"])
        if container["args"] == ["media"]:
            drain = int(env["VOXRAY_MEDIA_DRAIN_TIMEOUT_SECS"])
            self.expect(spec["terminationGracePeriodSeconds"] > drain, f"{name}: it is killed before calls may drain")

    def limits(self, name, resources):
        def number(text):
            units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
            amount, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
            return float(amount) * units.get(unit, 1)

        for what, request in resources["requests"].items():
            self.expect(number(request) <= number(resources["limits"][what]), f"{name}: {what} request above its limit")

    def service(self, file, name, service, workloads):
        selected = self.selected(service["spec"]["selector"], workloads)
        self.expect(selected, f"{file}: Service {name} selects nothing")
        for workload in selected:
            containers = workload["spec"]["template"]["spec"]["containers"]
            ports = {p[key] for c in containers for p in c["ports"] for key in ("name", "containerPort")}
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                self.expect(target in ports, f"{file}: Service {name}: target port {target} does not exist")

    def build_context(self, members, ignored):
        """The image is built from what .dockerignore lets through: every crate has to be there."""
        for member in members:
            folder = "!" + member.split("/")[0]
            self.expect(folder in ignored.split(), f".dockerignore keeps {member} out of the image's build: add {folder}")

    def addresses(self, file, configs, workloads, services):
        ports = {name: {str(port["port"]) for port in s["spec"]["ports"]} for name, s in services.items()}
        for workload in workloads:
            name = workload["metadata"]["name"]
            for container in workload["spec"]["template"]["spec"]["containers"]:
                values = {e["name"]: e.get("value") for e in container.get("env", [])}
                for source in container.get("envFrom", []):
                    values = configs.get(source["configMapRef"]["name"], {}) | values
                for key, value in values.items():
                    # A pod of a StatefulSet is NAME-0.SERVICE.
                    value = re.sub(r"\$\(POD_NAME\)\.", "", str(value or ""))
                    self.address(f"{file}: {name}: {key}", value, ports, services)


def main(schema, dockerfile, compose, *rendered):
    checks = Checks(settings(schema))
    checks.dockerfile(Path(dockerfile).read_text())
    members = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["members"]
    checks.build_context(members, Path(".dockerignore").read_text())
    ports = checks.compose(json.loads(Path(compose).read_text()))
    checks.nginx(Path("deploy/nginx/nginx.conf").read_text(), ports)
    for file in rendered:
        documents = [d for d in yaml.safe_load_all(Path(file).read_text()) if d]
        checks.kubernetes(Path(file).stem, documents)
    for variable in re.findall(r"\$\{(VOXRAY_\w+)", Path("compose.yaml").read_text()):
        checks.expect(variable in checks.known | COMPOSE_SETTINGS, f"compose.yaml: ${{{variable}}} is unknown")
    for problem in checks.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if checks.problems else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
