"""Every resource against the schemas of Kubernetes, strictly: what `kubernetes-validate --strict` does, once for each
resource that several overlays share."""

import functools
import json

from kubernetes_validate import utils

# From the oldest that knows how a pod sleeps before it stops, to the newest there are schemas of.
VERSIONS = ["1.30", "1.33", "1.37"]

# Of operators that a cluster may have; Kubernetes itself has no schema of them.
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "Certificate"}

# It reads a megabyte of definitions for every resource otherwise.
utils.schema_contents = functools.cache(utils.schema_contents)


def check_schemas(problems, overlays):
    """`overlays`: rendered documents by name."""
    seen = set()
    for name, documents in overlays.items():
        for document in documents:
            if document["kind"] in OF_OPERATORS:
                continue
            text = json.dumps(document, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            for version in VERSIONS:
                check(problems, f"{name}: {document['kind']} {document['metadata']['name']}", document, version)


def check(problems, where, document, version):
    try:
        utils.validate(document, version, strict=True)
    except utils.ValidationError as error:
        path = ".".join(str(item) for item in error.path)
        problems.expect(False, f"{where}: Kubernetes {version} refuses {path}: {error.message}")
    except utils.SchemaNotFoundError as error:
        problems.expect(False, f"{where}: {error.message}")
