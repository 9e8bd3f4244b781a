"""Breaks a good overlay in one way at a time; every way has to be noticed. A check that notices nothing is worse than none."""

import copy
from pathlib import Path

from .containers import check_compose, check_sockets
from .ingress import PREFIX
from .kubernetes import templates
from .overlays import check_overlay
from .program import Problems


def of(documents, kind, name):
    return next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)


def container(documents, name):
    return next(t for w, t in templates(documents) if w["metadata"]["name"] == name)["spec"]["containers"][0]


def environment(documents, name):
    return container(documents, name)["env"]


def variable(documents, name, key):
    return next(entry for entry in environment(documents, name) if entry["name"] == key)


def paths(documents, name):
    return of(documents, "Ingress", name)["spec"]["rules"][0]["http"]["paths"]


def annotate(documents, name, key, value):
    """Gives an Ingress another annotation, or takes one away."""
    all_of_it = of(documents, "Ingress", name)["metadata"]["annotations"]
    all_of_it.pop(PREFIX + key, None)
    if value is not None:
        all_of_it[PREFIX + key] = value


def lead(documents, name, path, service):
    """Leads a path of an Ingress to another Service."""
    next(p for p in paths(documents, name) if p["path"] == path)["backend"]["service"]["name"] = service


def way_out(documents, policy, port):
    """The rule of a policy by which a port is reached."""
    return next(rule for rule in of(documents, "NetworkPolicy", policy)["spec"]["egress"]
                if any(p["port"] == port for p in rule["ports"]))


def close(documents, policy, port):
    of(documents, "NetworkPolicy", policy)["spec"]["egress"].remove(way_out(documents, policy, port))


def port_of(documents, name, port):
    return next(p for p in container(documents, name)["ports"] if p["name"] == port)


def scaler(documents, name):
    return of(documents, "HorizontalPodAutoscaler", name)["spec"]


def pod(documents, name):
    return next(t for w, t in templates(documents) if w["metadata"]["name"] == name)["spec"]


def monitor(documents):
    return of(documents, "ServiceMonitor", "voxray")["spec"]


def cost_script(documents, old, new):
    command = container(documents, "deletion-cost")["command"]
    assert old in command[-1]
    command[-1] = command[-1].replace(old, new)


