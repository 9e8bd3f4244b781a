"""Metrics in rules, dashboards and autoscalers; alerts and their runbook."""

import json
import re
from pathlib import Path

import yaml

from .kubernetes import selected, templates
from .program import nearest

# Made by Prometheus itself, not by us.
FOREIGN = {"up", "ALERTS", "scrape_duration_seconds"}

KEYWORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan"}

RULES = Path("deploy/prometheus/rules")
DASHBOARDS = Path("deploy/grafana/dashboards")
PROVISIONING = Path("deploy/grafana/provisioning")
RUNBOOK = Path("docs/operations.md")
OPERATOR_RULES = Path("k8s/components/monitoring/rules.yaml")
ADAPTER_RULES = Path("k8s/prometheus-adapter/rules.yaml")


def names_in(expression):
    """The metric names of a PromQL expression."""
    text = re.sub(r"\"(?:\\.|[^\"])*\"|'(?:\\.|[^'])*'", "''", expression)
    text = re.sub(r"#[^\n]*", "", text)
    text = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\$\{?\w+(:\w+)?\}?", "1", text)
    words = re.findall(r"(?<![\w.:$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])", text)
    return {word for word in words if word.lower() not in KEYWORDS}


def groups():
    return [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]


def operator_rules():
    """The PrometheusRule that carries the same groups."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "voxray"},
        "spec": {"groups": groups()},
    }


def check_monitoring(problems, metrics):
    known = metrics | FOREIGN
    rules = [(group["name"], rule) for group in groups() for rule in group["rules"]]
    problems.expect(rules, f"{RULES} holds no rules")
    known |= {rule["record"] for _, rule in rules if "record" in rule}
    for group, rule in rules:
        check_expression(problems, f"rule {rule.get('alert') or rule.get('record')} of {group}", rule["expr"], known)
    check_runbook(problems, [rule for _, rule in rules if "alert" in rule])
    for file in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(file.read_text())
        for expression in expressions_of(dashboard):
            check_expression(problems, str(file), expression, known)
        check_variables(problems, str(file), dashboard, known)
    same = yaml.safe_load(OPERATOR_RULES.read_text()) == operator_rules()
    problems.expect(same, f"{OPERATOR_RULES} is not {RULES}: run `PYTHONPATH=.cache/tools/lib python3 scripts/check_manifests.py --write-rules`")


def expressions_of(node):
    """Every query of a dashboard, variables included."""
    if isinstance(node, list):
        for item in node:
            yield from expressions_of(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "expr" and isinstance(value, str):
                yield value
            else:
                yield from expressions_of(value)


def check_variables(problems, where, dashboard, known):
    """Every panel asks the data source that its reader chooses, and lists of choices are made of our metrics."""
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        right = panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        problems.expect(right, f"{where}: {panel['title']} asks another data source than the chosen one")
    chosen = variables.get("datasource", {})
    problems.expect((chosen.get("type"), chosen.get("query")) == ("datasource", "prometheus"), f"{where}: no data source can be chosen")
    for variable in variables.values():
        if variable["type"] == "query":
            made = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            problems.expect(made, f"{where}: {variable['name']} is not made by label_values(metric, label)")
            if made:
                check_expression(problems, where, made[1], known)


def check_provisioning(problems, compose):
    """The Grafana of compose.yaml finds our dashboards, and the Prometheus beside it."""
    services, read = compose["services"], lambda file: yaml.safe_load((PROVISIONING / file).read_text())
    mounts = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    right = mounts.get("/etc/grafana/provisioning", "").endswith(str(PROVISIONING))
    problems.expect(right, f"compose.yaml: grafana does not see {PROVISIONING}")
    for provider in read("dashboards/voxray.yml")["providers"]:
        path = provider["options"]["path"]
        right = mounts.get(path, "").endswith(str(DASHBOARDS))
        problems.expect(right, f"{PROVISIONING}: {path} is not where compose.yaml mounts {DASHBOARDS}")
    sources = read("datasources/prometheus.yml")["datasources"]
    problems.expect(any(source["isDefault"] for source in sources), f"{PROVISIONING}: no data source is the default")
    for source in sources:
        host, _, port = source["url"].removeprefix("http://").partition(":")
        ports = {str(port["target"]) for port in services.get(host, {}).get("ports", [])}
        right = source["type"] == "prometheus" and port in ports
        problems.expect(right, f"{PROVISIONING}: {source['url']} is no Prometheus of compose.yaml")
    uids = [json.loads(file.read_text())["uid"] for file in DASHBOARDS.glob("*.json")]
    problems.expect(len(uids) == len(set(uids)), f"{DASHBOARDS}: two dashboards with one uid: Grafana shows one of them")


def check_expression(problems, where, expression, known):
    for name in sorted(names_in(expression) - known):
        problems.expect(False, f"{where}: no service exports {name}{nearest(name, known)}")


def check_runbook(problems, alerts):
    """Every alert has its section, every section of the chapter its alert."""
    text = RUNBOOK.read_text()
    anchors = {heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ +(.+)$", text, re.M)}
    for rule in alerts:
        url = rule.get("annotations", {}).get("runbook_url", "")
        file, _, anchor = url.partition("#")
        # Anchors are compared as they are made from headings, in lower case.
        is_there = file.endswith("docs/operations.md") and anchor.lower() in anchors
        problems.expect(is_there, f"alert {rule['alert']}: its runbook_url {url!r} is no section of {RUNBOOK}")
        problems.expect(anchor.lower() == rule["alert"].lower(), f"alert {rule['alert']}: its section must have its name")
    chapter = text.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    sections = {name.strip() for name in re.findall(r"^### +(.+)$", chapter, re.M)}
    for name in sorted(sections - {rule["alert"] for rule in alerts}):
        problems.expect(False, f"{RUNBOOK}: there is no alert {name}")


def check_autoscalers(problems, name, documents, metrics):
    """A metric of an autoscaler is made by the adapter's rules, out of one that we export."""
    config = yaml.safe_load(yaml.safe_load(ADAPTER_RULES.read_text())["data"]["config.yaml"])
    made = {}
    for rule in config["rules"]:
        source = re.match(r"\w+", rule["seriesQuery"])[0]
        made[rule["name"]["as"]] = source
        query = re.sub(r"<<\.LabelMatchers>>|<<\.GroupBy>>", "", rule["metricsQuery"].replace("<<.Series>>", source))
        check_expression(problems, str(ADAPTER_RULES), query, metrics)
    for document in documents:
        if document["kind"] != "HorizontalPodAutoscaler":
            continue
        for metric in document["spec"]["metrics"]:
            if metric["type"] == "Pods":
                wanted = metric["pods"]["metric"]["name"]
                problems.expect(wanted in made, f"{name}: the adapter makes no {wanted}{nearest(wanted, made)}")


