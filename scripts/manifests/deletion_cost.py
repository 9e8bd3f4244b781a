"""components/media-deployment: the job that tells the cluster which media pod has the fewest calls. Its script is run, with a
`kubectl` that answers as the Prometheus adapter does."""

import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"

# Pods by what the adapter says of them, in the cluster's own notation of numbers, and the cost of each.
CALLS = {"media-a": ("0", 0), "media-b": ("49", 49), "media-c": ("2500m", 3), "media-d": ("2k", 2000)}

KUBECTL = """#!/bin/sh
printf '%s\\n' "$*" >> "$ASKED"
case $1 in get) cat "$ANSWER" || exit 1 ;; esac
"""


def check_deletion_cost(problems, name, documents):
    job = next((d for d in documents if d["kind"] == "CronJob" and d["metadata"]["name"] == "deletion-cost"), None)
    if not job:
        return
    container = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    failed, asked = run(container["command"], answer())
    problems.expect(not failed, f"{name}: the deletion-cost job fails: {failed}")
    wanted = ["get --raw /apis/custom.metrics.k8s.io/v1beta1/namespaces/voxray/pods/*/http_active_connections"
              "?labelSelector=app.kubernetes.io%2Fname%3Dmedia"]
    wanted += [f"annotate --overwrite pod/{pod} {ANNOTATION}={cost}" for pod, (_, cost) in CALLS.items()]
    problems.expect(asked == wanted, f"{name}: the deletion-cost job asks {asked} instead of {wanted}")
    failed, asked = run(container["command"], None)
    problems.expect(failed and len(asked) == 1, f"{name}: the deletion-cost job does not fail where there is no such metric")
    check_role(problems, name, documents)
    check_admission(problems, name, documents)


def answer():
    items = [{"describedObject": {"kind": "Pod", "namespace": "voxray", "name": pod, "apiVersion": "/v1"},
              "metricName": "http_active_connections", "timestamp": "2026-01-01T00:00:00Z", "value": value, "selector": None}
             for pod, (value, _) in CALLS.items()]
    return json.dumps({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta1", "metadata": {}, "items": items})


def run(command, answered):
    """What the job says when it fails, and what it asks of the cluster. `answered` is `None` where no metric is known."""
    with tempfile.TemporaryDirectory() as work:
        kubectl, asked, said = (Path(work, name) for name in ("kubectl", "asked", "answer"))
        kubectl.write_text(KUBECTL)
        kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
        if answered is not None:
            said.write_text(answered)
        asked.touch()
        env = {"PATH": f"{work}:{os.environ['PATH']}", "NAMESPACE": "voxray", "ASKED": str(asked), "ANSWER": str(said)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        return (done.stderr or "without a word") if done.returncode else "", asked.read_text().splitlines()


def check_role(problems, name, documents):
    """It may do what the script does, and nothing else."""
    role = next(d for d in documents if d["kind"] == "Role" and d["metadata"]["name"] == "deletion-cost")
    allowed = {(group, resource, verb) for rule in role["rules"] for group in rule["apiGroups"]
               for resource in rule["resources"] for verb in rule["verbs"]}
    metric = "pods/http_active_connections"
    wanted = {("custom.metrics.k8s.io", metric, "get"), ("custom.metrics.k8s.io", metric, "list"), ("", "pods", "get"), ("", "pods", "patch")}
    problems.expect(allowed == wanted, f"{name}: the deletion-cost role allows {sorted(allowed ^ wanted)} too much or not")


def check_admission(problems, name, documents):
    """What the role cannot say is bound, and refuses."""
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "ValidatingAdmissionPolicy"}
    bound = [d["spec"] for d in documents if d["kind"] == "ValidatingAdmissionPolicyBinding"]
    denies = [b for b in bound if b["validationActions"] == ["Deny"] and policies.get(b["policyName"], {}).get("failurePolicy") == "Fail"]
    problems.expect(denies, f"{name}: nothing keeps the deletion-cost job from changing more than its annotation")
    text = json.dumps(policies)
    problems.expect(ANNOTATION in text and ":deletion-cost'" in text, f"{name}: the admission policy is not of deletion-cost and its annotation")
