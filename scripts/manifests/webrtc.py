"""How a browser's sound gets to a media node and back: UDP, past every Ingress."""

from .kubernetes import configs, environment, templates
from .policies import Policies

# Any address outside, for those that may come from everywhere.
ANYWHERE = "198.51.100.7"


def check_webrtc(problems, name, documents):
    settings = configs(documents)
    pools = [(w, t) for w, t in templates(documents) if t["metadata"]["labels"].get("app.kubernetes.io/name") == "media"]
    served = [pool for pool in pools if serves(pool[1], settings)]
    wanted = settings["voxray"].get("VOXRAY_TRANSPORT") == "both"
    problems.expect(bool(served) == wanted, f"{name}: VOXRAY_TRANSPORT and the pools do not agree about WebRTC")
    for workload, template in pools:
        where = f"{name}: {workload['kind']} {workload['metadata']['name']}"
        container = template["spec"]["containers"][0]
        env, ports = environment(container, settings), [p for p in container["ports"] if p.get("protocol") == "UDP"]
        if not serves(template, settings):
            problems.expect(not ports, f"{where} has a UDP port and serves no WebRTC")
            continue
        numbers = [str(port["containerPort"]) for port in ports]
        problems.expect(numbers == [env.get("VOXRAY_MEDIA_UDP_PORT")],
                        f"{where}: VOXRAY_MEDIA_UDP_PORT is {env.get('VOXRAY_MEDIA_UDP_PORT')}, and its UDP ports are {numbers}")
        if any("hostPort" in port for port in ports):
            check_host_port(problems, where, container, ports, documents)
        else:
            relayed = all("VOXRAY_WEBRTC_ICE_SERVERS" in environment(t["spec"]["containers"][0], settings)
                          for w, t in templates(documents) if t is template or w["metadata"]["name"] == "signaling")
            problems.expect(relayed, f"{where}: neither a port of its machine nor a TURN server leads to it")
        for port in ports:
            check_policies(problems, where, template, port, Policies(documents))


def serves(template, settings):
    return "webrtc" in (environment(template["spec"]["containers"][0], settings).get("VOXRAY_MEDIA_TRANSPORTS") or "").split(",")


def check_host_port(problems, where, container, ports, documents):
    """A node offers the address of its machine, with the port that it has there."""
    same = all(port.get("hostPort") == port["containerPort"] for port in ports)
    problems.expect(same, f"{where}: it offers another port than it has on its machine")
    offered = next((e for e in container["env"] if e["name"] == "VOXRAY_MEDIA_NAT_IPS"), {})
    path = offered.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    problems.expect(path == "status.hostIP", f"{where}: it does not offer its machine's address (VOXRAY_MEDIA_NAT_IPS)")
    enforced = [d["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") for d in documents if d["kind"] == "Namespace"]
    problems.expect(enforced in ([], ["privileged"]), f"{where}: its namespace refuses pods with ports of the machine")


def check_policies(problems, where, template, port, policies):
    number, peers = port["containerPort"], policies.peers_in(template, "UDP", port)
    problems.expect(peers, f"{where}: no policy lets UDP {number} in")
    # Of a TURN server both directions are known; without one a browser is anywhere.
    for address in peers:
        answered = policies.may_leave(template, address or ANYWHERE, "UDP", 50000)
        problems.expect(answered, f"{where}: no policy lets its UDP out to {address or 'clients'}")
    relayed = "hostPort" not in port
    problems.expect(relayed or None in peers, f"{where}: UDP {number} is not open to every client")
    for address in peers if relayed else ():
        problems.expect(address is None or policies.may_leave(template, address, "TCP", 3478) , f"{where}: it does not reach its TURN server")
