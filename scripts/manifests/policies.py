"""Who may talk to whom: the network policies of an overlay, evaluated for the connections that have to work and for those
that must not."""

from ipaddress import ip_address, ip_network

from .kubernetes import container_ports, selected, templates

# Who asks, whom, on which port.
NEEDED = [
    ("signaling", "media", "control"), ("signaling", "archiver", "grpc"), ("media", "archiver", "grpc"),
    ("media", "media", "http"), ("front", "signaling", "http"), ("front", "media", "http"),
    ("monitoring", "signaling", "admin"), ("monitoring", "media", "admin"), ("monitoring", "archiver", "admin"),
]
FORBIDDEN = [
    ("media", "signaling", "http"), ("media", "media", "control"), ("archiver", "media", "control"),
    ("archiver", "signaling", "http"), ("front", "media", "control"), ("front", "archiver", "grpc"),
    ("front", "signaling", "admin"), ("front", "media", "admin"), ("signaling", "media", "admin"),
    ("media", "media", "admin"), ("elsewhere", "signaling", "http"), ("elsewhere", "media", "http"),
    ("elsewhere", "archiver", "grpc"), ("elsewhere", "media", "control"), ("elsewhere", "media", "admin"),
]

# Who asks, pods of which other namespace, on which port.
OUTSIDE = [(service, "monitoring", 4317) for service in ("signaling", "media", "archiver")]

# Of a deployment that has its stores with it.
OF_STORES = [("signaling", "redis", "redis"), ("media", "redis", "redis"), ("archiver", "postgres", "postgres"), ("archiver", "s3", "s3")]

# Who asks, somebody outside, on which ports: Redis and its Sentinels, SQL and S3, providers.
STORE, PROVIDER = "10.1.2.3", "198.51.100.7"
LEAVES = [("signaling", STORE, (6379, 6380, 26379)), ("media", STORE, (6379, 6380, 26379)), ("archiver", STORE, (5432, 3306, 443)),
          ("signaling", PROVIDER, (443,)), ("media", PROVIDER, (443,))]

# And must not: what answers on the inside, and on the machine. Redis is none of the archiver's business.
METADATA = "169.254.169.254"
STAYS = [("signaling", STORE, (443, 8081, 9091)), ("media", STORE, (443, 8081, 5432)), ("signaling", METADATA, (80, 443)),
         ("media", METADATA, (80, 443)), ("archiver", METADATA, (80,)), ("archiver", STORE, (6379, 8080)),
         ("node-gate", PROVIDER, (443,)), ("node-gate", STORE, (443, 6379))]

# Who answers for names: the pods of the cluster's DNS, and NodeLocal DNSCache on each machine.
DNS_PODS, DNS_CACHE = {"k8s-app": "kube-dns"}, "169.254.20.10"

# Callers that are pods of other namespaces, by the name of the namespace.
NAMESPACES = {"monitoring": "monitoring", "front": "ingress-nginx", "elsewhere": "default"}


class Policies:
    """The policies of one overlay."""

    def __init__(self, documents):
        self.documents = documents
        self.policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]

    def templates_of(self, name):
        return [t for _, t in templates(self.documents) if t["metadata"]["labels"].get("app.kubernetes.io/name") == name]

    def may(self, source, target, port):
        """Whether pods called `source` (or such of another namespace) reach `port` of all pods called `target`."""
        targets = [t for t in self.templates_of(target) if port in container_ports(t)]
        inside = self.templates_of(source)
        reached = targets and all(self.lets_in(t, source, inside, port) for t in targets)
        return bool(reached) and all(self.lets_out(s, t, port) for s in inside for t in targets)

    def lets_in(self, target, source, inside, port):
        return any(
            port_fits(rule, target, port) and self.comes_from(rule.get("from"), source, inside)
            for policy in self.of(target, "Ingress")
            for rule in policy.get("ingress", [])
        )

    def lets_out(self, source, target, port):
        return any(
            port_fits(rule, target, port) and self.leads_to(rule.get("to"), target)
            for policy in self.of(source, "Egress")
            for rule in policy.get("egress", [])
        )

    def may_outside(self, source, namespace, port):
        """Whether pods called `source` reach `port` of a namespace of its own."""
        return all(
            any(
                any(p.get("port") == port for p in rule.get("ports", [])) and self.leads_outside(rule.get("to"), namespace)
                for policy in self.of(template, "Egress")
                for rule in policy.get("egress", [])
            )
            for template in self.templates_of(source)
        )

    @staticmethod
    def leads_outside(peers, namespace):
        name = "kubernetes.io/metadata.name"
        return any(p.get("namespaceSelector", {}).get("matchLabels", {}).get(name) == namespace for p in peers or [])

    def may_leave(self, source, address, protocol, port):
        """Whether a pod reaches `port` of an address that is no pod's."""
        return any(
            covers(rule, protocol, port) and holds(rule.get("to"), address)
            for policy in self.of(source, "Egress")
            for rule in policy.get("egress", [])
        )

    def resolves(self, source, protocol):
        """Whether a pod may ask the pods of the cluster's DNS."""
        return any(
            covers(rule, protocol, 53) and peer.get("podSelector", {}).get("matchLabels") == DNS_PODS
            and peer.get("namespaceSelector", {}).get("matchLabels") == {"kubernetes.io/metadata.name": "kube-system"}
            for policy in self.of(source, "Egress")
            for rule in policy.get("egress", [])
            for peer in rule.get("to", [])
        )

    def peers_in(self, target, protocol, port):
        """The addresses that reach a port of a pod; `None` for all of them."""
        peers = [
            peer
            for policy in self.of(target, "Ingress")
            for rule in policy.get("ingress", [])
            if covers(rule, protocol, port["name"]) or covers(rule, protocol, port["containerPort"])
            for peer in rule.get("from") or [None]
        ]
        return [peer and str(ip_network(peer["ipBlock"]["cidr"])[0]) for peer in peers if peer is None or "ipBlock" in peer]

    def of(self, template, direction):
        for policy in self.policies:
            if direction in policy["policyTypes"] and picks(policy["podSelector"], template):
                yield policy

    @staticmethod
    def comes_from(peers, source, inside):
        if peers is None:
            return True
        namespace = None if inside else NAMESPACES.get(source)
        for peer in peers:
            labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
            if labels and labels.get("kubernetes.io/metadata.name") == namespace:
                return True
            if "podSelector" in peer and not labels and any(picks(peer["podSelector"], t) for t in inside):
                return True
        return False

    @staticmethod
    def leads_to(peers, target):
        return peers is None or any("podSelector" in p and picks(p["podSelector"], target) for p in peers)


