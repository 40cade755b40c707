# The owner of the files must be there before they are. As mcp-bridge.sysusers says it.
getent group mcp-bridge >/dev/null || groupadd --system mcp-bridge
getent passwd mcp-bridge >/dev/null ||
    useradd --system --gid mcp-bridge --home-dir /var/lib/mcp-bridge --shell /usr/sbin/nologin --comment 'MCP bridge' mcp-bridge
