// Real use of the reference servers: everything URL…, or filesystem --dir DIR URL…. Prints one line of JSON. Options: lib.mjs.
import { readFileSync } from 'node:fs';
import { connect, expect, options, run } from './lib.mjs';

const [which, ...rest] = process.argv.slice(2);
const opts = options(rest);
const uses = { everything, filesystem };

await run(async () => {
  const peer = await connect(opts, 'servers');
  const report = await uses[which](peer);
  await peer.transport.terminateSession?.();
  await peer.client.close();
  return { server: peer.client.getServerVersion().name, ...report };
});

async function everything({ client, call }) {
  const { tools } = await client.listTools();
  const text = async (tool, args, callOptions) => (await call(tool, args, callOptions)).content.map((part) => part.text ?? '').join('\n');

  expect((await text('echo', { message: 'hello' })).includes('hello'), 'echo');
  expect((await text('get-sum', { a: 19, b: 23 })).includes('42'), 'get-sum');
  expect((await text('trigger-sampling-request', { prompt: 'why?' })).includes('sampled: '), 'sampling reaches the client and comes back');
  expect((await text('trigger-elicitation-request', {})).includes('answer to '), 'elicitation reaches the client and comes back');
  expect((await text('get-roots-list', {})).includes('file:///fixture'), 'the server knows the roots of the client');

  const steps = [];
  const onprogress = ({ progress }) => { steps.push(progress); };
  const done = await text('trigger-long-running-operation', { duration: 1, steps: 4 }, { onprogress });
  expect(done.includes('completed'), `the long operation ends: ${done}`);
  // The last step leaves the server together with the result, and this SDK may drop it then.
  expect(steps.slice(0, 3).join() === '1,2,3', `progress of the long operation: ${steps}`);

  const image = await call('get-tiny-image');
  expect(image.content.some((part) => part.type === 'image' && part.data.length > 100), 'an image');
  const { resources } = await client.listResources();
  const { contents } = await client.readResource({ uri: resources[0].uri });
  expect(contents.length === 1, 'a resource');
  const { prompts } = await client.listPrompts();
  const { messages } = await client.getPrompt({ name: prompts[0].name });
  expect(messages.length > 0, 'a prompt');
  return { tools: tools.length, resources: resources.length, prompts: prompts.length, progress: steps.length };
}

async function filesystem({ client, call }) {
  const { tools } = await client.listTools();
  const text = async (tool, args) => {
    const result = await call(tool, args);
    expect(!result.isError, `${tool}: ${JSON.stringify(result)}`);
    return result.content[0].text;
  };
  expect((await text('list_allowed_directories', {})).includes(opts.dir), 'the directory is allowed');
  const path = `${opts.dir}/through the bridge.txt`;
  const content = 'línea 1\nline 2\n'.repeat(10_000);
  await text('write_file', { path, content });
  expect(readFileSync(path, 'utf8') === content, 'the file on disk');
  expect((await text('read_text_file', { path })).trimEnd() === content.trimEnd(), 'the file read back');
  expect((await text('list_directory', { path: opts.dir })).includes('through the bridge.txt'), 'the listing');
  const outside = await call('read_text_file', { path: '/etc/hostname' });
  expect(outside.isError, 'a path outside is refused by the server');
  return { tools: tools.length, bytes: Buffer.byteLength(content) };
}
