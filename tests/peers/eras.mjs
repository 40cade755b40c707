// What a client of either era does with server-1.mjs and server-2.mjs.
import { expect } from './lib.mjs';

const NOTE = 'test://note';

// `call`, `list`, `read`, `request` as the SDK has them; `hear` waits for the update of a resource that a change brings about.
export async function use({ call, list, read, request, hear }) {
  const say = async (name, args, options) => (await call(name, args, options)).content[0].text;

  const tools = (await list()).tools.map((tool) => tool.name);
  expect(tools.includes('echo'), `tools: ${tools}`);
  const value = 'hällo \u2028 \u{1f980} "quoted"\n';
  expect(await say('echo', { value }) === value, 'echo says the value');

  const steps = [];
  const done = await say('steps', {}, { onprogress: ({ progress }) => { steps.push(progress); list(); } });
  expect(done === '3 steps' && steps.join() === '1,2,3', `progress: ${steps}`);

  const answer = await say('ask');
  expect(answer === 'accept: answer to who?', `elicitation: ${answer}`);
  await hear(NOTE, () => say('touch'));

  const abort = new AbortController();
  const cancelled = call('wait', {}, { signal: abort.signal, onprogress: () => abort.abort('enough') });
  await cancelled.then(() => { throw new Error('a cancelled call has no result'); }, () => {});
  const count = await say('cancelled');
  expect(count === '1', `the server hears of one cancelled call: ${count}`);

  const refused = (promise) => promise.then((result) => { throw new Error(`no error: ${JSON.stringify(result)}`); }, (error) => error);
  const unknown = await refused(request('no/such/method'));
  // Over HTTP it comes with status 404, of which SDK 2.4 hands out the text alone.
  const unknownCode = unknown.data?.status === 404 ? JSON.parse(unknown.data.text).error.code : unknown.code;
  const missing = await refused(read('test://missing'));
  expect(missing.message.includes('Resource not found'), `the server's own words: ${missing}`);
  const tool = await refused(call('no-such-tool'));
  expect(tool.message.includes('no-such-tool'), `the server's own words: ${tool}`);
  return { unknown_method: unknownCode, missing_resource: missing.code, unknown_tool: tool.code };
}
