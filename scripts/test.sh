#!/usr/bin/env bash
# Installs what the tests need, and runs them all; CI does the same.
#
#   scripts/test.sh           # everything, with the official SDKs, the Inspector and the reference servers
#   scripts/test.sh --quick   # only what needs no npm, no PyPI and no cargo-deny
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
  install_missing cc openssl-headers openssl flock
  if [ -z "$quick" ]; then
    install_missing venv npm
    export MCP_BRIDGE_PEERS=${MCP_BRIDGE_PEERS:-$PWD/target/peers}
    run tests/peers/setup.sh "$MCP_BRIDGE_PEERS"
    install_cargo_deny
  fi

  run cargo fmt --check
  run cargo clippy --locked --all-targets -- -D warnings
  [ -n "$quick" ] || run cargo-deny --locked check bans licenses sources
  [ -n "$quick" ] || run scripts/quickstart.sh
  run cargo test --locked
}

# In a folder that git ignores, unless this very version is already on the path.
install_cargo_deny() {
  export PATH=$tools/bin:$PATH
  [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY" ] ||
    run cargo install --locked --quiet --root "$tools" cargo-deny --version $CARGO_DENY
}

run() {
  printf '\n== %s\n' "$*"
  "$@"
}

main "$@"
