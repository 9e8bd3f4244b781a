"""Workloads, their settings and services of a rendered overlay."""

import re

from .program import check_address, check_environment

# The secret with the accounts of phone providers.
PHONES = "voxray-phones"

# Of no namespace. kustomize does not know that of all of them.
CLUSTER_SCOPED = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}

# Where it has to be said which user a pod runs as, and so on; every pod of ours says it itself.
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def templates(documents):
    """Every workload with its pod template."""
    for document in documents:
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document, document["spec"]["template"]
        if document["kind"] == "CronJob":
            yield document, document["spec"]["jobTemplate"]["spec"]["template"]


def selected(selector, documents):
    """Pod templates that a selector picks: matchLabels as a plain mapping, or a whole LabelSelector."""
    if "matchLabels" in selector or "matchExpressions" in selector:
        labels = selector.get("matchLabels", {})
        expressions = selector.get("matchExpressions", [])
    else:
        labels, expressions = selector, []

    def fits(template):
        own = template["metadata"].get("labels", {})
        within = all(e["operator"] == "In" and own.get(e["key"]) in e["values"] for e in expressions)
        return labels.items() <= own.items() and within

    return [(workload, template) for workload, template in templates(documents) if fits(template)]


def container_ports(template):
    """Names and numbers of all ports of a pod, with the numbers as text too."""
    ports = [port for container in template["spec"]["containers"] for port in container.get("ports", [])]
    return {key for port in ports for key in (port["name"], port["containerPort"], str(port["containerPort"]))}


def configs(documents):
    """The data of all ConfigMaps by name."""
    return {d["metadata"]["name"]: d.get("data", {}) for d in documents if d["kind"] == "ConfigMap"}


def environment(container, data):
    """The variables of a container, `None` where the value comes from elsewhere; `data`: that of the ConfigMaps by name.
    Which variables a Secret gives as a whole is not known here."""
    env = {}
    for source in container.get("envFrom", []):
        env |= data.get(source.get("configMapRef", {}).get("name"), {})
    return env | {entry["name"]: entry.get("value") for entry in container.get("env", [])}


