#!/bin/sh
# Runs as root in a Debian that scripts/test-packages.sh throws away: the life of the package, from its installation to
# its removal. There is no service manager in it, so the unit is verified, and its command is run as its user.
set -eu

unit=/usr/lib/systemd/system/mcp-bridge.service
config=/etc/mcp-bridge/config.yaml
log=/tmp/bridge.log
bridge=

step() {
    echo "deb: $1"
}

fail() {
    echo "test-deb: $1" >&2
    [ ! -e $log ] || tail -n 20 $log >&2
    exit 1
}

# FILE OWNER:GROUP MODE
owned() {
    [ "$(stat -c '%U:%G %a' "$1")" = "$2 $3" ] || fail "$1 is $(stat -c '%U:%G %a' "$1"), not $2 $3"
}

of_unit() {
    sed -n "s/^$1=//p" $unit
}

# A warning is an error. The manual is not installed here, only its pages.
verify() {
    said=$(systemd-analyze verify --man=no $unit 2>&1) || fail "the unit is wrong: $said"
    [ -z "$said" ] || fail "of the unit is said: $said"
}

# As a service manager does it for Type=notify: READY=1 comes to its socket.
start() {
    [ "$(of_unit Type)" = notify ] || fail 'the unit is not Type=notify'
    rm -f /tmp/notify /tmp/notified
    socat -u UNIX-RECV:/tmp/notify,mode=777 OPEN:/tmp/notified,creat &
    manager=$!
    while ! [ -S /tmp/notify ]; do sleep 0.1; done
    # shellcheck disable=SC2046
    setpriv --reuid "$(of_unit User)" --regid "$(of_unit Group)" --init-groups --no-new-privs --inh-caps=-all \
        env -i PATH=/usr/bin:/bin HOME="$(of_unit WorkingDirectory)" NOTIFY_SOCKET=/tmp/notify $(of_unit ExecStart) 2>$log &
    bridge=$!
    for _ in $(seq 100); do ! grep -q READY=1 /tmp/notified 2>/dev/null || break; sleep 0.1; done
    grep -q READY=1 /tmp/notified || fail 'systemd is not told that it is ready'
    kill $manager
    for _ in $(seq 100); do
        ! mcp-bridge health >/tmp/health 2>&1 || return 0
        kill -0 $bridge 2>/dev/null || fail 'it has ended'
        sleep 0.1
    done
    fail 'it does not answer'
}

stop() {
    kill $bridge
    wait $bridge || fail "it ended with status $?"
}

call_add() {
    printf '%s\n' \
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}' \
        '{"jsonrpc":"2.0","method":"notifications/initialized"}' \
        '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":19,"b":23}}}' |
        timeout 30 mcp-bridge connect http://127.0.0.1:8080/mcp 2>/dev/null | grep -q '"text":"42"'
}

step 'installs, with its user, its folders and a configuration that passes its check'
dpkg -i /mcp-bridge.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail 'dpkg -i'; }
owned /etc/mcp-bridge root:mcp-bridge 750
owned /etc/mcp-bridge/tls root:mcp-bridge 750
owned $config root:mcp-bridge 640
owned /usr/bin/mcp-bridge root:root 755
[ "$(getent passwd mcp-bridge | cut -d: -f6,7)" = /var/lib/mcp-bridge:/usr/sbin/nologin ] || fail 'the user is not as it should be'
mcp-bridge check | grep -q 'the configuration can be used' || fail 'the configuration that it brings is refused'
ldd /usr/bin/mcp-bridge | grep -q 'libssl.so.3 => /' || fail "it does not use the system's OpenSSL"
bash -n /usr/share/bash-completion/completions/mcp-bridge
zcat -f /usr/share/man/man1/mcp-bridge*.1* | tr -d '\\' >/tmp/manual
for command in serve connect check health; do
    for option in $(mcp-bridge $command --help | grep -o -- ' --[a-z-]*' | sort -u); do
        grep -q -- "$option" /tmp/manual || fail "the manual lacks $option"
        grep -q -- "$option" /usr/share/bash-completion/completions/mcp-bridge || fail "the completions lack $option"
    done
done
for key in metrics: requests:; do grep -q "$key" $config || fail "the configuration does not show $key"; done
cmp -s /usr/share/doc/mcp-bridge/LICENSE /LICENSE || fail 'the licence is missing'

step 'its unit is right and closed, with each drop-in too'
verify
systemd-analyze security --offline=true --threshold=20 $unit >/tmp/security || { tail -n 3 /tmp/security; fail 'more exposed than 2.0'; }
tail -n 1 /tmp/security
for drop_in in /usr/share/doc/mcp-bridge/drop-ins/*.conf; do
    mkdir -p $unit.d
    cp "$drop_in" $unit.d/
    verify
    rm -r $unit.d
done

step 'starts as its user, is up, and not ready until a MCP server is named'
install -d -o mcp-bridge -g mcp-bridge /var/lib/mcp-bridge /var/log/mcp-bridge
start
! mcp-bridge health --ready 2>/tmp/ready || fail 'false is no MCP server'
grep -q 'exited with status 1' /tmp/ready || { cat /tmp/ready; fail 'the reason is missing'; }
stop

step 'calls a tool of the MCP server that the administrator names, and logs into a file that is rotated'
sed -i -e 's|command: /usr/bin/false|command: /usr/local/bin/demo-server|' -e 's|# output: \(/var/log[^ ]*\).*|output: \1|' $config
start
mcp-bridge health --ready >/dev/null
call_add || fail 'the tool did not say 42'
logrotate --force /etc/logrotate.d/mcp-bridge
grep -q 'listening on' /var/log/mcp-bridge/bridge.log.1 || fail 'the log was not rotated'
for _ in $(seq 100); do ! [ -s /var/log/mcp-bridge/bridge.log ] || break; sleep 0.1; done
[ -s /var/log/mcp-bridge/bridge.log ] || fail 'the log was not opened anew after the rotation'
owned /var/log/mcp-bridge/bridge.log mcp-bridge:mcp-bridge 640
stop

step 'keeps what the administrator wrote when it is installed again'
dpkg -i /mcp-bridge.deb >/dev/null 2>&1 || fail 'dpkg -i for the second time'
grep -q demo-server $config || fail 'the configuration was replaced'
owned $config root:mcp-bridge 640

step 'is removed, and purged without the keys'
: >/etc/mcp-bridge/tls/server.key
dpkg -r mcp-bridge >/dev/null 2>&1 || fail 'dpkg -r'
! { [ -e /usr/bin/mcp-bridge ] || [ ! -e $config ]; } || fail 'removal takes the program and leaves the configuration'
dpkg -P mcp-bridge >/dev/null 2>&1 || fail 'dpkg -P'
! { [ -e $config ] || [ ! -e /etc/mcp-bridge/tls/server.key ]; } || fail 'purging takes the configuration and leaves the keys'
