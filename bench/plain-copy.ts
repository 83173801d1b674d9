import { createReadStream, createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';

/**
 * `node bench/plain-copy.ts INPUT OUTPUT [parse]`: copies a file through zstd, as the log compresses, and back; with `parse` each line is
 * made an object and text again. Prints the CPU seconds and the memory that it took.
 */
const [input = '', output = '', parse] = process.argv.slice(2);
const highWaterMark = 1 << 20;
const params = { [constants.ZSTD_c_compressionLevel]: 1 };

async function* parsed(): AsyncGenerator<string> {
  let lines: string[] = [];
  for await (const line of createInterface({ input: createReadStream(input, { highWaterMark }) })) {
    lines.push(JSON.stringify(JSON.parse(line)));
    if (lines.length < 1_000) continue;
    yield `${lines.join('\n')}\n`;
    lines = [];
  }
  if (lines.length > 0) yield `${lines.join('\n')}\n`;
}

await pipeline(
  parse === undefined ? createReadStream(input, { highWaterMark }) : Readable.from(parsed()),
  createZstdCompress({ params, chunkSize: highWaterMark }),
  createZstdDecompress({ chunkSize: highWaterMark }),
  createWriteStream(output, { highWaterMark }),
);
const { user, system } = process.cpuUsage();
console.log(JSON.stringify({ cpu: (user + system) / 1e6, rssMb: process.resourceUsage().maxRSS >> 10 }));
