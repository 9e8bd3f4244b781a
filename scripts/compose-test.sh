#!/usr/bin/env bash
# Builds the image, starts compose.yaml as on a new clone, looks at what is open and who is given which password, places a
# call through nginx, looks for it in PostgreSQL and S3, calls again, replaces under this call everything that it runs on but
# nginx while another call comes in, and asks Prometheus what it sees.
#
#   scripts/compose-test.sh                 with this machine's container engine, or without one as with --own-engine
#   scripts/compose-test.sh --own-engine    with a dockerd of its own and images made here: nothing is pulled
#   scripts/compose-test.sh --binary FILE   with a voxray built here (on Debian 12, or no newer) in place of the Dockerfile's
#                                           Rust stage, which takes as long as a cold release build
#
# --own-engine needs root and Debian's docker.io and debootstrap, some 10 GB below $VOXRAY_ENGINE_DIR (a temporary
# folder by default), and leaves nothing behind but Docker's bridge. Behind a proxy with its own certificate authority set EXTRA_CA=ca.pem.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
own_engine= binary=
while [ $# -gt 0 ]; do
    case $1 in
        --own-engine) own_engine=1 ;;
        --binary) binary=$(readlink -e "${2:?--binary FILE}"); shift ;;
        *) sed -n 's/^#   //p' "$0" >&2; exit 64 ;;
    esac
    shift
done

say() { printf 'compose-test: %s (%ss)\n' "$*" "$SECONDS" >&2; }

if [ -z "$own_engine" ] && ! "${DOCKER:-docker}" info >/dev/null 2>&1; then
    for needed in dockerd debootstrap; do
        command -v "$needed" >/dev/null || { say "no container engine answers, and there is no $needed for one of its own"; exit 1; }
    done
    if [ "$(id -u)" != 0 ]; then say "no container engine answers; as root this starts one of its own"; exit 1; fi
    say "no container engine answers: starting one (--own-engine)"
    own_engine=1
fi

# Debian's client: newer ones cannot build without buildx.
if [ -n "$own_engine" ] && [ -x /usr/bin/docker ]; then DOCKER=/usr/bin/docker; fi
export DOCKER=${DOCKER:-docker}
# What this machine's environment or .env says of a deployment is not for this one: the local agent answers, and calls come
# without signature and key.
export COMPOSE_DISABLE_ENV_FILE=1
for name in $(grep -oE '\$\{[A-Z0-9_]+' compose.yaml | tr -d '${' | grep -v '_PORT$') VOXRAY_GREETING; do unset "$name"; done
export COMPOSE_PROJECT_NAME=voxray-test
export VOXRAY_VERSION=compose-test
# Only this machine reaches it, on another port than the one without a word: sockets have to follow.
export VOXRAY_PUBLIC_ADDRESS=127.0.0.1 VOXRAY_PUBLIC_PORT=${VOXRAY_PUBLIC_PORT:-8090}
url=http://localhost:$VOXRAY_PUBLIC_PORT
engine_dir= engine_pid= context= started= seen= caller= roll=

compose() { "$tools/bin/docker-compose" "$@"; }

