"""How many of each there are, and how few at once: autoscalers, budgets, and where pods may be together."""

from .kubernetes import selected, templates

# What each kind is scaled by. The processor's time is measured by the cluster itself: it counts where the adapter is away.
SCALED_BY = {
    "signaling": {"cpu", "http_requests_per_second"},
    "media": {"http_active_connections", "voxray_sessions_load"},
}

# Callers do not wait, and calls are long. In seconds.
UP_WITHIN, DOWN_AFTER, DOWN_EVERY = 60, 600, 300

ZONE, MACHINE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def check_scaling(problems, name, documents):
    for document in documents:
        if document["kind"] == "HorizontalPodAutoscaler":
            check_target(problems, f"{name}: autoscaler {document['metadata']['name']}", document["spec"], documents)
        if document["kind"] == "PodDisruptionBudget":
            picked = selected(document["spec"]["selector"], documents)
            problems.expect(len(picked) == 1, f"{name}: budget {document['metadata']['name']} covers {len(picked)} workloads")
    for workload, template in templates(documents):
        replicas = workload["spec"].get("replicas")
        if workload["kind"] == "CronJob" or replicas == 1:
            continue
        where = f"{name}: {workload['kind']} {workload['metadata']['name']}"
        check_autoscaler(problems, where, workload, template, documents)
        check_budget(problems, where, template, documents)
        check_spread(problems, where, template)


def check_target(problems, where, spec, documents):
    target = spec["scaleTargetRef"]
    workload = next((w for w, _ in templates(documents) if (w["kind"], w["metadata"]["name"]) == (target["kind"], target["name"])), None)
    problems.expect(workload, f"{where}: its target does not exist")
    problems.expect(workload and "replicas" not in workload["spec"],
                    f"{where}: applying replicas of its target again would undo what it does")
    problems.expect(spec["minReplicas"] >= 2, f"{where}: one pod is none while it restarts")


def check_autoscaler(problems, where, workload, template, documents):
    kind = template["metadata"]["labels"]["app.kubernetes.io/name"]
    if "replicas" in workload["spec"] or kind not in SCALED_BY:
        return
    target = {"apiVersion": "apps/v1", "kind": workload["kind"], "name": workload["metadata"]["name"]}
    found = [d["spec"] for d in documents if d["kind"] == "HorizontalPodAutoscaler" and d["spec"]["scaleTargetRef"] == target]
    problems.expect(len(found) == 1, f"{where} has {len(found)} autoscalers")
    for spec in found:
        metrics = {metric_name(metric) for metric in spec["metrics"]}
        missing = SCALED_BY[kind] - metrics
        problems.expect(not missing, f"{where} is not scaled by {', '.join(sorted(missing))}")
        if kind == "media":
            check_pace(problems, where, spec.get("behavior", {}))


def metric_name(metric):
    return metric["pods"]["metric"]["name"] if metric["type"] == "Pods" else metric["resource"]["name"]


def check_pace(problems, where, behavior):
    up, down = behavior.get("scaleUp", {}), behavior.get("scaleDown", {})
    doubles = any(p["type"] == "Percent" and p["value"] >= 100 and p["periodSeconds"] <= UP_WITHIN for p in up.get("policies", []))
    # Upwards the cluster waits for nothing by itself.
    at_once = up.get("stabilizationWindowSeconds", 0) == 0 and up.get("selectPolicy", "Max") == "Max"
    problems.expect(doubles and at_once, f"{where} does not double within {UP_WITHIN} s")
    one = [p["type"] == "Pods" and p["value"] == 1 and p["periodSeconds"] >= DOWN_EVERY for p in down.get("policies", [])]
    # 300 s without a word.
    later = down.get("stabilizationWindowSeconds", 300) >= DOWN_AFTER
    problems.expect(one and all(one) and later, f"{where} shrinks by more than one node in {DOWN_EVERY} s, or before {DOWN_AFTER} s")


def check_budget(problems, where, template, documents):
    """One, since a pod with two cannot be evicted at all."""
    budgets = [d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"
               and any(picked is template for _, picked in selected(d["spec"]["selector"], documents))]
    problems.expect(len(budgets) == 1, f"{where} has {len(budgets)} disruption budgets")
    for budget in budgets:
        problems.expect(budget.get("maxUnavailable") == 1, f"{where}: its budget lets more than one go at a time")


def check_spread(problems, where, template):
    spread = {}
    for constraint in template["spec"].get("topologySpreadConstraints", []):
        own = selected(constraint["labelSelector"], [{"kind": "Deployment", "spec": {"template": template}}])
        problems.expect(own, f"{where}: its pods are spread among others")
        spread[constraint["topologyKey"]] = constraint["maxSkew"]
    for key in (ZONE, MACHINE):
        problems.expect(spread.get(key) == 1, f"{where} is not spread over {key}")
