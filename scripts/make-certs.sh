#!/usr/bin/env bash
# Makes a certificate authority, a server certificate and a client certificate, as the TLS guide does it by hand.
#
#   scripts/make-certs.sh [--force] [--tests] [--name NAME]... [DIR]
#
#   DIR          where they go (default: certs-fixtures beside this script's folder)
#   --name NAME  one more name or address in the server certificate, such as mcp.internal or 10.0.0.7
#   --tests      also an authority that nobody trusts and a client certificate signed by it (other-ca, other-client)
#   --force      make all of them anew
#
# Certificates that verify, stay valid for a week and have the names asked for are kept.
set -euo pipefail

DAYS=365
WEEK=$((7 * 24 * 3600))

main() {
  local dir='' force='' tests='' names=(mcp.example.com localhost 127.0.0.1 ::1)
  while [ $# -gt 0 ]; do
    case $1 in
      --force) force=yes ;;
      --tests) tests=yes ;;
      --name) shift; names+=("${1:?--name needs a name}") ;;
      -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;;
      -*) echo "make-certs: unknown option $1" >&2; exit 2 ;;
      *) dir=$1 ;;
    esac
    shift
  done
  dir=${dir:-$(dirname "$0")/../certs-fixtures}
  mkdir -p "$dir"
  cd "$dir"
  umask 077 # a private key is never readable by others, not even while it is written

  # Two runs at once must not mix their files.
  exec 9>.lock
  flock 9

  [ -z "$force" ] || rm -f {ca,server,client,other-ca,other-client}.{key,crt}
  make_pair ca server "$(alt_names "${names[@]}")"
  make_pair ca client ''
  [ -z "$tests" ] || make_pair other-ca other-client ''
  chmod 644 ./*.crt
  echo "certificates: $PWD"
}

# As openssl.cnf writes them: DNS:localhost,IP:127.0.0.1
alt_names() {
  local name list=()
  for name; do
    if [[ $name == *:* || $name =~ ^[0-9.]+$ ]]; then list+=("IP:$name"); else list+=("DNS:$name"); fi
  done
  (IFS=,; echo "${list[*]}")
}

# The certificate $2 signed by the authority $1, with the alternative names $3.
make_pair() {
  local ca=$1 name=$2 alt=$3
  good_authority "$ca" || make_authority "$ca"
  good_certificate "$ca" "$name" "$alt" || make_certificate "$ca" "$name" "$alt"
}

good_authority() {
  same_key "$1" && stays_valid "$1" && openssl verify -CAfile "$1.crt" "$1.crt" >/dev/null 2>&1
}

good_certificate() {
  same_key "$2" && stays_valid "$2" && openssl verify -CAfile "$1.crt" "$2.crt" >/dev/null 2>&1 && has_names "$2" "$3"
}

same_key() {
  [ -s "$1.crt" ] && [ -s "$1.key" ] &&
    [ "$(openssl x509 -in "$1.crt" -noout -pubkey 2>/dev/null)" = "$(openssl pkey -in "$1.key" -pubout 2>/dev/null)" ]
}

stays_valid() {
  openssl x509 -in "$1.crt" -noout -checkend $WEEK >/dev/null 2>&1
}

has_names() {
  local name list
  IFS=, read -ra list <<<"$2"
  for name in "${list[@]}"; do
    case $name in
      DNS:*) openssl x509 -in "$1.crt" -noout -checkhost "${name#DNS:}" ;;
      IP:*) openssl x509 -in "$1.crt" -noout -checkip "${name#IP:}" ;;
    esac | grep -q 'does match' || return 1
  done
}

make_authority() {
  local title='MCP Bridge CA'
  [ "$1" = ca ] || title='Another CA'
  echo "making $1"
  openssl genrsa -out "$1.key" 4096 2>/dev/null
  openssl req -new -x509 -days $DAYS -key "$1.key" -out "$1.crt" -subj "/CN=$title"
}

make_certificate() {
  local ca=$1 name=$2 alt=$3 subject=mcp-client extensions='extendedKeyUsage=clientAuth'
  [ "$name" != server ] || { subject=mcp.example.com extensions='extendedKeyUsage=serverAuth'; }
  [ -z "$alt" ] || extensions+=$'\n'"subjectAltName=$alt"
  echo "making $name"
  openssl genrsa -out "$name.key" 2048 2>/dev/null
  openssl req -new -key "$name.key" -out "$name.csr" -subj "/CN=$subject"
  openssl x509 -req -days $DAYS -in "$name.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -out "$name.crt" \
    -extfile <(printf 'basicConstraints=CA:FALSE\n%s\n' "$extensions") 2>/dev/null
  rm -f "$name.csr"
}

main "$@"