# What is broken, how, and a part of the message.
PROD = [
    ("a probe that asks no route", lambda d: container(d, "media")["readinessProbe"]["httpGet"].update(path="/readyz"), "no route"),
    ("a probe that leaves out what is none", lambda d: container(d, "media")["readinessProbe"]["httpGet"].update(
        path="/ready?exclude=calls"), "no condition"),
    ("a probe of a missing port", lambda d: container(d, "media")["livenessProbe"]["httpGet"].update(port="web"), "does not exist"),
    ("a selector that picks nothing", lambda d: of(d, "Service", "media")["spec"]["selector"].update(x="y"), "selects nothing"),
    ("a limit below its request", lambda d: container(d, "media")["resources"]["limits"].update(memory="1Mi"), "above its limit"),
    ("an unknown setting", lambda d: environment(d, "media").append({"name": "VOXRAY_PROT", "value": "1"}), "no setting"),
    ("a secret in plain", lambda d: environment(d, "media").append({"name": "OPENAI_API_KEY", "value": "sk"}), "refer to it"),
    ("a value that names what comes later", lambda d: environment(d, "media").reverse(), "stand before it"),
    ("a drain that is cut short", lambda d: of(d, "StatefulSet", "media")["spec"]["template"]["spec"].update(
        terminationGracePeriodSeconds=60), "before calls may drain"),
    ("a root that can be written", lambda d: container(d, "media")["securityContext"].update(readOnlyRootFilesystem=False), "not restricted"),
    ("admin routes in public", lambda d: of(d, "Ingress", "signaling")["spec"]["rules"][0]["http"]["paths"][0]["backend"][
        "service"]["port"].update(name="admin"), "must not be public"),
    ("a door without a key", lambda d: variable(d, "media", "VOXRAY_SERVER_API_KEY")["valueFrom"]["secretKeyRef"].update(
        optional=True), "starts without"),
    ("sessions without a limit", lambda d: of(d, "ConfigMap", "voxray")["data"].pop("VOXRAY_LIMITS_STARTS_PER_MINUTE"), "not limited"),
    ("traces without their headers", lambda d: of(d, "ConfigMap", "voxray")["data"].update(
        VOXRAY_OTLP_ENDPOINT="http://otel:4317"), "without VOXRAY_OTLP_HEADERS"),
    ("a socket that goes astray under /api/v1", lambda d: paths(d, "media").pop(), "is led elsewhere"),
    ("an autoscaler without its target", lambda d: of(d, "HorizontalPodAutoscaler", "media")["spec"]["scaleTargetRef"].update(
        name="medium"), "does not exist"),
    ("a control port that nobody reaches", lambda d: of(d, "NetworkPolicy", "media")["spec"]["ingress"].pop(1), "does not reach control"),
    ("traces that go nowhere", lambda d: d.remove(of(d, "NetworkPolicy", "traces")), "does not reach 4317"),
    ("an archiver open to all", lambda d: of(d, "NetworkPolicy", "archiver")["spec"]["ingress"][0].pop("from"), "reaches grpc"),
    ("names that nobody answers", lambda d: d.remove(of(d, "NetworkPolicy", "names")), "may not ask for names"),
    ("a cache of names out of reach", lambda d: of(d, "NetworkPolicy", "names")["spec"]["egress"][0]["to"].pop(), "may not ask for names"),
    ("a Redis out of reach", lambda d: close(d, "signaling", 6379), "signaling does not reach 6379"),
    ("a Sentinel out of reach", lambda d: way_out(d, "media", 6379)["ports"].pop(), "media does not reach 26379"),
    ("providers out of reach", lambda d: close(d, "media", 443), "media does not reach 443"),
    ("phone providers out of reach", lambda d: close(d, "signaling", 443), "signaling does not reach 443"),
    ("an archive out of reach", lambda d: close(d, "archiver", 5432), "archiver does not reach 5432"),
    ("credentials of a machine", lambda d: way_out(d, "media", 443)["to"][0]["ipBlock"]["except"].remove("169.254.0.0/16"),
     "media reaches 443 of 169.254.169.254"),
    ("an inside that is open", lambda d: way_out(d, "signaling", 443).pop("to"), "signaling reaches 443 of 10.1.2.3"),
    ("an archiver that reaches Redis", lambda d: way_out(d, "archiver", 5432)["ports"].append({"protocol": "TCP", "port": 6379}),
     "archiver reaches 6379"),
    ("sound that does not come in", lambda d: of(d, "NetworkPolicy", "media-webrtc")["spec"].pop("ingress"), "no policy lets UDP 50000 in"),
    ("sound that does not go out", lambda d: of(d, "NetworkPolicy", "media-webrtc")["spec"].pop("egress"), "lets its UDP out"),
    ("a port of UDP that nobody uses", lambda d: variable(d, "media", "VOXRAY_MEDIA_UDP_PORT").update(value="50001"), "its UDP ports are"),
    ("a port that the machine has otherwise", lambda d: port_of(d, "media", "webrtc").update(hostPort=50001), "offers another port"),
    ("an address that no browser reaches", lambda d: variable(d, "media", "VOXRAY_MEDIA_NAT_IPS")["valueFrom"]["fieldRef"].update(
        fieldPath="status.podIP"), "does not offer its machine's address"),
    ("a port that is refused", lambda d: of(d, "Namespace", "voxray")["metadata"]["labels"].update(
        {"pod-security.kubernetes.io/enforce": "restricted"}), "refuses pods with ports"),
    ("a port without a way to it", lambda d: port_of(d, "media", "webrtc").pop("hostPort"), "neither a port of its machine nor"),
    ("browsers that are sent nowhere", lambda d: of(d, "ConfigMap", "voxray")["data"].update(VOXRAY_TRANSPORT="websocket"), "agree about WebRTC"),
    ("two ways of balancing one Service", lambda d: lead(d, "media-in-turn", "/telephony/genesys/ws", "telephony-media"), "decides for both"),
    ("sockets that are cut", lambda d: annotate(d, "media", "proxy-read-timeout", None), "cuts calls after 60 s"),
    ("sockets of nodes that are cut", lambda d: annotate(d, "node-gate", "proxy-send-timeout", "600"), "cuts calls after 600 s"),
    ("sound that is held back", lambda d: annotate(d, "media", "proxy-buffering", None), "holds sound back"),
    ("URLs that wander", lambda d: annotate(d, "media", "upstream-hash-by", None), "does not lead the same URL"),
    ("one node for all", lambda d: annotate(d, "media-in-turn", "upstream-hash-by", "$request_uri"), "all its streams to one node"),
    ("a node that refuses for all", lambda d: annotate(d, "media-in-turn", "proxy-next-upstream", "error timeout"), "does not go on"),
    ("three nodes that refuse for all", lambda d: annotate(d, "media-in-turn", "proxy-next-upstream-tries", None), "gives up after 3"),
    ("a search without an end", lambda d: annotate(d, "media-in-turn", "proxy-next-upstream-tries", "0"), "gives up after 0"),
    ("a search without a time", lambda d: annotate(d, "media-in-turn", "proxy-next-upstream-timeout", None), "without an end"),
    ("phones in the browsers' pool", lambda d: lead(d, "media", "/telephony/ws", "media"), "serves no telephony"),
    ("browsers in the phones' pool", lambda d: lead(d, "media-in-turn", "/ws", "telephony-media-in-turn"), "serves no websocket"),
    ("sockets that come to signaling", lambda d: [paths(d, "media-in-turn").pop(0) for _ in range(2)], "/ws does not lead to media"),
    ("webhooks that come to media nodes", lambda d: paths(d, "media")[0].update(path="/telephony"), "/telephony/twilio does not lead to signaling"),
    ("a name that leads elsewhere", lambda d: of(d, "ConfigMap", "voxray")["data"].update(VOXRAY_PROXY_HOST="x.example.com"),
     "no Ingress leads to signaling"),
    ("sockets that are sent elsewhere", lambda d: of(d, "ConfigMap", "voxray")["data"].update(
        VOXRAY_MEDIA_PUBLIC_URL="wss://{node}.example.com"), "no Ingress leads to media nodes"),
    ("a name that nobody knows", lambda d: of(d, "ConfigMap", "voxray")["data"].pop("VOXRAY_PROXY_HOST"), "places no call"),
    ("calls that nobody steers", lambda d: container(d, "media")["envFrom"].pop(), "not given to it"),
    ("an archiver with phone accounts", lambda d: container(d, "archiver")["envFrom"].append(container(d, "media")["envFrom"][1]),
     "are given to it"),
    ("an archiver that is evicted", lambda d: pod(d, "archiver")["volumes"][0].update(emptyDir={"sizeLimit": "10Gi"}), "is evicted when"),
    ("a pool of fixed size", lambda d: d.remove(of(d, "HorizontalPodAutoscaler", "telephony-media")), "has 0 autoscalers"),
    ("a processor that nobody looks at", lambda d: scaler(d, "signaling")["metrics"].pop(0), "not scaled by cpu"),
    ("calls that nobody counts", lambda d: scaler(d, "media")["metrics"].pop(0), "not scaled by http_active_connections"),
    ("a pool that grows slowly", lambda d: scaler(d, "media")["behavior"]["scaleUp"].update(stabilizationWindowSeconds=300), "does not double"),
    ("a pool that shrinks at once", lambda d: scaler(d, "media")["behavior"].pop("scaleDown"), "shrinks by more than one"),
    ("a pool that halves", lambda d: scaler(d, "telephony-media")["behavior"]["scaleDown"]["policies"].append(
        {"type": "Percent", "value": 50, "periodSeconds": 600}), "shrinks by more than one"),
    ("a pool that is evicted", lambda d: d.remove(of(d, "PodDisruptionBudget", "telephony-media")), "has 0 disruption budgets"),
    ("a pod that is never evicted", lambda d: d.append(of(d, "PodDisruptionBudget", "media")), "has 2 disruption budgets"),
    ("a pool that is evicted by halves", lambda d: of(d, "PodDisruptionBudget", "media")["spec"].update(maxUnavailable="50%"), "more than one go"),
    ("all on one machine", lambda d: pod(d, "signaling")["topologySpreadConstraints"].pop(), "not spread over kubernetes.io/hostname"),
    ("all in one zone", lambda d: pod(d, "archiver").pop("topologySpreadConstraints"), "not spread over topology.kubernetes.io/zone"),
    ("a spread over strangers", lambda d: pod(d, "media")["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
        {"voxray.io/pool": "telephony"}), "spread among others"),
    ("pods that nobody asks", lambda d: of(d, "Service", "archiver")["metadata"]["labels"].pop("voxray.io/scrape"), "archiver is scraped as []"),
    ("pods that are asked twice", lambda d: of(d, "Service", "media")["metadata"]["labels"].update(
        {"voxray.io/scrape": "true"}) or of(d, "Service", "media")["spec"]["ports"].append(
        {"name": "admin", "port": 8081, "targetPort": "admin"}), "media is scraped as"),
    ("pods that are asked at the door", lambda d: monitor(d)["endpoints"][0].update(port="http"), "signaling is scraped as"),
    ("a job that no rule knows", lambda d: monitor(d).update(jobLabel="voxray.io/pool"), "archiver is scraped as [(None"),
    ("draining nodes that nobody asks", lambda d: of(d, "Service", "media-nodes")["spec"].pop("publishNotReadyAddresses"), "that drain are not"),
    ("series without a pool", lambda d: monitor(d).pop("podTargetLabels"), "do not name their pool"),
    ("a default that allows", lambda d: d.remove(of(d, "NetworkPolicy", "default-deny")), "denies by default"),
]

