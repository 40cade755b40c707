// The TypeScript SDK 2.x as a client of server-1.mjs or server-2.mjs, as one of 2026-07-28; prints one line of JSON. Options: lib.mjs.
import { eventually, expect, fetchWith, headersOf, require, run } from './lib.mjs';
import { use } from './eras.mjs';

const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');

// What says of any result that it is well.
const anything = { '~standard': { version: 1, vendor: 'peers', validate: (value) => ({ value }) } };

await run(async (opts) => {
  const options = { capabilities: { elicitation: {} }, versionNegotiation: { mode: 'auto' } };
  const client = new Client({ name: 'typescript-2', version: '1' }, options);
  const updates = [];
  client.setRequestHandler('elicitation/create', ({ params }) => ({ action: 'accept', content: { name: `answer to ${params.message}` } }));
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => { updates.push(params.uri); });
  await client.connect(transportFor(opts));
  expect(client.getProtocolEra() === 'modern', 'the client speaks the modern revision');
  const report = await use({
    call: (name, args = {}, callOptions = {}) => client.callTool({ name, arguments: args }, callOptions),
    list: () => client.listTools(),
    read: (uri) => client.readResource({ uri }),
    request: (method) => client.request({ method }, anything),
    hear: async (uri, change) => {
      const subscription = await client.listen({ resourceSubscriptions: [uri] });
      await change();
      await eventually(() => updates.includes(uri), 'the update of a resource');
      await subscription.close();
    }
  });
  expect(client.getServerVersion().name.startsWith('peer-'), 'the name of the server');
  await client.close();
  return { client: 'typescript-2', ...report };
});

function transportFor(opts) {
  if (opts.stdio) {
    const [command, ...args] = opts.stdio;
    return new StdioClientTransport({ command, args, env: process.env, stderr: 'inherit' });
  }
  return new StreamableHTTPClientTransport(new URL(opts.url), { fetch: fetchWith(opts), requestInit: { headers: headersOf(opts) } });
}
