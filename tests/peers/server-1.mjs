// A server on the TypeScript SDK 1.x (2025-11-25) for the tests of both eras; server-2.mjs is the same on 2.x. Options: contract.mjs.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { announce, cancelled, overHttp, listTools, pause, require, NOTE, QUESTION, steps, text } from './contract.mjs';

const { Server } = require('@modelcontextprotocol/sdk/server/index.js');
const { StdioServerTransport } = require('@modelcontextprotocol/sdk/server/stdio.js');
const { StreamableHTTPServerTransport } = require('@modelcontextprotocol/sdk/server/streamableHttp.js');
const types = require('@modelcontextprotocol/sdk/types.js');

function build() {
  const capabilities = { tools: {}, resources: { subscribe: true } };
  const server = new Server({ name: 'peer-1', version: '1' }, { capabilities });
  const subscribed = new Set();
  server.setRequestHandler(types.ListToolsRequestSchema, listTools);
  server.setRequestHandler(types.SubscribeRequestSchema, ({ params }) => { subscribed.add(params.uri); return {}; });
  server.setRequestHandler(types.UnsubscribeRequestSchema, ({ params }) => { subscribed.delete(params.uri); return {}; });
  server.setRequestHandler(types.ReadResourceRequestSchema, ({ params }) => {
    if (params.uri !== NOTE) throw new types.McpError(-32002, 'Resource not found', { uri: params.uri });
    return { contents: [{ uri: NOTE, text: 'contents' }] };
  });
  server.setRequestHandler(types.CallToolRequestSchema, async ({ params: { name, arguments: args } }, extra) => {
    const report = (progress) => extra.sendNotification({
      method: 'notifications/progress', params: { progressToken: extra._meta?.progressToken, progress }
    });
    switch (name) {
      case 'echo': return text(args.value);
      case 'steps': return steps(report);
      case 'ask': {
        const answer = await extra.sendRequest({ method: 'elicitation/create', params: QUESTION }, types.ElicitResultSchema);
        return text(`${answer.action}: ${answer.content?.name}`);
      }
      case 'touch':
        if (subscribed.has(NOTE)) await server.sendResourceUpdated({ uri: NOTE });
        return text('touched');
      case 'wait': return pause(report, extra.signal);
      case 'cancelled': return cancelled();
      default: throw new types.McpError(-32602, `Unknown tool: ${name}`);
    }
  });
  return server;
}

if (!overHttp) {
  await build().connect(new StdioServerTransport());
} else {
  const sessions = new Map();
  const http = createServer(async (req, res) => {
    let transport = sessions.get(req.headers['mcp-session-id']);
    if (!transport && req.headers['mcp-session-id']) return res.writeHead(404).end();
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (id) => { sessions.set(id, transport); },
        onsessionclosed: (id) => { sessions.delete(id); }
      });
      await build().connect(transport);
    }
    await transport.handleRequest(req, res);
  });
  http.listen(0, '127.0.0.1', () => announce(http));
}
