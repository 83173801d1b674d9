import { appendFile } from 'node:fs/promises';
import { defineSink } from 'sluice/connect/connector';
import * as z from 'zod';

/** As a newcomer writes it: record by record, as JSON lines. */
export default defineSink({
  type: 'lines',
  config: z.strictObject({ path: z.string() }),
  delivery: 'at-least-once',
  open: async ({ config: { path } }) => ({
    async put(batch) {
      const lines: string[] = [];
      for (const { value } of batch) lines.push(`${JSON.stringify(value)}\n`);
      await appendFile(path, lines.join(''));
      return { committed: false };
    },
    async close() {},
  }),
});