def check_scrapes_of_pods(problems, name, documents):
    """Every pod of ours is asked once, on the port for operators, under the job that the rules name and with its pool."""
    for monitor in (d["spec"] for d in documents if d["kind"] == "ServiceMonitor"):
        jobs = {job for group in groups() for rule in group["rules"]
                for jobs in re.findall(r'job=~?"([^"]+)"', rule["expr"]) for job in jobs.split("|")}
        for workload, template in templates(documents):
            if not template["spec"]["containers"][0]["image"].split(":")[0].endswith("voxray"):
                continue
            own, kind = workload["metadata"]["name"], template["metadata"]["labels"]["app.kubernetes.io/name"]
            services = scraped(monitor, template, documents)
            asked = [(service["metadata"]["labels"].get(monitor["jobLabel"]), port["targetPort"], endpoint["path"])
                     for service in services for endpoint in monitor["endpoints"]
                     for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
            problems.expect(kind in jobs, f"{RULES} do not know the job {kind}")
            problems.expect(asked == [(kind, "admin", "/metrics")], f"{name}: {own} is scraped as {asked}")
            if kind != "media":
                continue
            # A node that drains is not ready, and has calls.
            draining = all(service["spec"].get("publishNotReadyAddresses") for service in services)
            problems.expect(draining, f"{name}: nodes of {own} that drain are not scraped")
            pool = {"voxray.io/pool"} <= set(monitor.get("podTargetLabels", [])) & set(template["metadata"]["labels"])
            problems.expect(pool, f"{name}: the series of {own} do not name their pool")


def scraped(monitor, template, documents):
    """The Services by which a monitor finds the pods of a template."""
    wanted = monitor["selector"]["matchLabels"].items()
    return [d for d in documents if d["kind"] == "Service" and wanted <= d["metadata"].get("labels", {}).items()
            and any(picked is template for _, picked in selected(d["spec"]["selector"], documents))]
