"""Everything that is checked of one rendered overlay."""

from .deletion_cost import check_deletion_cost
from .ingress import check_ingresses
from .kubernetes import Overlay
from .monitoring import check_autoscalers, check_scrapes_of_pods
from .policies import check_policies
from .scaling import check_scaling
from .webrtc import check_webrtc


def check_overlay(problems, name, documents, metrics, known, secret, refused, routes, conditions):
    """`metrics` and what follows: what the program knows."""
    Overlay(problems, name, documents, known, secret, refused, routes, conditions).check()
    check_policies(problems, name, documents)
    check_ingresses(problems, name, documents, routes)
    check_scaling(problems, name, documents)
    check_webrtc(problems, name, documents)
    check_deletion_cost(problems, name, documents)
    check_autoscalers(problems, name, documents, metrics)
    check_scrapes_of_pods(problems, name, documents)
