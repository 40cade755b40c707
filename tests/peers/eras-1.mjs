// The TypeScript SDK 1.x as a client of server-1.mjs or server-2.mjs; prints one line of JSON. Options: lib.mjs.
import { connect, eventually, expect, run, types } from './lib.mjs';
import { use } from './eras.mjs';

await run(async (opts) => {
  const { client, call } = await connect(opts, 'typescript-1');
  const updates = [];
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, ({ params }) => { updates.push(params.uri); });
  const report = await use({
    call,
    list: () => client.listTools(),
    read: (uri) => client.readResource({ uri }),
    request: (method) => client.request({ method }, types.ResultSchema),
    hear: async (uri, change) => {
      await client.subscribeResource({ uri });
      await change();
      await eventually(() => updates.includes(uri), 'the update of a resource');
      await client.unsubscribeResource({ uri });
    }
  });
  expect(client.getServerVersion().name.startsWith('peer-'), 'the name of the server');
  await client.close();
  return { client: 'typescript-1', ...report };
});