class Overlay:
    """One rendered overlay."""

    def __init__(self, problems, name, documents, known, secret, refused, routes, conditions):
        self.problems, self.name, self.documents = problems, name, documents
        self.known, self.secret, self.refused = known, secret, refused
        self.routes, self.conditions = routes, conditions
        self.configs = configs(documents)
        self.services = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Service"}
        self.accounts = {d["metadata"]["name"]: d for d in documents if d["kind"] == "ServiceAccount"}

    def expect(self, holds, message):
        self.problems.expect(holds, f"{self.name}: {message}")

    def check(self):
        for name, data in self.configs.items():
            self.settings(f"ConfigMap {name}", data)
        for document in self.documents:
            self.expect(document["kind"] != "Secret", "secrets are referred to, not committed")
            if document["kind"] in CLUSTER_SCOPED and not self.name.startswith("component-"):
                inside = "namespace" in document["metadata"]
                self.expect(not inside, f"{document['kind']} {document['metadata']['name']} is of no namespace")
        for workload, template in templates(self.documents):
            self.workload(workload, template)
        for name, service in self.services.items():
            self.service(name, service)
        self.addresses()

    def settings(self, where, values):
        where = f"{self.name}: {where}"
        check_environment(self.problems, where, values, self.known)
        for key, value in values.items():
            self.problems.expect(value is None or key not in self.secret, f"{where}: {key} is a secret; refer to it")
            self.problems.expect(key not in self.refused, f"{where}: this release refuses {key}")

    def workload(self, workload, template):
        spec, name = template["spec"], f"{workload['kind']} {workload['metadata']['name']}"
        selector = workload["spec"].get("selector")
        if selector:
            self.expect(selected(selector, [workload]), f"{name}: its selector does not match its own pods")
        headless = workload["spec"].get("serviceName")
        self.expect(headless is None or headless in self.services, f"{name}: there is no Service {headless}")
        self.pod_security(name, spec)
        volumes = {v["name"] for v in spec.get("volumes", [])}
        volumes |= {v["metadata"]["name"] for v in workload["spec"].get("volumeClaimTemplates", [])}
        for container in spec["containers"]:
            self.container(name, workload, spec, container)
            for mount in container.get("volumeMounts", []):
                self.expect(mount["name"] in volumes, f"{name}: there is no volume {mount['name']}")
        for volume in spec.get("volumes", []):
            config = volume.get("configMap", {}).get("name")
            self.expect(config is None or config in self.configs, f"{name}: there is no ConfigMap {config}")

    def node_certificate(self, name, workload, spec, env):
        """Whether a node is called by a name that its certificate has, as rustls matches them: a wildcard is one label,
        and at least two follow it."""
        url = env.get("VOXRAY_MEDIA_CONTROL_URL") or ""
        if not url.startswith("https:"):
            return
        known = env | {"POD_NAME": f"{workload['metadata']['name']}-0"}
        host = re.sub(r"\$\((\w+)\)", lambda m: known.get(m[1]) or m[0], url).split("/")[2].rsplit(":", 1)[0]
        mounted = {v["secret"]["secretName"] for v in spec.get("volumes", []) if "secret" in v}
        names = {n for d in self.documents if d["kind"] == "Certificate" and d["spec"]["secretName"] in mounted
                 for n in d["spec"]["dnsNames"]}
        wildcard = "*." + host.partition(".")[2]
        fits = host in names or (wildcard in names and wildcard.count(".") >= 2)
        self.expect(fits, f"{name}: its control URL names {host}, which is not in its certificate")

    def pod_security(self, name, spec):
        context = spec.get("securityContext", {})
        self.expect(context.get("runAsNonRoot") and context.get("runAsUser"), f"{name}: it must not run as root")
        self.expect(context.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{name}: it needs a seccomp profile")
        token = spec.get("automountServiceAccountToken")
        account = spec.get("serviceAccountName")
        self.expect(token is False or account == "deletion-cost", f"{name}: it must not get a token of the cluster")
        self.expect(account is None or account in self.accounts, f"{name}: there is no ServiceAccount {account}")
        for container in spec["containers"]:
            own = container.get("securityContext", {})
            self.expect(RESTRICTED.items() <= own.items(), f"{name}: container {container['name']} is not restricted")

    def container(self, name, workload, spec, container):
        self.limits(name, container["resources"])
        env, before = environment(container, self.configs), set()
        for source in container.get("envFrom", []):
            config = source.get("configMapRef", {}).get("name")
            self.expect(config is None or config in self.configs, f"{name}: it reads a ConfigMap that is not there")
        for entry in container.get("env", []):
            for reference in re.findall(r"\$\((\w+)\)", entry.get("value") or ""):
                self.expect(reference in before, f"{name}: {entry['name']} names $({reference}), which must stand before it")
            before.add(entry["name"])
        self.settings(name, {entry["name"]: entry.get("value") for entry in container.get("env", [])})
        if workload["kind"] == "CronJob":
            return
        ports = container_ports({"spec": spec})
        for probe in ("livenessProbe", "readinessProbe"):
            self.expect(probe in container, f"{name}: it has no {probe}")
            action = container.get(probe, {}).get("httpGet") or container.get(probe, {}).get("tcpSocket") or {}
            self.expect(action.get("port") in ports, f"{name}: {probe} asks port {action.get('port')}, which does not exist")
            if container["image"].split(":")[0].endswith("voxray"):
                path, _, query = (action.get("path") or "").partition("?")
                self.expect(path in self.routes, f"{name}: {probe} asks {path}, which is no route")
                for condition in query.removeprefix("exclude=").split(",") if query else []:
                    known = condition in self.conditions
                    self.expect(known, f"{name}: {probe} leaves out {condition}, which is no condition of /ready")
        if container["image"].split(":")[0].endswith("voxray"):
            self.service_container(name, workload, spec, container, env, ports)

    def service_container(self, name, workload, spec, container, env, ports):
        role = container["args"][0]
        listening = {"signaling": ["VOXRAY_PORT"], "media": ["VOXRAY_PORT", "VOXRAY_MEDIA_CONTROL_PORT"],
                     "archiver": ["VOXRAY_ARCHIVER_PORT"]}[role]
        for key in [*listening, "VOXRAY_ADMIN_PORT"]:
            self.expect(env.get(key) in ports, f"{name}: {key} is {env.get(key)}, which is no port of the container")
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        self.expect(sleep >= 5, f"{name}: it stops listening before the proxies have heard that it goes")
        traced = "VOXRAY_OTLP_ENDPOINT" not in env or "VOXRAY_OTLP_HEADERS" in env
        self.expect(traced, f"{name}: it sends traces without VOXRAY_OTLP_HEADERS")
        self.phones(name, role, container, env)
        if role == "archiver":
            self.spool(name, spec, container)
        else:
            self.door(name, container, env)
        if role == "media":
            self.node_certificate(name, workload, spec, env)
            drain, flush = (int(env[f"VOXRAY_MEDIA_{what}_TIMEOUT_SECS"]) for what in ("DRAIN", "FLUSH"))
            # 10: the agent's last words.
            enough = spec["terminationGracePeriodSeconds"] >= sleep + drain + flush + 10
            self.expect(enough, f"{name}: it is killed before calls may drain and the outbox is empty")

    def phones(self, name, role, container, env):
        """Whoever steers calls has the accounts for it, and a name under which providers come back; nobody else has."""
        given = {"name": PHONES, "optional": True} in [source.get("secretRef") for source in container.get("envFrom", [])]
        self.expect(given == (role != "archiver"), f"{name}: phone accounts ({PHONES}) are {'' if given else 'not '}given to it")
        # Nobody calls the dev overlay from outside.
        self.expect(env.get("VOXRAY_PROXY_HOST") or self.name == "dev", f"{name}: without VOXRAY_PROXY_HOST it places no call")

    def spool(self, name, spec, container):
        """A disk that can be full: over the limit of an emptyDir the pod is evicted, with all that it has in hand."""
        folder = next(m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/var/lib/voxray")
        volume = next(v for v in spec["volumes"] if v["name"] == folder)
        self.expect("sizeLimit" not in volume.get("emptyDir", {}), f"{name}: it is evicted when its spool folder is full")

    def door(self, name, container, env):
        """Nobody starts calls without a key, nor as many as they like. The dev overlay is for one machine."""
        key = next((e for e in container.get("env", []) if e["name"] == "VOXRAY_SERVER_API_KEY"), {})
        reference = key.get("valueFrom", {}).get("secretKeyRef", {})
        needed = bool(reference) and not reference.get("optional")
        self.expect(needed or self.name == "dev", f"{name}: it starts without VOXRAY_SERVER_API_KEY")
        for what in ("SESSIONS_PER_KEY", "STARTS_PER_MINUTE", "STARTS_PER_MINUTE_PER_ADDRESS"):
            limited = int(env.get(f"VOXRAY_LIMITS_{what}") or 0) > 0
            self.expect(limited, f"{name}: VOXRAY_LIMITS_{what} is not set: sessions are not limited")

    def limits(self, name, resources):
        def number(text):
            units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
            amount, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
            return float(amount) * units.get(unit, 1)

        for what in ("cpu", "memory"):
            request, limit = resources.get("requests", {}).get(what), resources.get("limits", {}).get(what)
            self.expect(request and limit, f"{name}: {what} needs a request and a limit")
            if request and limit:
                self.expect(number(request) <= number(limit), f"{name}: {what} request above its limit")

    def service(self, name, service):
        picked = selected(service["spec"]["selector"], self.documents)
        self.expect(picked, f"Service {name} selects nothing")
        for _, template in picked:
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                self.expect(target in container_ports(template), f"Service {name}: target port {target} does not exist")

    def addresses(self):
        ports = {name: {str(port["port"]) for port in s["spec"]["ports"]} for name, s in self.services.items()}
        for workload, template in templates(self.documents):
            for container in template["spec"]["containers"]:
                own = {e["name"]: e.get("value") or "" for e in container.get("env", [])}
                for key, value in environment(container, self.configs).items():
                    # A pod of a StatefulSet is NAME-0.SERVICE; of a Deployment it has an address only.
                    value = str(value or "").replace("$(POD_NAME).", "").replace("$(POD_IP)", "localhost")
                    value = re.sub(r"\$\((\w+)\)", lambda found: own.get(found[1], ""), value)
                    where = f"{self.name}: {workload['metadata']['name']}: {key}"
                    check_address(self.problems, where, value, ports, self.services)
