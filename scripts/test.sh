#!/usr/bin/env bash
# Installs what the tests need, and runs them all; CI does the same.
#
#   scripts/test.sh           # everything: with the official SDKs, the Inspector, the reference servers, the conformance suite, a
#                             # FIPS provider, HAProxy and promtool; as root on Debian, also the packages and the container image
#   scripts/test.sh --quick   # only what needs no npm, no PyPI, no cargo-deny, no FIPS provider, no HAProxy and no promtool
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

CARGO_DENY=0.20.2
tools=$PWD/target/tools

main() {
  local quick=''
  case ${1:-} in
    '') ;;
    --quick) quick=yes ;;
    *) echo "usage: $0 [--quick]" >&2; exit 2 ;;
  esac

  require_rust cargo rustfmt cargo-clippy
  install_missing cc openssl-headers openssl flock curl script
  if [ -z "$quick" ]; then
    install_missing venv npm haproxy
    export MCP_BRIDGE_PEERS=${MCP_BRIDGE_PEERS:-$PWD/target/peers}
    run tests/peers/setup.sh "$MCP_BRIDGE_PEERS"
    export MCP_BRIDGE_CONFORMANCE=${MCP_BRIDGE_CONFORMANCE:-$PWD/target/conformance}
    run tests/conformance/setup.sh "$MCP_BRIDGE_CONFORMANCE"
    install_fips_provider
    install_promtool
    run install_cargo_tool cargo-deny $CARGO_DENY "$tools"
  fi

  run cargo fmt --check
  run cargo clippy --locked --all-targets -- -D warnings
  [ -n "$quick" ] || run "$tools/bin/cargo-deny" --locked check bans licenses sources
  [ -n "$quick" ] || run scripts/quickstart.sh
  run cargo test --locked
  if [ -z "$quick" ]; then
    run scripts/test-packages.sh
    run scripts/test-image.sh
  fi
}

# In a folder that git ignores. It is a package of Debian's; a host in FIPS mode has one of its own.
install_fips_provider() {
  export MCP_BRIDGE_FIPS_DIR=${MCP_BRIDGE_FIPS_DIR:-$PWD/target/fips}
  if command -v apt-get >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    run scripts/fips-provider.sh "$MCP_BRIDGE_FIPS_DIR"
  elif [ ! -e "$MCP_BRIDGE_FIPS_DIR/openssl.cnf" ]; then
    echo "no FIPS provider: the tests of FIPS mode are skipped; scripts/fips-provider.sh needs Debian"
    unset MCP_BRIDGE_FIPS_DIR
  fi
}

# For the test of the alert rules, in a folder that git ignores.
install_promtool() {
  ! command -v promtool >/dev/null || return 0
  if command -v apt-get >/dev/null; then
    run scripts/promtool.sh "$PWD/target/promtool"
    export PATH=$PATH:$PWD/target/promtool
  else
    echo "no promtool: the test of the alert rules is skipped; scripts/promtool.sh needs apt"
  fi
}

run() {
  local began=$SECONDS
  printf '\n== %s\n' "$*"
  "$@"
  printf '== %d s: %s\n' $((SECONDS - began)) "$*"
}

main "$@"
