// A server on the TypeScript SDK 2.x that speaks 2026-07-28 only, for the tests of both eras. Options: contract.mjs.
import { createServer } from 'node:http';
import { announce, cancelled, overHttp, listTools, pause, require, NOTE, QUESTION, steps, text } from './contract.mjs';

const sdk = require('@modelcontextprotocol/server');
const { serveStdio } = require('@modelcontextprotocol/server/stdio');
const { toNodeHandler } = require('@modelcontextprotocol/node');

function build(touch) {
  const capabilities = { tools: {}, resources: { subscribe: true } };
  const server = new sdk.Server({ name: 'peer-2', version: '1' }, { capabilities });
  server.setRequestHandler('tools/list', listTools);
  server.setRequestHandler('resources/list', () => ({ resources: [{ uri: NOTE, name: 'note' }] }));
  server.setRequestHandler('resources/read', ({ params }) => {
    if (params.uri !== NOTE) throw new sdk.ResourceNotFoundError(params.uri, 'Resource not found');
    return { contents: [{ uri: NOTE, text: 'contents' }] };
  });
  server.setRequestHandler('tools/call', async ({ params: { name, arguments: args } }, { mcpReq }) => {
    const report = (progress) => mcpReq.notify({
      method: 'notifications/progress', params: { progressToken: mcpReq._meta?.progressToken, progress }
    });
    switch (name) {
      case 'echo': return text(args.value);
      case 'steps': return steps(report);
      case 'ask': {
        const answer = sdk.inputResponse(mcpReq.inputResponses, 'name');
        if (answer.kind !== 'elicit') return sdk.inputRequired({ inputRequests: { name: sdk.inputRequired.elicit(QUESTION) } });
        return text(`${answer.action}: ${answer.content?.name}`);
      }
      case 'touch': await touch(server); return text('touched');
      case 'wait': return pause(report, mcpReq.signal);
      case 'cancelled': return cancelled();
      default: throw new sdk.ProtocolError(-32602, `Unknown tool: ${name}`);
    }
  });
  return server;
}

if (!overHttp) {
  serveStdio(() => build((server) => server.sendResourceUpdated({ uri: NOTE })), { legacy: 'reject' });
} else {
  const bus = new sdk.InMemoryServerEventBus();
  const touch = () => bus.publish({ kind: 'resource_updated', uri: NOTE });
  const http = createServer(toNodeHandler(sdk.createMcpHandler(() => build(touch), { bus, legacy: 'reject' })));
  http.listen(0, '127.0.0.1', () => announce(http));
}
