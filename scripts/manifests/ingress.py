"""Where an Ingress leads from outside, and how ingress-nginx gets there."""

import re

from .containers import OTHERS, SOCKETS
from .kubernetes import configs, environment, selected

PREFIX = "nginx.ingress.kubernetes.io/"

# ingress-nginx makes one upstream of each port of a Service: of the Ingresses that name it, one decides these for all.
BALANCING = ("upstream-hash-by", "upstream-hash-by-subset", "load-balance", "affinity", "service-upstream")

# Sockets whose URL holds a token: the same URL finds the same node. The others come by one URL, and go to each in turn.
WITH_TOKEN = "/telephony/ws"

# Of the nodes of a pool at its largest, half are asked before somebody is refused.
TRIES = 10


def check_ingresses(problems, name, documents, routes):
    Ingresses(problems, name, documents, routes).check()


class Ingresses:
    """All of one overlay."""

    def __init__(self, problems, name, documents, routes):
        self.problems, self.name, self.documents, self.routes = problems, name, documents, routes
        self.configs = configs(documents)
        self.services = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Service"}
        # Host, path, backend and the Ingress with its annotations.
        self.paths = [
            (rule["host"], path, path["backend"]["service"], document)
            for document in documents if document["kind"] == "Ingress"
            for rule in document["spec"]["rules"] for path in rule["http"]["paths"]
        ]

    def expect(self, holds, message):
        self.problems.expect(holds, f"{self.name}: {message}")

    def check(self):
        self.balancing()
        for host, path, backend, ingress in self.paths:
            self.path(host, path["path"], backend, ingress)
            if self.carries_sockets(backend):
                self.sockets(ingress)
            if self.kind(backend) == "media":
                self.pool(path["path"], backend, ingress)
        # Node names have no paths of their own: the gate decides by them.
        for host in sorted({host for host, _, backend, _ in self.paths if self.kind(backend) == "media"}):
            self.routing(host)
        self.public_names()

    def kind(self, backend):
        """`signaling`, `media`, or what else a backend's pods are called."""
        service = self.services.get(backend["name"])
        return service and service["spec"]["selector"].get("app.kubernetes.io/name")

    def carries_sockets(self, backend):
        return self.kind(backend) in ("media", "node-gate")

    def path(self, host, path, backend, ingress):
        where, service = f"Ingress {ingress['metadata']['name']}", self.services.get(backend["name"])
        if path != "/":
            twin = path.removeprefix("/api/v1") if path.startswith("/api/v1") else "/api/v1" + path
            both = any((host, ingress, twin) == (h, i, p["path"]) for h, p, _, i in self.paths)
            self.expect(both, f"{where}: {path} is led elsewhere than {twin}")
        self.expect(service, f"{where}: there is no Service {backend['name']}")
        if service:
            names = {port["name"] for port in service["spec"]["ports"]}
            self.expect(backend["port"]["name"] in names, f"{where}: {backend['name']} has no such port")
        self.expect(backend["port"]["name"] != "admin", f"{where}: admin routes must not be public")
        self.expect(path.removeprefix("/api/v1") in self.routes | {"/"}, f"{where}: {path} is no route")

    def balancing(self):
        decided = {}
        for _, _, backend, ingress in self.paths:
            own = {key: annotation(ingress, key) for key in BALANCING}
            first = decided.setdefault((backend["name"], str(backend["port"])), (own, ingress["metadata"]["name"]))
            same = first[0] == own
            self.expect(same, f"Ingress {ingress['metadata']['name']} balances {backend['name']} otherwise than "
                              f"Ingress {first[1]}: one of them decides for both")

    def sockets(self, ingress):
        """The longest call is not cut, nor its sound held back."""
        name = ingress["metadata"]["name"]
        longest = max(int(data.get("VOXRAY_MEDIA_DRAIN_TIMEOUT_SECS", 0)) for data in self.configs.values())
        for which in ("read", "send"):
            seconds = int(annotation(ingress, f"proxy-{which}-timeout") or 60)
            self.expect(seconds >= longest, f"Ingress {name}: proxy-{which}-timeout cuts calls after {seconds} s")
        self.expect(annotation(ingress, "proxy-buffering") == "off", f"Ingress {name}: proxy-buffering holds sound back")

    def pool(self, path, backend, ingress):
        """The nodes behind a path serve what comes by it, and are chosen as it needs."""
        name, path = ingress["metadata"]["name"], path.removeprefix("/api/v1")
        transport = "telephony" if path.startswith("/telephony/") else "websocket"
        service = self.services[backend["name"]]
        for workload, template in selected(service["spec"]["selector"], self.documents):
            served = environment(template["spec"]["containers"][0], self.configs).get("VOXRAY_MEDIA_TRANSPORTS") or transport
            self.expect(transport in served.split(","),
                        f"Ingress {name}: {path} leads to {workload['metadata']['name']}, which serves no {transport}")
        hashed = annotation(ingress, "upstream-hash-by")
        if path.startswith(WITH_TOKEN):
            self.expect(hashed == "$request_uri", f"Ingress {name}: {path} does not lead the same URL to the same node")
            return
        self.expect(not hashed, f"Ingress {name}: {path} leads all its streams to one node")
        asked = (annotation(ingress, "proxy-next-upstream") or "").split()
        self.expect({"error", "timeout", "http_503"} <= set(asked), f"Ingress {name}: {path} does not go on to the next node")
        # 0 means without a limit: with nodes that are all full it would not end.
        tries = int(annotation(ingress, "proxy-next-upstream-tries") or 3)
        self.expect(tries >= TRIES, f"Ingress {name}: {path} gives up after {tries} full nodes")
        self.expect(int(annotation(ingress, "proxy-next-upstream-timeout") or 0) > 0,
                    f"Ingress {name}: {path} looks for a node without an end")

    def routing(self, host):
        """Sockets, and nothing else, come to media nodes."""
        for paths, wanted in ((SOCKETS, "media"), (OTHERS, "signaling")):
            for path in (prefix + path for path in paths for prefix in ("", "/api/v1")):
                found = self.backend(host, path)
                # A component alone has no pods of the other kind's Ingress.
                self.expect(found and self.kind(found) == wanted, f"{host}{path} does not lead to {wanted}")

    def backend(self, host, url):
        """As Kubernetes decides: an exact path, then the longest prefix of whole parts."""
        fits = [
            (path["pathType"] == "Exact", len(path["path"]), backend)
            for own, path, backend, _ in self.paths
            if own == host and (path["path"] == url if path["pathType"] == "Exact" else is_prefix(path["path"], url))
        ]
        return max(fits, key=lambda fit: fit[:2])[2] if fits else None

    def public_names(self):
        """What providers and browsers are told leads to us."""
        if not self.paths:
            return
        data = self.configs.get("voxray", {})
        host = data.get("VOXRAY_PROXY_HOST")
        led = {own for own, _, backend, _ in self.paths if self.kind(backend) == "signaling"}
        self.expect(not led or host in led, f"VOXRAY_PROXY_HOST is {host}, which no Ingress leads to signaling")
        url = data.get("VOXRAY_MEDIA_PUBLIC_URL", "")
        host = re.sub(r"^wss://", "", url).split("/")[0].replace("{node}", "*")
        led = {own for own, _, backend, _ in self.paths if self.carries_sockets(backend)}
        self.expect(host in led, f"VOXRAY_MEDIA_PUBLIC_URL is {url}, which no Ingress leads to media nodes")


def annotation(ingress, key):
    return ingress["metadata"].get("annotations", {}).get(PREFIX + key)


def is_prefix(path, url):
    return path == "/" or url == path or url.startswith(path.rstrip("/") + "/")
