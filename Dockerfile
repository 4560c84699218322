# docker build -t millstream . && docker run -p 9092:9092 -p 9080:9080 -v millstream:/data millstream
#
# Clients on the host reach it as localhost:9092. Clients elsewhere need an address of their own: -e MILLSTREAM_ADVERTISED_LISTENERS=PLAINTEXT://HOST:9092.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --profile dist --bin millstream && cp target/dist/millstream /millstream

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /data millstream && mkdir /data && chown millstream:millstream /data
COPY --from=build /millstream /usr/local/bin/millstream
USER millstream
VOLUME /data
EXPOSE 9092 9080
ENV MILLSTREAM_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092 \
    MILLSTREAM_HTTP_HOSTS=localhost
# bash opens the socket itself: the image needs no HTTP client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9080 && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["millstream"]
CMD ["serve", "--data-dir", "/data", "--kafka", "0.0.0.0:9092", "--http", "0.0.0.0:9080"]
