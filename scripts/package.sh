#!/usr/bin/env bash
# Builds the packages from a release build: target/package/*.rpm, and *.deb where Debian's tools are.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

CARGO_DEB=3.8.0
CARGO_GENERATE_RPM=0.21.1
tools=$PWD/target/tools
out=$PWD/target/package

main() {
  [ $# -eq 0 ] || { echo "usage: $0" >&2; exit 2; }
  # The tools look for the release build where it is without this.
  unset CARGO_TARGET_DIR
  require_rust cargo
  install_missing cc openssl-headers
  ! has apt-get || install_missing dpkg-shlibdeps
  cargo build --quiet --release --locked --bin mcp-bridge --example demo-server
  rm -rf "$out"
  cargo run --quiet --locked --example manual -- "$out"

  # The tools run for seconds: it costs more to optimise them.
  export CARGO_PROFILE_DEV_DEBUG=0
  install_cargo_tool cargo-generate-rpm $CARGO_GENERATE_RPM "$tools" --profile dev
  "$tools/bin/cargo-generate-rpm" --payload-compress gzip -o "$out/"
  if has dpkg-shlibdeps; then
    install_cargo_tool cargo-deb $CARGO_DEB "$tools" --profile dev --no-default-features
    "$tools/bin/cargo-deb" --quiet --locked --no-build --no-strip --compress-system --output "$out/"
  fi
  (cd "$out" && ls -l -- *.rpm *.deb)
}

main "$@"
