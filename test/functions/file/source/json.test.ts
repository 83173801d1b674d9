import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { FileOffset } from '../../../../functions/file/source-config.ts';
import { type BytesColumn, MISSING, NULL } from '../../../../shared/connect/batch.ts';
import type { Poll } from '../../../../shared/connect/connector.ts';
import { parseJson } from '../../../../shared/connect/json.ts';
import { inDirectory, offsetsOf, openSource, readContent } from './kit.ts';

const signal = new AbortController().signal;

const pollContent = (name: string, content: string, look: (poll: Poll<FileOffset>) => void) =>
  inDirectory(async (directory) => {
    const path = join(directory, name);
    await writeFile(path, content);
    const task = await openSource({ path });
    look(await task.poll(offsetsOf(new Map()), { maxRecords: 100, maxBytes: 1e6, signal }));
    await task.close();
  });

const key = fc.constantFrom('id', 'name', 'a"b', 'é', '__proto__', 'toString', '', 'x\\y', 'long'.repeat(20));
const member = fc.tuple(key, fc.jsonValue({ maxDepth: 2 }));
const space = fc.constantFrom('', '', ' ', '\t');
/** Objects in the writing of many producers: other orders, absent and repeated keys, escaped keys, space anywhere. */
const object = fc.tuple(fc.array(member, { maxLength: 6 }), space, fc.boolean()).map(([members, gap, escaped]) => {
  const name = (text: string) =>
    escaped && text.length > 0
      ? `"\\u${text.charCodeAt(0).toString(16).padStart(4, '0')}${JSON.stringify(text.slice(1)).slice(1)}`
      : JSON.stringify(text);
  return `{${members.map(([k, v]) => `${gap}${name(k)}${gap}:${gap}${JSON.stringify(v)}`).join(`${gap},`)}${gap}}`;
});
const cut = fc.tuple(object, fc.nat()).map(([text, at]) => text.slice(0, 1 + (at % (text.length - 1))));

