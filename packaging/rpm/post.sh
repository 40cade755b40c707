# $1: 1 first installation, 2 new version.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    [ "$1" -gt 1 ] || systemctl --no-reload preset mcp-bridge.service
fi
exit 0
