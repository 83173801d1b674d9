import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A wire between a client and a server that can be cut when the server has sent its n-th packet, with or without that packet. */
export const createWire = async (port: number) => {
  let packets = 0;
  let cutAt = Number.POSITIVE_INFINITY;
  const sockets = new Set<Socket>();
  const proxy: Server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    const cut = () => {
      client.destroy();
      upstream.destroy();
    };
    client.on('data', (data) => upstream.write(data)).on('close', cut);
    upstream
      .on('data', (data) => {
        packets++;
        if (packets >= cutAt) cut();
        else client.write(data);
      })
      .on('close', cut);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as { port: number }).port,
    cutAfter(more: number) {
      packets = 0;
      cutAt = more;
    },
    /** Whether the wire was cut since. */
    wasCut: () => packets >= cutAt,
    async close() {
      for (const socket of sockets) socket.destroy();
      proxy.close();
      await once(proxy, 'close');
    },
  };
};
