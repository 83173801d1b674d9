import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

const host = '127.0.0.1';

/** Has a server take connections of this machine, on a port that is free. */
export const listen = async (server: Server): Promise<number> => {
  server.listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error(`no TCP port on ${host}`);
  return address.port;
};

/** For a program that has to be told its port. Another one may be quicker. */
export const freePort = async (): Promise<number> => {
  const server = createServer();
  const port = await listen(server);
  const closed = once(server, 'close');
  server.close();
  await closed;
  return port;
};