PROD_DEPLOYMENT = [
    ("a policy that is of a namespace", lambda d: of(d, "ValidatingAdmissionPolicy", "voxray-deletion-cost")["metadata"].update(
        namespace="voxray"), "is of no namespace"),
    ("a job that may do anything", lambda d: d.remove(of(d, "ValidatingAdmissionPolicyBinding", "voxray-deletion-cost")), "nothing keeps"),
    ("a policy that lets pass", lambda d: of(d, "ValidatingAdmissionPolicy", "voxray-deletion-cost")["spec"].update(
        failurePolicy="Ignore"), "nothing keeps"),
    ("a role that may delete", lambda d: of(d, "Role", "deletion-cost")["rules"][1]["verbs"].append("delete"), "delete"),
    ("a role that may not patch", lambda d: of(d, "Role", "deletion-cost")["rules"][1]["verbs"].remove("patch"), "patch"),
    ("calls that are counted a thousand times", lambda d: cost_script(d, "/ 1000 | ceil", ""), "job asks"),
    ("calls that are no numbers", lambda d: cost_script(d, 'elif endswith("k") then (rtrimstr("k") | tonumber * 1000)', ""), "job fails"),
    ("a metric of another name", lambda d: cost_script(d, "http_active_connections", "http_connections"), "job asks"),
    ("a metric that is away", lambda d: container(d, "deletion-cost")["command"].__setitem__(2, "posix"), "does not fail where"),
    ("a TURN server out of reach", lambda d: of(d, "NetworkPolicy", "media-webrtc")["spec"]["egress"][0]["ports"].pop(0), "reach its TURN server"),
    ("no TURN server", lambda d: environment(d, "signaling").remove(variable(d, "signaling", "VOXRAY_WEBRTC_ICE_SERVERS")), "nor a TURN server"),
]
BREAKAGES = {"prod": PROD, "prod-deployment": PROD_DEPLOYMENT}


