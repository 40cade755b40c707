// What the TypeScript peers share: the options of their command line, and a client of the server they name.
//
//     [--ca FILE] [--cert FILE --key FILE] [--token-env VAR] URL
//     --stdio COMMAND ARGS...
//
// The packages are found in the folder that setup.sh filled, which MCP_BRIDGE_PEERS names.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { MCP_BRIDGE_PEERS } = process.env;
if (!MCP_BRIDGE_PEERS) fail('MCP_BRIDGE_PEERS names no folder (see tests/peers/setup.sh)');
export const require = createRequire(`${MCP_BRIDGE_PEERS}/package.json`);
const undici = require('undici');
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
export const types = require('@modelcontextprotocol/sdk/types.js');

const DEADLINE = 120_000; // for a whole script

export function options(argv = process.argv.slice(2)) {
  const opts = {};
  while (argv.length) {
    const arg = argv.shift();
    if (arg === '--stdio') { opts.stdio = argv.splice(0); } else if (arg.startsWith('--')) { opts[arg.slice(2)] = argv.shift(); } else { opts.url = arg; }
  }
  return opts;
}

// A fetch with our trust and identity; Node's own takes neither from the SDK.
export function fetchWith({ ca, cert, key }) {
  const read = (path) => path && readFileSync(path);
  const dispatcher = new undici.Agent({ connect: { ca: read(ca), cert: read(cert), key: read(key) } });
  return (url, init) => undici.fetch(url, { ...init, dispatcher });
}

export function headersOf(opts) {
  return opts['token-env'] ? { Authorization: `Bearer ${process.env[opts['token-env']]}` } : {};
}

export function transportFor(opts) {
  if (opts.stdio) {
    const [command, ...args] = opts.stdio;
    return new StdioClientTransport({ command, args, env: process.env, stderr: 'inherit' });
  }
  return new StreamableHTTPClientTransport(new URL(opts.url), { fetch: fetchWith(opts), requestInit: { headers: headersOf(opts) } });
}

// A client that answers sampling, elicitation and roots, and notes what the server says of its own accord.
export async function connect(opts, name) {
  const client = new Client({ name, version: '1' }, { capabilities: { sampling: {}, elicitation: {}, roots: {} } });
  const heard = { logs: [], changes: 0, errors: [] };
  client.onerror = (error) => heard.errors.push(String(error));
  client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => ({
    role: 'assistant', model: 'fixture', content: { type: 'text', text: `sampled: ${params.messages[0].content.text}` }
  }));
  client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => ({ action: 'accept', content: { name: `answer to ${params.message}` } }));
  client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: [{ uri: 'file:///fixture', name: 'fixture' }] }));
  client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => { heard.logs.push(params.data); });
  client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => { heard.changes++; });
  const transport = transportFor(opts);
  await client.connect(transport);
  const call = (tool, args = {}, callOptions = {}) => client.callTool({ name: tool, arguments: args }, undefined, callOptions);
  return { client, transport, heard, call };
}

export function expect(holds, what) {
  if (!holds) throw new Error(what);
}

// Polling is for the client's own state only, which nothing announces.
export async function eventually(condition, what, limit = 20_000) {
  const end = Date.now() + limit;
  while (!condition()) {
    expect(Date.now() < end, `${what}: not within ${limit} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

// Runs the script and prints its report; a failed expectation is one line on stderr and status 1.
export async function run(main) {
  setTimeout(() => fail(`not done within ${DEADLINE} ms`), DEADLINE).unref();
  try {
    console.log(JSON.stringify(await main(options())));
    process.exit(0);
  } catch (error) {
    fail(error.cause ? `${error.stack}\ncaused by: ${error.cause}` : error.stack);
  }
}

function fail(why) {
  console.error(`FAILED: ${why}`);
  process.exit(1);
}
