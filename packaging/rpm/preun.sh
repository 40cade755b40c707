# $1: 0 removal, 1 new version.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now mcp-bridge.service
fi
exit 0