describe('JSON lines', () => {
  test('any objects come as JSON.parse reads them, and what it refuses is a row error', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ weight: 6, arbitrary: object }, cut), { minLength: 1, maxLength: 30 }),
        fc.constantFrom('\n', '\r\n', '\n\n \n'),
        fc.integer({ min: 1, max: 12 }),
        async (lines, lineEnd, maxRecords) => {
          const { values, errors, raws } = await readContent('in.jsonl', lines.join(lineEnd), {}, { maxRecords });
          const good: unknown[] = [];
          const bad: string[] = [];
          for (const line of lines) {
            try {
              good.push(parseJson(line));
            } catch {
              bad.push(line);
            }
          }
          expect(values).toEqual(good);
          expect(raws.map((raw) => Buffer.from(raw, 'latin1').toString().trim())).toEqual(
            bad.map((line) => line.trim()),
          );
          expect(errors).toHaveLength(bad.length);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('undeclared values keep their text, lie one behind the other, and tell null from missing', async () => {
    const text = '{"a":1.50,"b":{"x" : 1}}\n{"b":null,"a":12345678901234567890}\n{"a":"\\u0041"}\n';
    await pollContent('in.jsonl', text, ({ batch }) => {
      const [a, b] = batch.groups[0]!.value.columns as BytesColumn[];
      const texts = (c: BytesColumn) =>
        Array.from(c.starts, (s, i) => Buffer.from(c.data.subarray(s, c.ends[i])).toString());
      expect(texts(a!)).toEqual(['1.50', '12345678901234567890', '"\\u0041"']);
      expect(texts(b!)[0]).toBe('{"x" : 1}');
      expect([...b!.state!]).toEqual([0, NULL, MISSING]);
      expect(a!.state).toBeUndefined();
      for (const { starts, ends } of [a!, b!]) expect([...starts.subarray(1)]).toEqual([...ends.subarray(0, -1)]);
      expect([...batch].map(({ value }) => value)).toEqual([
        { a: 1.5, b: { x: 1 } },
        { a: 12345678901234567890n, b: null },
        { a: 'A' },
      ]);
    });
  });

  test('the schema object stays the same from batch to batch until a field is new', async () => {
    await inDirectory(async (directory) => {
      const path = join(directory, 'in.jsonl');
      await writeFile(path, '{"a":1,"b":2}\n{"b":3}\n{"a":1}\n{"c":1}\n');
      const task = await openSource({ path });
      const stands = new Map();
      const schemas = [];
      for (let i = 0; i < 4; i++) {
        const poll = await task.poll(offsetsOf(stands), { maxRecords: 1, maxBytes: 1e6, signal });
        schemas.push(poll.batch.groups[0]!.value.schema);
        for (const one of poll.offsets) stands.set(one.partition.file, one);
      }
      await task.close();
      expect(schemas[1]).toBe(schemas[0]);
      expect(schemas[2]).toBe(schemas[0]);
      expect(schemas[3]).toMatchObject({ fields: [{ name: 'a' }, { name: 'b' }, { name: 'c' }] });
    });
  });

  test('a line that does not parse names no columns', async () => {
    await pollContent('in.jsonl', '{"a":1}\n{"typo":1,\n{"a":2}\n', ({ batch, rejected }) => {
      expect(batch.groups[0]!.value.columns.map(({ name }) => name)).toEqual(['a']);
      expect(rejected).toHaveLength(1);
    });
  });

  test('values that are no objects are a group of their own, in order', async () => {
    const { values } = await readContent('in.jsonl', '{"a":1}\n5\n[1,2]\nnull\n{"a":2}\n"x"\n');
    expect(values).toEqual([{ a: 1 }, 5, [1, 2], null, { a: 2 }, 'x']);
    const typed = await readContent('in.jsonl', '{"a":1}\n5\n[1,2]\n{"a":2}', { fields: { a: 'int32' } });
    expect(typed.values).toEqual([{ a: 1 }, { a: 2 }]);
    expect(typed.errors).toEqual([
      'in.jsonl:2: expected an object with the declared fields, got 5',
      'in.jsonl:3: expected an object with the declared fields, got [1,2]',
    ]);
    expect(typed.indices).toEqual([1, 1]);
  });

  test('ever new keys do not make the table wider for ever', async () => {
    const rows = Array.from({ length: 40 }, (_, r) =>
      Object.fromEntries(Array.from({ length: 100 }, (_, c) => [`k${r}-${c}`, c])),
    );
    const content = rows.map((row) => JSON.stringify(row)).join('\n');
    await pollContent('in.jsonl', content, ({ batch }) => {
      for (const { value } of batch.groups) expect(value.columns.length).toBeLessThanOrEqual(1_100);
    });
    expect((await readContent('in.jsonl', content)).values).toEqual(rows);
  });

  test('bytes that are no UTF-8 are a row error', async () => {
    const bytes = Buffer.concat([
      Buffer.from('{"a":"x"}\n{"a":"'),
      Buffer.from([0xff]),
      Buffer.from('"}\n{"a":"y"}\n'),
    ]);
    const { values, errors, raws } = await readContent('in.jsonl', bytes);
    expect(values).toEqual([{ a: 'x' }, { a: 'y' }]);
    expect(errors).toEqual(['in.jsonl:2: bytes that are no UTF-8']);
    expect(raws).toEqual(['{"a":"\xff"}']);
  });

  test('a byte order mark is no content', async () => {
    const read = async (name: string, content: string) => {
      const { values, errors } = await readContent(name, content);
      return { values, errors };
    };
    // What memory held before is no content either.
    vi.spyOn(Buffer, 'allocUnsafe').mockImplementation((size) => Buffer.alloc(size, '\n'));
    onTestFinished(() => void vi.restoreAllMocks());
    expect(await read('in.jsonl', '\ufeff{"a":1}\n')).toEqual({ values: [{ a: 1 }], errors: [] });
    expect(await read('in.json', '\ufeff[{"a":1},2]')).toEqual({ values: [{ a: 1 }, 2], errors: [] });
    expect(await read('in.csv', '\ufeffa\n1\n')).toEqual({ values: [{ a: '1' }], errors: [] });
    expect(await read('in.txt', '\ufeffa\nb')).toEqual({ values: ['a', 'b'], errors: [] });
  });

  test('a record larger than the budget passes alone', async () => {
    const rows = [{ a: 1 }, { a: 'x'.repeat(3_000_000) }, { a: 2 }, { a: 'y'.repeat(200_000) }, { a: 3 }];
    const { values } = await readContent(
      'in.jsonl',
      rows.map((row) => JSON.stringify(row)).join('\n'),
      {},
      { maxBytes: 1000 },
    );
    expect(values).toEqual(rows);
  });
});

