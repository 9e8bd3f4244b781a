"""Dockerfile, .dockerignore, compose.yaml and nginx."""

import re

from .passwords import check_passwords
from .program import check_address, check_environment, phone_accounts

# What compose.yaml itself is parameterised with.
COMPOSE_SETTINGS = {"VOXRAY_VERSION", "VOXRAY_PUBLIC_ADDRESS", "VOXRAY_PUBLIC_PORT", "VOXRAY_GRAFANA_PORT"}

ROLES = {"signaling", "media", "archiver"}

# Ours that are not told to stop within Docker's own 10 s: the longest request of signaling, the longest call of a media
# node with its last words, what the archiver has in hand. In seconds.
GRACE = {"signaling": 30 + 5, "media": 3600 + 10, "archiver": 30}

# Which agent answers. Empty means unset for all but the last, which must not be given empty where it is unset.
AGENT = {"VOXRAY_PROVIDER", "VOXRAY_STT_PROVIDER", "VOXRAY_LLM_PROVIDER", "VOXRAY_TTS_PROVIDER", "VOXRAY_MODEL",
         "VOXRAY_STT_MODEL", "VOXRAY_STT_LANGUAGE", "VOXRAY_TTS_MODEL", "VOXRAY_TTS_VOICE", "VOXRAY_SYSTEM_PROMPT",
         "VOXRAY_OPENAI_BASE_URL", "OPENAI_API_KEY", "VOXRAY_GREETING"}

# Where a proxy has to lead which path, unversioned; every route exists under /api/v1 as well.
SOCKETS = ["/ws", "/telephony/ws", "/telephony/ws/TOKEN", "/telephony/genesys/ws", "/telephony/genesys/ws/CONNECTOR"]
OTHERS = ["/start", "/sessions/ID/api/offer", "/telephony/twilio", "/telephony/genesys", "/wsx", "/telephony/wsx", "/health"]


def check_dockerfile(problems, text, known, toolchain):
    """`toolchain`: what the workspace is built and tested with, as rust-toolchain.toml has it."""
    # `ENV A=1 \ B=2` is one instruction over several lines.
    for instruction in re.findall(r"^ENV (.*(?:\\\n.*)*)", text, re.M):
        check_environment(problems, "Dockerfile", re.findall(r"(?:^|\s)(\w+)=", instruction), known)
    problems.expect(re.search(r"^USER 10001", text, re.M), "Dockerfile: the service must run as user 10001")
    problems.expect(re.search(r"^STOPSIGNAL SIGTERM", text, re.M), "Dockerfile: services drain on SIGTERM")
    problems.expect('CMD ["voxray", "health"' in text, "Dockerfile: the health check must work without a shell")
    # The disk of a node or an archiver, where whoever starts the image names none.
    problems.expect(re.search(r"^VOLUME /var/lib/voxray$", text, re.M), "Dockerfile: /var/lib/voxray must be a volume")
    release = toolchain["toolchain"]["channel"].rpartition(".")[0]
    problems.expect(f"FROM rust:{release}-" in text, f"Dockerfile: it is not built with Rust {release}")
    problems.expect("# syntax=" not in text, "Dockerfile: a syntax line makes every build pull a front end")


def check_build_context(problems, members, ignored):
    """The image is built from what .dockerignore lets through: every crate has to be there."""
    for member in members:
        folder = "!" + member.split("/")[0]
        problems.expect(folder in ignored.split(), f".dockerignore keeps {member} out of the image's build: add {folder}")
    kept_out = "!rust-toolchain.toml" not in ignored.split()
    problems.expect(kept_out, ".dockerignore lets rust-toolchain.toml through: the build would download another toolchain")


