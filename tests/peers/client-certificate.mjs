// Loaded with `node --import` before a program that offers no client certificate of its own: Node's fetch presents
// $PEER_CERT with $PEER_KEY, and trusts what $NODE_EXTRA_CA_CERTS adds.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { setGlobalDispatcher, Agent } = createRequire(`${process.env.MCP_BRIDGE_PEERS}/package.json`)('undici');
const connect = { cert: readFileSync(process.env.PEER_CERT), key: readFileSync(process.env.PEER_KEY) };
setGlobalDispatcher(new Agent({ connect }));
