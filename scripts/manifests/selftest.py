"""Breaks a good overlay in one way at a time; every way has to be noticed. A check that notices nothing is worse than none."""

import copy
from pathlib import Path

from .containers import check_compose, check_sockets
from .kubernetes import Overlay, templates
from .policies import check_policies
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


# What is broken, how, and a part of the message.
BREAKAGES = [
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
    ("a default that allows", lambda d: d.remove(of(d, "NetworkPolicy", "default-deny")), "denies by default"),
]


def check_checks(problems, documents, *program):
    """`documents`: an overlay in which nothing is wrong; `program`: what [`Overlay`] has to know."""
    for name, break_it, message in BREAKAGES:
        broken, found = copy.deepcopy(documents), Problems()
        break_it(broken)
        Overlay(found, "broken", broken, *program).check()
        check_policies(found, "broken", broken)
        problems.expect(any(message in line for line in found.lines), f"scripts/manifests does not notice {name}")


# The same for compose.yaml and the configurations of nginx.
COMPOSE_BREAKAGES = [
    ("a service that is killed early", lambda s: s["signaling"].pop("stop_grace_period"), "is killed 10 s after"),
    ("calls that are cut", lambda s: s["media"].update(stop_grace_period="1h0m0s"), "is killed 3600 s after"),
    ("a phone provider's secret that stays outside", lambda s: s["media"]["environment"].pop("TWILIO_AUTH_TOKEN"), "does not reach it"),
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