def check_compose(problems, compose, text, known, secret, groups):
    """`groups`: the files of each group of passwords. Returns the ports of our services by host name."""
    services = compose["services"]
    ports, phones = {}, phone_accounts()
    check_passwords(problems, services, groups)
    # Compose waits for the end of those, with `--wait` as well, as long as somebody else does.
    once = {needed for service in services.values() for needed, how in (service.get("depends_on") or {}).items()
            if how["condition"] == "service_completed_successfully"}
    for name, service in services.items():
        env = service.get("environment") or {}
        where = f"compose.yaml: {name}"
        check_environment(problems, where, env, known)
        for key in set(env) & secret:
            problems.expect(not env[key], f"{where}: {key} is a secret; give it as a file")
        if name in once:
            problems.expect(service.get("restart") == "no", f"{where}: it runs once, and is started again")
        else:
            problems.expect("healthcheck" in service or service.get("image", "").startswith("voxray:"),
                            f"{where} has no health check")
        for needed, condition in (service.get("depends_on") or {}).items():
            problems.expect(condition["condition"] != "service_started", f"{where} does not wait until {needed} is healthy")
        role = (service.get("command") or [""])[0]
        if role not in ROLES:
            continue
        problems.expect(service.get("read_only"), f"{where}: its root must be read-only")
        problems.expect(service.get("cap_drop") == ["ALL"], f"{where}: it must drop all capabilities")
        grace = seconds(service.get("stop_grace_period", "10s"))
        problems.expect(grace >= GRACE[role], f"{where}: it is killed {grace} s after SIGTERM, and may need {GRACE[role]} s")
        # What signaling checks phone providers by and places calls with, and media nodes end and transfer calls with.
        for key in sorted((phones | {"VOXRAY_PROXY_HOST"}) - set(env)) if role != "archiver" else ():
            problems.expect(False, f"{where}: {key} does not reach it")
        for key in sorted(AGENT - set(env)) if role == "media" else ():
            problems.expect(False, f"{where}: {key} does not reach it")
        problems.expect(env.get("VOXRAY_GREETING") is None, f"{where}: an empty VOXRAY_GREETING keeps the agent silent")
        for mount in service.get("volumes", []):
            problems.expect(mount.get("read_only"), f"{where}: its replicas would share the disk {mount['source']}")
        ports[name] = {env.get("VOXRAY_PORT", "8080"), env.get("VOXRAY_ADMIN_PORT"), env.get("VOXRAY_MEDIA_CONTROL_PORT"),
                       env.get("VOXRAY_ARCHIVER_PORT")}
    roles = {(service.get("command") or [""])[0] for service in services.values()}
    problems.expect(ROLES <= roles, f"compose.yaml: no service runs {', '.join(sorted(ROLES - roles))}")
    for name, service in services.items():
        for key, value in (service.get("environment") or {}).items():
            check_address(problems, f"compose.yaml: {name}: {key}", value, ports, services)
    for variable in re.findall(r"\$\{(VOXRAY_\w+)", text):
        problems.expect(variable in known | COMPOSE_SETTINGS, f"compose.yaml: ${{{variable}}} is unknown")
    check_public_port(problems, services)
    return ports


def check_public_port(problems, services):
    """Sockets are led to where nginx is published, whatever port and address that is."""
    [port] = services["nginx"]["ports"]
    published = f"ws://{port.get('host_ip', 'localhost')}:{port['published']}"
    told = services["signaling"]["environment"]["VOXRAY_MEDIA_PUBLIC_URL"]
    problems.expect(told == published, f"compose.yaml: nginx is at {published}, and sockets are led to {told}")


def seconds(text):
    """A duration of compose (`1h1m0s`)."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(amount) * units[unit] for amount, unit in re.findall(r"(\d+)([hms])", text))


def check_sockets(problems, where, text):
    """Every socket is led to the media nodes, and nothing else is."""
    locations = re.findall(r"location ([=~] )?(\S+) \{(.*?)\}", text, re.S)
    for path in SOCKETS:
        for path in (path, "/api/v1" + path):
            problems.expect(leads_to_media(locations, path), f"{where}: {path} does not lead to the media nodes")
    for path in OTHERS:
        for path in (path, "/api/v1" + path):
            problems.expect(not leads_to_media(locations, path), f"{where}: {path} leads to the media nodes")


def leads_to_media(locations, path):
    """As nginx decides: an exact location, then the first expression that fits, then a prefix (none of ours is of media)."""
    exact = [body for kind, pattern, body in locations if kind == "= " and pattern == path]
    fits = [body for kind, pattern, body in locations if kind == "~ " and re.search(pattern, path)]
    return any(re.search(r"proxy_pass +http://\$?(media|node)\b", body) for body in [*exact, *fits][:1])


def check_nginx(problems, text, ports):
    for host, port in re.findall(r"\b([a-z][a-z0-9-]*):(\d+);", text):
        problems.expect(host in ports and port in ports[host], f"nginx.conf: {host} does not listen on {port}")


def check_scrapes(problems, config, compose):
    """Prometheus beside compose.yaml asks every service on the port where its metrics are."""
    for job in config["scrape_configs"]:
        for source in job.get("dns_sd_configs", []):
            for name in source["names"]:
                env = compose["services"].get(name, {}).get("environment") or {}
                right = env.get("VOXRAY_ADMIN_PORT", env.get("VOXRAY_PORT")) == str(source["port"])
                problems.expect(right, f"prometheus.yml: {name} has its metrics on another port than {source['port']}")
