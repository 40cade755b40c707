// What server-1.mjs and server-2.mjs have in common, so that a client sees no difference but the era.
//
//     [--http]       without it over stdio; with it at a free port, whose URL is written to stderr
import { createRequire } from 'node:module';

export const require = createRequire(`${process.env.MCP_BRIDGE_PEERS}/package.json`);
export const NOTE = 'test://note';
export const QUESTION = {
  message: 'who?',
  requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }
};

const inputSchema = { type: 'object', properties: {} };
const TOOLS = [
  { name: 'echo', description: 'value: says it', inputSchema: { type: 'object', properties: { value: { type: 'string' } } } },
  { name: 'steps', description: 'three steps of progress, each after the tools were listed', inputSchema },
  { name: 'ask', description: 'asks the user for a name', inputSchema },
  { name: 'touch', description: 'the note has changed, for who subscribed to it', inputSchema },
  { name: 'wait', description: 'reports progress, then waits to be cancelled', inputSchema },
  { name: 'cancelled', description: 'waits until a call has been cancelled; how many have been', inputSchema }
];

let listed = () => {};
let count = 0;
let waiting = [];

export function listTools() {
  listed();
  return { tools: TOOLS };
}

export const text = (words) => ({ content: [{ type: 'text', text: words }] });
export const overHttp = process.argv.includes('--http');
export const announce = (http) => console.error(`listening on http://127.0.0.1:${http.address().port}/mcp`);

// Each step waits until the client has asked for the tools, which it does when it has heard of the step: of steps that come
// together, or with the result, SDK 1.x may drop some.
export async function steps(report) {
  for (const progress of [1, 2, 3]) {
    const next = new Promise((resolve) => { listed = resolve; });
    await report(progress);
    await next;
  }
  return text('3 steps');
}

export async function pause(report, signal) {
  await report(1);
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  count += 1;
  waiting.forEach((resolve) => resolve());
  waiting = [];
  return text('cancelled');
}

export async function cancelled() {
  if (!count) await new Promise((resolve) => waiting.push(resolve));
  return text(String(count));
}