clean_up() {
    local status=$?
    for child in $caller $roll; do kill "$child" 2>/dev/null || true; done
    if [ -n "$started" ]; then
        if [ "$status" != 0 ]; then compose ps -a >&2 || true; compose logs --tail 20 >&2 || true; fi
        compose --profile '*' down --volumes --timeout 30 >/dev/null 2>&1 || true
    fi
    if [ -n "$context" ]; then rm -rf "$context"; fi
    if [ -n "$engine_pid" ]; then
        kill "$engine_pid" 2>/dev/null || true
        wait "$engine_pid" 2>/dev/null || true
    fi
    if [ -n "$engine_dir" ]; then
        # An engine that was interrupted in a build leaves mounts behind.
        awk -v folder="$engine_dir/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount --lazy || true
        rm -rf "$engine_dir"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [ -n "$own_engine" ]; then
    engine_dir=$(mktemp -d "${VOXRAY_ENGINE_DIR:-${TMPDIR:-/tmp}}/voxray-engine-XXXXXX")
    export DOCKER_HOST=unix://$engine_dir/sock TMPDIR=$engine_dir
    setsid dockerd --data-root "$engine_dir/data" --exec-root "$engine_dir/exec" -p "$engine_dir/pid" -H "$DOCKER_HOST" \
        >"$engine_dir/log" 2>&1 &
    engine_pid=$!
    until "$DOCKER" info >/dev/null 2>&1; do
        kill -0 "$engine_pid" 2>/dev/null || { tail "$engine_dir/log" >&2; exit 1; }
        sleep 0.2
    done
    scripts/compose-images.sh
fi

say "building the image"
secret=()
if [ -n "${EXTRA_CA:-}" ]; then secret=(--secret "id=extra_ca,src=$EXTRA_CA"); fi
build() { DOCKER_BUILDKIT=1 "$DOCKER" build "${secret[@]}" --tag "voxray:$VOXRAY_VERSION" "$@" >&2; }
if [ -n "$binary" ]; then
    context=$(mktemp -d)
    cp "$binary" "$context/voxray"
    sed '/^FROM rust:/,/^$/c\FROM scratch AS build\nCOPY voxray /out/voxray\n' Dockerfile > "$context/Dockerfile"
    build "$context"
else
    build .
fi

say "starting compose.yaml"
started=1
compose up --no-build --detach --wait --wait-timeout 180 >&2

# call NAME...: says these recordings, each after the agent's answer to the one before.
call() {
    "$DOCKER" run --rm --network host --read-only --tmpfs /tmp --volume "$PWD/testdata/speech:/speech:ro" \
        "voxray:$VOXRAY_VERSION" call --url "$url" --out /tmp/call.wav "${@/#//speech/}" >&2
}

# archived ROWS RECORDINGS: waits for at least so many transcript rows and exactly so many recordings; sets `rows`.
archived() {
    local objects
    for _ in $(seq 60); do
        rows=$(compose exec -T postgres psql -U voxray -d voxray -Atc 'SELECT count(*) FROM call_transcripts')
        objects=$(echo 'fs.tree /buckets/recordings' | compose exec -T s3 weed shell -master=s3:9333 2>/dev/null | grep -c '\.wav' || true)
        if [ "$rows" -ge "$1" ] && [ "$objects" = "$2" ]; then break; fi
        sleep 1
    done
    say "$rows transcript rows, $objects recordings in S3"
    if [ "$rows" -lt "$1" ] || [ "$objects" != "$2" ]; then
        say "a call is not in the archive: $1 rows and $2 recordings were expected"
        exit 1
    fi
}

metric() { compose exec -T nginx curl -fsS "http://$1:8081/metrics" | sed -n "s/^$2 //p"; }

# nodes COUNT: waits until so many media nodes take calls.
nodes() {
    local accepting=
    for _ in $(seq 30); do
        accepting=$(metric signaling 'media_nodes{state="accepting"}' || true)
        if [ "$accepting" = "$1" ]; then return; fi
        sleep 1
    done
    say "$accepting of $1 media nodes take calls"
    exit 1
}

# called WHAT: waits until signaling, asked through nginx, knows of a call; fails when the caller is done before.
called() {
    until [[ $(compose exec -T nginx curl -fsS http://127.0.0.1:8080/sessions 2>/dev/null) == *'"state":"connected"'* ]]; do
        kill -0 "$caller" 2>/dev/null || { say "the call was over before $1"; exit 1; }
        sleep 0.5
    done
}

# answers STATUS PATH: what nginx says.
answers() {
    local status
    status=$(compose exec -T nginx curl -sS -o /dev/null -w '%{http_code} %{content_type}' "http://127.0.0.1:8080$2")
    if [[ $status != $1* ]]; then say "$2 answers $status instead of $1"; exit 1; fi
}

# is SERVICE FORMAT EXPECTED: what the engine says of each of its containers.
is() {
    local id found
    for id in $(compose ps -aq "$1"); do
        found=$("$DOCKER" inspect --format "$2" "$id")
        if [ "$found" != "$3" ]; then say "$1: $2 is '$found' instead of '$3'"; exit 1; fi
    done
}

# secrets COMMAND...: in a container as the one that generated the passwords.
secrets() { compose run --rm --no-deps -T --entrypoint "$1" secrets "${@:2}"; }

say "the door and the walls"
answers '200 text/html' /console/
for path in /metrics /drain /log-level /api/v1/metrics; do answers 404 "$path"; done
mounts='{{range .Mounts}}{{if eq .Destination "/run/secrets"}}{{.Name}} {{.RW}}{{end}}{{end}}'
for service in signaling media archiver; do
    is "$service" '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' '10001:10001 true [ALL]'
done
for service in signaling media; do is "$service" "$mounts" "${COMPOSE_PROJECT_NAME}_secrets-calls false"; done
for service in archiver redis postgres s3; do is "$service" "$mounts" "${COMPOSE_PROJECT_NAME}_secrets-$service false"; done
found=$(secrets ls /groups/calls | tr -s '\r\n' ' ')
if [ "$found" != "redis_url service_token " ]; then say "signaling and media nodes can read $found"; exit 1; fi
found=$("$DOCKER" ps -aq --filter "volume=${COMPOSE_PROJECT_NAME}_secrets" | wc -l)
if [ "$found" != 1 ]; then say "$found containers can read every password"; exit 1; fi
passwords=$(secrets sh -c 'cat /data/*')

say "placing a call at $url"
call austen-0880.wav
# What the caller said, what the agent said.
archived 2 1

say "a call of more than a minute"
call austen-0870.wav austen-0890.wav austen-0920.wav austen-0930.wav austen-0870.wav \
    austen-0890.wav austen-0920.wav austen-0930.wav austen-0870.wav austen-0890.wav &
caller=$!
called "anything was replaced"
say "restarting signaling and archiver under it"
compose restart --no-deps signaling archiver >&2
compose up --no-build --no-recreate --detach --wait --wait-timeout 60 signaling archiver >&2

# As docs/compose.md says; what is new is a setting of all three.
say "new nodes beside those that run"
old=$(compose ps -q signaling media archiver)
export VOXRAY_LOG_LEVEL=debug
compose up --no-build --no-recreate --detach --wait --wait-timeout 180 \
    --scale signaling=2 --scale archiver=2 --scale media=4 >&2
nodes 4
if [ "$(secrets sh -c 'cat /data/*')" != "$passwords" ]; then say "a second start changed passwords"; exit 1; fi
called "the old nodes were taken away"
say "taking the old ones away"
"$tools/bin/docker-compose" up --no-build --detach --wait --wait-timeout 180 >&2 &
roll=$!
nodes 2
say "a call while the old node still has one"
call austen-0880.wav
called "the other one"
wait "$caller" || { caller=; say "the call was cut off"; exit 1; }
caller=
wait "$roll" || { roll=; say "the old nodes did not go"; exit 1; }
roll=
say "the old ones are gone"
for id in $(compose ps -q signaling media archiver); do
    if [[ $old == *$id* ]]; then say "an old container was kept: $("$DOCKER" inspect --format '{{.Name}}' "$id")"; exit 1; fi
done
# Ten questions and ten answers, and a pair more.
archived $((rows + 22)) 3
nodes 2

say "a call on the new nodes"
call austen-0880.wav
archived $((rows + 2)) 4

# Where images are pulled, Grafana as well; compose-images.sh has none.
say "profile observability"
observability=(prometheus)
if [ -z "$own_engine" ]; then observability+=(grafana); fi
compose --profile observability up --no-build --no-recreate --detach --wait --wait-timeout 180 "${observability[@]}" >&2
ask() { compose exec -T nginx curl -fsS --data-urlencode "query=$1" http://prometheus:9090/api/v1/query; }
for _ in $(seq 60); do
    # One signaling service, two media nodes, one archiver.
    if ask 'sum(up) == 4 and sum(voxray_sessions_active) == 0' | grep -q '"metric"'; then seen=1; break; fi
    sleep 1
done
if [ -z "$seen" ]; then
    say "Prometheus does not see all services: $(ask up)"
    exit 1
fi
if compose exec -T nginx curl -fsS http://prometheus:9090/api/v1/rules | grep -q '"health":"err"'; then
    say "a rule cannot be evaluated"
    exit 1
fi
if [ -z "$own_engine" ] && ! compose exec -T nginx curl -fsS 'http://grafana:3000/api/search?type=dash-db' | grep -q '"title"'; then
    say "Grafana has no dashboards"
    exit 1
fi
say "passed"
