import type { RowDataPacket } from 'mysql2/promise';
import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

/** Codes of one byte, and each fifth one of two. */
const codesOf = (bytes: number): string[] => {
  const codes = Array.from({ length: 255 }, (_, i) => (i + 1).toString(16).padStart(2, '0'));
  if (bytes > 1)
    for (let i = 0x81; i < 0xff; i++)
      for (let j = 0x40 + (i % 5); j < 0xff; j += 5) codes.push(i.toString(16) + j.toString(16));
  return codes;
};

describe.each(['mariadb', 'mysql'] as const)('character sets of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  test('a text of the binlog has the characters that the server says, or is refused', async () => {
    const name = await database();
    const [sets] = await run(
      "SELECT CHARACTER_SET_NAME AS name, MAXLEN AS bytes FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary'",
    );
    const charsets = (sets as RowDataPacket[]).map(({ name: charset, bytes }) => ({
      charset: String(charset),
      bytes: Number(bytes),
    }));
    await run(
      `SET sql_mode = ''; CREATE TABLE t (id int PRIMARY KEY, ${charsets.map(({ charset }) => `${charset} varchar(4) CHARACTER SET ${charset} NULL`).join()})`,
    );
    let id = 0;
    for (const { charset, bytes } of charsets) {
      const isWide = /ucs2|utf16|utf32/.test(charset);
      const codes = /^utf8/.test(charset) ? ['41', 'c3a4'] : isWide ? [] : codesOf(bytes);
      const rows = [
        ...codes.map((code) => `(${id++}, CONVERT(x'${code}' USING ${charset}))`),
        `(${id++}, 'a'), (${id++}, 'ä')`,
      ];
      for (let at = 0; at < rows.length; at += 1000)
        await run(`INSERT INTO t (id, ${charset}) VALUES ${rows.slice(at, at + 1000).join()}`);
    }
    const [told] = await run(
      `SELECT id, ${charsets.map(({ charset }) => `CONVERT(${charset} USING utf8mb4) AS ${charset}`).join()} FROM t`,
    );
    // What is no character of its set is a question mark to the server.
    const isText = (row: RowDataPacket) => charsets.every(({ charset }) => !String(row[charset]).includes('?'));
    const rows = new Map((told as RowDataPacket[]).filter(isText).map((row) => [row.id as number, row]));

    const source = fixture({ tables: [`${name}.t`], snapshotMode: 'never' });
    const { withTask, pollOnce, advance } = createRunner({ ...source, expected: [] } as SourceFixture);
    const wrong: string[] = [];
    const refused = new Map<string, number>();
    await withTask(async (task) => {
      const offsets: OffsetMap = new Map();
      for (let isDone = false; !isDone; ) {
        const {
          batch,
          rejected = [],
          offsets: moved,
          caughtUp,
        } = await pollOnce(task, offsets, { maxRecords: 10_000 });
        for (const { raw, error } of rejected) {
          const { id: of } = JSON.parse(Buffer.from(raw!).toString()) as { id: number };
          if (!rows.has(of)) continue;
          const [charset = ''] = Object.entries(rows.get(of)!).find(([at, value]) => at !== 'id' && value !== null)!;
          expect(error.message).toMatch(/CONVERT TO CHARACTER SET utf8mb4/);
          refused.set(charset, (refused.get(charset) ?? 0) + 1);
        }
        for (const { value } of batch) {
          const after = (value as Struct).after as Struct;
          for (const [charset, text] of Object.entries(rows.get(after.id as number) ?? {}))
            if (after[charset] !== text) wrong.push(`${charset} ${text} is ${String(after[charset])}`);
        }
        advance(offsets, moved);
        isDone = caughtUp;
      }
    });
    expect(wrong.slice(0, 20)).toEqual([]);
    expect(
      [...refused.keys()].filter((charset) => /^(utf|ucs|latin|cp125|cp85|koi8r|macce|ascii)/.test(charset)),
    ).toEqual([]);
    expect(rows.size).toBeGreaterThan(20_000);
  });
});