def check_checks(problems, rendered, about):
    """`rendered`: overlays by name, in which nothing is wrong; `about`: what [`check_overlay`] has to know."""
    for overlay, breakages in BREAKAGES.items():
        for name, break_it, message in breakages:
            broken, found = copy.deepcopy(rendered[overlay]), Problems()
            break_it(broken)
            check_overlay(found, "broken", broken, *about)
            problems.expect(any(message in line for line in found.lines), f"scripts/manifests does not notice {name}: {found.lines}")


# The same for compose.yaml and the configurations of nginx.
COMPOSE_BREAKAGES = [
    ("a service that is killed early", lambda s: s["signaling"].pop("stop_grace_period"), "is killed 10 s after"),
    ("calls that are cut", lambda s: s["media"].update(stop_grace_period="1h0m0s"), "is killed 3600 s after"),
    ("a phone provider's secret that stays outside", lambda s: s["media"]["environment"].pop("TWILIO_AUTH_TOKEN"), "does not reach it"),
    ("an account that is no account", lambda s: s["media"]["environment"].pop("TWILIO_ACCOUNT_SID"), "does not reach it"),
    ("calls that come back to nobody", lambda s: s["signaling"]["environment"].pop("VOXRAY_PROXY_HOST"), "does not reach it"),
    ("an agent that nobody chooses", lambda s: s["media"]["environment"].pop("VOXRAY_LLM_PROVIDER"), "does not reach it"),
    ("an agent that waits", lambda s: s["media"]["environment"].update(VOXRAY_GREETING=""), "keeps the agent silent"),
    ("archivers that fight for one disk", lambda s: s["archiver"]["volumes"].append(
        {"type": "volume", "source": "archiver", "target": "/var/lib/voxray"}), "would share the disk archiver"),
    ("sockets that are led to another port", lambda s: s["nginx"]["ports"][0].update(published="9000"), "sockets are led to ws://localhost:8080"),
    ("a service without a health check", lambda s: s["redis"].pop("healthcheck"), "has no health check"),
    ("passwords that are written for ever", lambda s: s["secrets"].update(restart="always"), "runs once"),
    ("passwords that nobody generates", lambda s: s.pop("secrets"), "no service runs"),
    ("a generator that can be rewritten", lambda s: s["secrets"]["volumes"][0].pop("read_only"), "no service runs"),
    ("passwords that are lost", lambda s: s["secrets"]["volumes"].pop(), "on no volume"),
    ("a password too many", lambda s: s["media"]["volumes"][0].update(source="secrets-archiver"), "given transcripts_dsn and has no"),
    ("a password too few", lambda s: s["media"]["volumes"][0].update(source="secrets-redis"), "service_token is on no volume"),
    ("all passwords", lambda s: s["media"]["volumes"].append({"source": "secrets", "target": "/x"}), "is given every password"),
    ("passwords that can be changed", lambda s: s["media"]["volumes"][0].pop("read_only"), "read-only"),
    ("a service that comes before its password", lambda s: s["redis"]["depends_on"].pop("secrets"), "does not wait for secrets"),
]
NGINX_BREAKAGES = [
    ("sockets under /api/v1 that go astray", lambda text: text.replace("(/api/v1)?/", "/"), "does not lead to the media"),
    ("sockets with a token that go astray", lambda text: text.replace("ws(/|$)", "ws$"), "does not lead to the media"),
    ("requests that go to media nodes", lambda text: text.replace("ws(/|$)", "w"), "leads to the media nodes"),
]


def check_container_checks(problems, compose, *program):
    """`program`: what [`check_compose`] has to know."""
    for name, break_it, message in COMPOSE_BREAKAGES:
        broken, found = copy.deepcopy(compose), Problems()
        break_it(broken["services"])
        check_compose(found, broken, *program)
        problems.expect(any(message in line for line in found.lines), f"scripts/manifests does not notice {name}")
    good = Path("deploy/nginx/nginx.conf").read_text()
    for name, break_it, message in NGINX_BREAKAGES:
        found = Problems()
        check_sockets(found, "broken", break_it(good))
        problems.expect(any(message in line for line in found.lines), f"scripts/manifests does not notice {name}")
