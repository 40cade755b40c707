# A small image whose OpenSSL is the base image's. docs/container.md says how to put an MCP server into it and run it.
#
#   podman build --format docker -t mcp-bridge .
#   podman build --format docker -t mcp-bridge \
#     --build-arg BUILD_IMAGE=rust:1-bookworm --build-arg RUNTIME_IMAGE=debian:bookworm-slim .
#
# The names are short ones, so that they come from your own registry. Both images must be of one release: the program
# is built with the headers of one and runs with the libraries of the other.
ARG BUILD_IMAGE=ubi9/ubi
ARG RUNTIME_IMAGE=ubi9/ubi-minimal

FROM ${BUILD_IMAGE} AS build
RUN if command -v dnf >/dev/null; then \
      dnf install -y gcc openssl-devel pkgconf-pkg-config \
      && { command -v cargo >/dev/null || dnf install -y cargo; } \
      && dnf clean all; \
    else \
      apt-get update -qq \
      && apt-get install -qq -y --no-install-recommends gcc libc6-dev libssl-dev pkg-config \
      && rm -rf /var/lib/apt/lists/*; \
    fi
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin mcp-bridge \
 && install -m 755 target/release/mcp-bridge /usr/local/bin/

FROM ${RUNTIME_IMAGE}
RUN if command -v microdnf >/dev/null; then \
      microdnf install -y --nodocs --setopt=install_weak_deps=0 ca-certificates openssl-libs \
      && microdnf clean all; \
    else \
      apt-get update -qq \
      && apt-get install -qq -y --no-install-recommends ca-certificates libssl3 \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin; \
    fi \
 && echo 'mcp-bridge:x:10001:10001:MCP bridge:/tmp:/sbin/nologin' >>/etc/passwd \
 && echo 'mcp-bridge:x:10001:' >>/etc/group \
 && mkdir -p /etc/mcp-bridge
COPY --from=build /usr/local/bin/mcp-bridge /usr/local/bin/
COPY LICENSE /usr/share/doc/mcp-bridge/

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcp-bridge" \
      org.opencontainers.image.description="MCP over HTTPS for stdio servers and clients, with the system's OpenSSL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# The one place where an MCP server can write when the rest is read-only: mount a tmpfs there.
ENV HOME=/tmp
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 CMD ["mcp-bridge", "health"]
# The configuration is mounted at /etc/mcp-bridge/config.yaml.
ENTRYPOINT ["mcp-bridge"]
CMD ["serve"]
