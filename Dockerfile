# The build needs Rust 1.88 or newer on Debian 12, whose OpenSSL is the one that the program uses when it runs.
ARG RUST_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin mcp-bridge

FROM ${RUNTIME_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin mcp-bridge
COPY --from=build /build/target/release/mcp-bridge /usr/local/bin/
USER mcp-bridge
EXPOSE 8443
# The configuration is mounted at /etc/mcp-bridge/config.yaml.
ENTRYPOINT ["mcp-bridge"]
CMD ["serve"]
