// The TypeScript SDK as a client of the fixture server; prints one line of JSON. Options: lib.mjs.
import { connect, eventually, expect, fetchWith, headersOf, run, types } from './lib.mjs';

const MIB5 = 5 * 1024 * 1024;

await run(async (opts) => {
  const peer = await connect(opts, 'typescript');
  const tools = await use(peer);
  const report = { client: 'typescript', over: opts.stdio ? 'stdio' : 'http', tls: Boolean(opts.ca), server: peer.client.getServerVersion().name, tools };
  if (!opts.stdio) {
    report.protocol = peer.transport.protocolVersion;
    report.after_delete = await remove(opts, peer.transport);
  }
  await peer.client.close();
  return report;
});

async function use({ client, heard, call }) {
  const { tools } = await client.listTools();
  expect(tools.some((tool) => tool.name === 'echo'), 'tools/list has echo');

  const message = 'hällo \u2028 \u{1f980} "quoted"\n';
  expect((await call('echo', { message })).content[0].text === message, 'echo says the message');

  const steps = [];
  const done = await call('progress', { steps: 5, ms: 20 }, { onprogress: ({ progress }) => { steps.push(progress); } });
  expect(done.content[0].text === '5 steps', 'the long call ends');
  await eventually(() => steps.join() === '1,2,3,4,5', 'five steps of progress, in order');

  await call('log', { data: 'typescript was here' });
  await eventually(() => heard.logs.join() === 'typescript was here', 'one log notification');

  const asked = async (tool, args) => (await call(tool, args)).structuredContent;
  const sample = await asked('sample', { prompt: 'why?' });
  expect(sample.result?.content?.text === 'sampled: why?', `sampling: ${JSON.stringify(sample)}`);
  const answer = await asked('elicit', { message: 'who?' });
  expect(answer.result?.content?.name === 'answer to who?', `elicitation: ${JSON.stringify(answer)}`);
  const roots = await asked('roots');
  expect(roots.result?.roots?.[0]?.name === 'fixture', `roots: ${JSON.stringify(roots)}`);

  await call('list_changed');
  await eventually(() => heard.changes === 1, 'list_changed within a call');
  await call('list_changed', { after: true });
  await eventually(() => heard.changes === 2, 'list_changed while no call is open');

  const text = '0123456789abcdeé'.repeat(MIB5 / 16);
  const size = await asked('size', { text });
  expect(same(size, measure(text)), `a large argument arrives whole: ${JSON.stringify(size)}`);
  const big = await call('big', { bytes: MIB5 });
  expect(same(big.structuredContent, measure(big.content[0].text)), 'a large result arrives whole');
  expect(big.content[0].text.length === MIB5, 'a large result has its length');

  await unknownTool(call);
  await cancelACall(call);
  expect((await call('echo', { message: 'bye' })).content[0].text === 'bye', 'the session goes on after a cancelled call');
  return tools.length;
}

async function unknownTool(call) {
  const error = await call('no-such-tool').then((result) => { throw new Error(`an unknown tool is an error: ${JSON.stringify(result)}`); }, (e) => e);
  expect(error.code === types.ErrorCode.InvalidParams, `code of an unknown tool: ${error}`);
  expect(error.message.includes('no-such-tool'), `the server's own words: ${error}`);
}

async function cancelACall(call) {
  const abort = new AbortController();
  const cancelled = call('never', {}, { signal: abort.signal, onprogress: () => abort.abort('enough') });
  await cancelled.then(() => { throw new Error('a cancelled call has no result'); }, () => {});
  const { ids } = (await call('cancelled', { wait: 1 })).structuredContent;
  expect(ids.length === 1, `the server hears of one cancelled call: ${JSON.stringify(ids)}`);
}

// DELETE, after which the session is gone.
async function remove(opts, transport) {
  const session = transport.sessionId;
  await transport.terminateSession();
  const answer = await fetchWith(opts)(opts.url, {
    method: 'POST',
    headers: { ...headersOf(opts), 'Mcp-Session-Id': session, 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' })
  });
  expect(answer.status === 404, `a deleted session is unknown: ${answer.status}`);
  return answer.status;
}

function same(left, right) {
  return left.bytes === right.bytes && left.adler32 === right.adler32;
}

function measure(text) {
  const bytes = Buffer.from(text);
  let a = 1, b = 0;
  for (const byte of bytes) { a = (a + byte) % 65521; b = (b + a) % 65521; }
  return { bytes: bytes.length, adler32: b * 65536 + a };
}