describe('a JSON array', () => {
  test('elements in any layout, whatever the budget', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            object.map((text) => text.replaceAll('\t', '\n')),
            fc.constantFrom('1', '-0.5', '[]', '"]"', 'null'),
          ),
          {
            maxLength: 12,
          },
        ),
        fc.constantFrom('', ' ', '\n', '\r\n  '),
        fc.integer({ min: 1, max: 5 }),
        async (elements, gap, maxRecords) => {
          const text = `${gap}[${elements.map((element) => gap + element + gap).join(',')}${gap}]${gap}`;
          expect((await readContent('in.json', text, {}, { maxRecords })).values).toEqual(parseJson(text));
        },
      ),
      { numRuns: 100 },
    );
  });

  test('a nested value has no line ends, so that it fits on one line', async () => {
    await pollContent('in.json', JSON.stringify([{ a: { b: [1, 'x\n'] } }], null, 2), ({ batch }) => {
      const column = batch.groups[0]!.value.columns[0] as BytesColumn;
      const text = Buffer.from(column.data.subarray(column.starts[0], column.ends[0])).toString();
      expect(text).not.toContain('\n');
      expect(JSON.parse(text)).toEqual({ b: [1, 'x\n'] });
    });
  });

  test.each([
    ['{"a":1}\n{"a":2}', 'in.json:1: it starts with {, not [; for one record a line set format to jsonl, at byte 0'],
    ['[{"a":1},\n{"a":2}', 'in.json:2: the file ends before its array'],
    ['[{"a":1},\n{"a":x}]', 'in.json:2: not JSON'],
    ['[{"a":1}\n{"a":2}]', 'in.json:2: expected a comma or the end of the array'],
    ['[{"a":1}]\n[]', 'in.json:2: there is more after the end of the array'],
    ['[{"a":1},]', 'in.json:1: not JSON'],
  ])('%j is corrupt, after the records before it', async (content, message) => {
    await inDirectory(async (directory) => {
      const path = join(directory, 'in.json');
      await writeFile(path, content);
      const task = await openSource({ path });
      const stands = new Map();
      const poll = () => task.poll(offsetsOf(stands), { maxRecords: 10, maxBytes: 1e6, signal });
      if (content.startsWith('[')) {
        const first = await poll();
        expect([...first.batch].map(({ value }) => value)[0]).toEqual({ a: 1 });
        expect(first.caughtUp).toBe(false);
        for (const one of first.offsets) stands.set(one.partition.file, one);
      }
      await expect(poll()).rejects.toMatchObject({
        code: 'CORRUPT',
        blame: 'system',
        message: expect.stringContaining(message),
      });
      await task.close();
    });
  });

  test('a misfit element is a row error with the line it begins on', async () => {
    const content = '[\n {"a": {"deep":\n 1}, "n": 1},\n {"a": 2,\n "n": "x"},\n 5,\n {"a": 3, "n": 3}\n]';
    const { values, errors } = await readContent('in.json', content, { fields: { n: 'int32' } });
    expect(values).toEqual([
      { n: 1, a: { deep: 1 } },
      { n: 3, a: 3 },
    ]);
    expect(errors).toEqual([
      'in.json:4: n: expected int32, got "x"',
      'in.json:6: expected an object with the declared fields, got 5',
    ]);
  });
});
