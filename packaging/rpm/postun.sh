# $1: 0 removal, 1 new version.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    [ "$1" -eq 0 ] || systemctl try-restart mcp-bridge.service
fi
exit 0