def picks(selector, template):
    return not selector or bool(selected(selector, [{"kind": "Deployment", "spec": {"template": template}}]))


def port_fits(rule, target, port):
    names = {p["name"]: p["containerPort"] for c in target["spec"]["containers"] for p in c.get("ports", [])}
    allowed = rule.get("ports")
    return allowed is None or any(p.get("port") in (port, names.get(port)) for p in allowed)


def covers(rule, protocol, port):
    """Whether a rule speaks of a port, which a name is as well."""
    return any(
        allowed.get("protocol", "TCP") == protocol
        and (port == allowed.get("port") or "endPort" in allowed and allowed["port"] <= port <= allowed["endPort"])
        for allowed in rule.get("ports", [])
    )


def holds(peers, address):
    """Whether an address is among peers; it is no pod, and of no namespace."""
    if peers is None:
        return True
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    within = lambda network: ip_address(address) in ip_network(network)
    return any(within(block["cidr"]) and not any(within(e) for e in block.get("except", [])) for block in blocks)


def check_policies(problems, name, documents):
    policies = Policies(documents)
    everything = [p for p in policies.policies if not p["podSelector"] and set(p["policyTypes"]) == {"Ingress", "Egress"}]
    problems.expect(any(not p.get("ingress") and not p.get("egress") for p in everything), f"{name}: nothing denies by default")
    # An overlay without an ingress controller has a front of its own; node names have a gate between.
    fronts = [n for n in ("node-gate", "front") if policies.templates_of(n)] or ["front"]
    for source, target, port in NEEDED:
        sources = fronts if source == "front" else [source]
        works = any(policies.may(s, target, port) for s in [*sources, source])
        problems.expect(works, f"{name}: {source} does not reach {port} of {target}")
    for source, namespace, port in OUTSIDE:
        works = policies.may_outside(source, namespace, port)
        problems.expect(works, f"{name}: {source} does not reach {port} of namespace {namespace}")
    check_ways_out(problems, name, policies)
    for source, target, port in FORBIDDEN:
        sources = {source, *fronts} if source == "front" else {source}
        for s in sources:
            problems.expect(not policies.may(s, target, port), f"{name}: {s} reaches {port} of {target}")
    for document in documents:
        if document["kind"] != "NetworkPolicy" or not document["spec"].get("ingress"):
            continue
        own, spec = document["metadata"]["name"], document["spec"]
        for _, template in selected(spec["podSelector"], documents):
            for port in (p for rule in spec["ingress"] for p in rule.get("ports", [])):
                exists = port["port"] in container_ports(template)
                problems.expect(exists, f"{name}: policy {own} opens {port['port']}, which its pods do not have")


def check_ways_out(problems, name, policies):
    for source, target, port in OF_STORES if policies.templates_of("redis") else ():
        problems.expect(policies.may(source, target, port), f"{name}: {source} does not reach {target}")
    for wanted, ways in ((True, LEAVES), (False, STAYS)):
        for source, address, ports in ways:
            for port in ports:
                right = all(policies.may_leave(t, address, "TCP", port) == wanted for t in policies.templates_of(source))
                problems.expect(right, f"{name}: {source} {'does not reach' if wanted else 'reaches'} {port} of {address}")
    for workload, template in templates(policies.documents):
        for protocol in ("UDP", "TCP"):
            known = policies.resolves(template, protocol) and policies.may_leave(template, DNS_CACHE, protocol, 53)
            problems.expect(known, f"{name}: {workload['metadata']['name']} may not ask for names over {protocol}")
