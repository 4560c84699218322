# docker build -t millstream .
# docker run -p 127.0.0.1:9092:9092 -p 127.0.0.1:9080:9080 -v millstream:/data --stop-timeout 40 millstream
#
# Clients on the host use localhost:9092, other containers of the same network NAME:19092, NAME being this container's. Clients elsewhere need to be told an address
# that leads here: -e MILLSTREAM_ADVERTISED_LISTENERS=PLAINTEXT://HOST:PORT. docs/operating.md says more; docs/compose has it with Prometheus and Grafana.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist --bin millstream

FROM debian:bookworm-slim
RUN groupadd --gid 10001 millstream \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin millstream \
    && install -d -o millstream -g millstream /data
COPY --from=build /src/target/dist/millstream /usr/local/bin/millstream
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 9092 19092 9080
# INTERNAL advertises nothing, so it tells the address of the connection: whatever the container is called, others reach it again by that.
# millstream in the HTTP hosts is the name that Prometheus calls it by, as in docs/compose.
ENV MILLSTREAM_LOG_DIRS=/data \
    MILLSTREAM_LISTENERS=PLAINTEXT://0.0.0.0:9092,INTERNAL://0.0.0.0:19092 \
    MILLSTREAM_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT \
    MILLSTREAM_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092 \
    MILLSTREAM_HTTP=0.0.0.0:9080 \
    MILLSTREAM_HTTP_HOSTS=millstream:9080
# bash opens the socket itself: the image needs no HTTP client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${MILLSTREAM_HTTP##*:} && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["millstream"]
CMD ["serve"]
