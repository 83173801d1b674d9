import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { defineSource, pollOf, type SourceRecord } from 'sluice/connect/connector';
import * as z from 'zod';

const Offset = z.strictObject({ line: z.number().int() });

/** As a newcomer writes it: a file of JSON lines, an object per record. It keeps its place between polls, and starts over for another. */
export default defineSource({
  type: 'lines',
  config: z.strictObject({ path: z.string(), topic: z.string() }),
  offset: Offset,
  replay: 'exact',
  topics: ({ topic }) => [topic],
  async open({ config: { path, topic } }) {
    const partition = { path };
    let at = -1;
    let lines: AsyncIterator<string> | undefined;
    const openAt = async (line: number) => {
      lines = createInterface({ input: createReadStream(path) })[Symbol.asyncIterator]();
      for (at = 0; at < line; at++) await lines.next();
      return lines;
    };
    return {
      async poll(offsets, budget) {
        const after = offsets.get(partition)?.line ?? 0;
        const reading = lines !== undefined && at === after ? lines : await openAt(after);
        const records: SourceRecord<z.output<typeof Offset>>[] = [];
        let bytes = 0;
        while (records.length < budget.maxRecords && bytes < budget.maxBytes) {
          const { done, value: line } = await reading.next();
          if (done) return pollOf(records, { caughtUp: true });
          bytes += line.length;
          records.push({ topic, value: JSON.parse(line), partition, offset: { line: ++at } });
        }
        return pollOf(records, { caughtUp: false });
      },
      async close() {
        await lines?.return?.();
      },
    };
  },
});
