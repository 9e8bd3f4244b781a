"""Checks what schemas cannot: that names, ports, settings and metrics in the deployment files fit each other and the program.

Usage: check_manifests.py config.schema.json Dockerfile compose.json ELSEWHERE.json RENDERED.yaml...
       ELSEWHERE is compose.json on another public address and port
       check_manifests.py --write-rules      writes the alert rules again in the Prometheus operator's form
"""

import json
import sys
import tomllib
from pathlib import Path

import yaml

from manifests import containers, monitoring, overlays, passwords, program, schemas, selftest


def write_rules():
    text = yaml.safe_dump(monitoring.operator_rules(), sort_keys=False, width=4096)
    source = f"# {monitoring.RULES}, for the Prometheus operator: python3 scripts/check_manifests.py --write-rules\n"
    monitoring.OPERATOR_RULES.write_text(source + text)


def main(schema, dockerfile, compose, elsewhere, *files):
    problems = program.Problems()
    known = program.settings(schema)
    secret, refused = program.table_of_keys()
    routes, conditions, metrics = program.routes(), program.conditions(), program.metrics()

    toolchain = tomllib.loads(Path("rust-toolchain.toml").read_text())
    containers.check_dockerfile(problems, Path(dockerfile).read_text(), known, toolchain)
    members = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["members"]
    containers.check_build_context(problems, members, Path(".dockerignore").read_text())
    text = Path("compose.yaml").read_text()
    services = json.loads(Path(compose).read_text())
    groups = passwords.written(problems)
    ports = containers.check_compose(problems, services, text, known, secret, groups)
    containers.check_public_port(problems, json.loads(Path(elsewhere).read_text())["services"])
    for file in ("deploy/nginx/nginx.conf", "k8s/components/node-names/nginx.conf", "k8s/overlays/dev/nginx.conf"):
        containers.check_sockets(problems, file, Path(file).read_text())
    containers.check_nginx(problems, Path("deploy/nginx/nginx.conf").read_text(), ports)
    containers.check_scrapes(problems, yaml.safe_load(Path("deploy/prometheus/prometheus.yml").read_text()), services)

    rendered = {Path(file).stem: [d for d in yaml.safe_load_all(Path(file).read_text()) if d] for file in files}
    schemas.check_schemas(problems, rendered)
    about = (metrics, known, secret, refused, routes, conditions)
    for name, documents in rendered.items():
        if name != "prometheus-adapter":
            overlays.check_overlay(problems, name, documents, *about)
    monitoring.check_monitoring(problems, metrics)
    monitoring.check_provisioning(problems, services)
    selftest.check_container_checks(problems, services, text, known, secret, groups)
    selftest.check_checks(problems, rendered, about)

    for problem in problems.lines:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems.lines else 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write-rules"]:
        write_rules()
    else:
        main(*sys.argv[1:])
