# shellcheck shell=bash
# Sourced by the scripts beside it: installs what is missing, with the system's own package manager.

# Each argument is a need of the table below. Nothing is touched when all of them are there.
install_missing() {
  local need debian=() fedora=()
  for need; do
    has "$need" && continue
    case $need in
      cc) debian+=(gcc libc6-dev) fedora+=(gcc) ;;
      openssl-headers) debian+=(libssl-dev pkg-config) fedora+=(openssl-devel pkgconf-pkg-config) ;;
      venv) debian+=(python3 python3-venv) fedora+=(python3 python3-pip) ;;
      npm) debian+=(nodejs npm) fedora+=(npm) ;;
      flock | taskset) debian+=(util-linux) fedora+=(util-linux) ;;
      ip) debian+=(iproute2) fedora+=(iproute) ;;
      dpkg-shlibdeps) debian+=(dpkg-dev) fedora+=(dpkg-dev) ;;
      systemd-analyze) debian+=(systemd) fedora+=(systemd) ;;
      script) debian+=(bsdutils) fedora+=(/usr/bin/script) ;;
      *) debian+=("$need") fedora+=("$need") ;;
    esac
  done
  [ ${#debian[@]} -gt 0 ] || return 0

  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  if command -v apt-get >/dev/null; then
    echo "installing ${debian[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${debian[@]}" >/dev/null
  elif command -v dnf >/dev/null; then
    echo "installing ${fedora[*]}"
    "${root[@]}" dnf install -q -y "${fedora[@]}"
  else
    echo "neither apt-get nor dnf is here; please install the like of: ${debian[*]}" >&2
    exit 1
  fi
}

has() {
  case $1 in
    openssl-headers) pkg-config --exists openssl 2>/dev/null ;;
    nginx) [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null ;;
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Each argument is a program of it. Rust is not installed for you: which one, and from where, is yours to say.
require_rust() {
  local part
  for part; do
    command -v "$part" >/dev/null && continue
    echo "$part is missing: this needs Rust 1.88 or newer (with rustup: rustup toolchain install stable)" >&2
    exit 1
  done
}

# The version $2 of the program $1, in the folder $3, unless it is there. The rest is for `cargo install`.
install_cargo_tool() {
  local name=$1 version=$2 folder=$3
  shift 3
  ! grep -qs "^\"$name $version " "$folder/.crates.toml" || return 0
  cargo install --locked --quiet --root "$folder" "$name" --version "$version" "$@"
}
