import * as z from 'zod';
import { type FieldTypeText, parseFieldType } from './field-type.ts';
import { isGlob, parseS3, pathProblem, topicOf } from './path-config.ts';

export const fileFormats = ['jsonl', 'json', 'csv', 'text'] as const;
export type FileFormat = (typeof fileFormats)[number];

/** The format that a file's name says, also behind `.gz`. */
export const formatOf = (path: string): FileFormat => {
  const extension = /\.([^./\\]+)$/.exec(path.replace(/\.gz$/i, ''))?.[1]?.toLowerCase();
  if (extension === 'jsonl' || extension === 'ndjson') return 'jsonl';
  if (extension === 'csv' || extension === 'tsv') return 'csv';
  return extension === 'json' ? 'json' : 'text';
};

const checkFieldType = (text: FieldTypeText, ctx: z.RefinementCtx) => {
  const parsed = parseFieldType(text);
  if (typeof parsed === 'string') ctx.addIssue({ code: 'custom', message: parsed });
};

const FieldTypeSchema = z.union(
  [
    z.string().superRefine(checkFieldType),
    z.strictObject({ type: z.string(), format: z.string().min(1) }).superRefine(checkFieldType),
  ],
  { error: 'expected a type such as "int32?", or { type, format }' },
);

const fields = z.record(z.string().min(1), FieldTypeSchema).default({});

export const FileSourceConfig = z
  .strictObject({
    path: z
      .string()
      .min(1)
      .describe(
        'A file, a directory (`data/`: every file below it) or a glob (`data/*.jsonl`), relative to the working directory; or the same on S3: `s3://bucket/in/`.',
      ),
    format: z
      .enum(fileFormats)
      .optional()
      .describe('`jsonl`, `json` (one array of records), `csv` or `text`. Default: by extension, also behind `.gz`.'),
    topic: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,200}$/, 'a topic is 1 to 200 of the characters A-Z a-z 0-9 . _ -')
      .optional()
      .describe('Default: the name of the file without its extensions, or of the directory. A glob needs it.'),
    keyFields: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe('The key is a struct of these fields. Default: records have no key.'),
    fields: fields.describe('Types of fields: `int32`, `decimal(15,2)?`, `{ type: date, format: MMM d yyyy }`.'),
    delimiter: z
      .string()
      .regex(/^[\t\x20\x21\x23-\x7e]$/, 'one ASCII character that is no quote and no line end')
      .optional()
      .describe('CSV: between fields. Default: a comma, a tab for `.tsv`.'),
    header: z
      .union([z.literal(true), z.array(z.string().min(1)).min(1, 'expected true or a list of names')], {
        error: 'expected true or a list of names',
      })
      .optional()
      .describe('CSV: true, the first line names the columns (the default), or the list of their names.'),
    null: z
      .string()
      .optional()
      .describe(
        'CSV: the unquoted text that means null. Default: the empty one, for fields declared as anything but string.',
      ),
    follow: z
      .boolean()
      .default(false)
      .describe('For growing files: a last line without a newline waits for the rest of it, instead of counting.'),
    encoding: z.literal('utf-8').default('utf-8').describe('Only utf-8.'),
    slice: z
      .strictObject({ index: z.int().nonnegative(), of: z.int().positive() })
      .optional()
      .describe('Internal: which part of the files a task reads. Set by the platform, not by hand.'),
  })
  .superRefine((config, ctx) => {
    const problem = (path: string, message: string) => ctx.addIssue({ code: 'custom', path: [path], message });
    const format = config.format ?? formatOf(config.path);
    if (isGlob(config.path) && config.topic === undefined)
      problem('topic', 'a glob matches many files; say which topic they go to');
    if (!isGlob(config.path) && config.topic === undefined && topicOf(config.path) === '')
      problem('topic', `no topic name can be made of ${config.path}; give one`);
    const wrong = pathProblem(config.path);
    if (wrong !== undefined) problem('path', wrong);
    if (config.follow && parseS3(config.path) !== undefined)
      problem('follow', 'an object on S3 never grows: it is whole when it appears; leave `follow` out');
    if (format === 'text')
      for (const key of ['fields', 'keyFields'] as const)
        if (Object.keys(config[key] ?? {}).length > 0)
          problem(key, 'a line of text has no fields; set format to jsonl, json or csv');
    if (format !== 'csv')
      for (const key of ['delimiter', 'header', 'null'] as const)
        if (config[key] !== undefined) problem(key, `is for csv; the format is ${format}`);
  });

export type FileSourceConfig = z.output<typeof FileSourceConfig>;

const count = z.int().nonnegative();

/** A place in a file. Stored: a change of its shape needs a reader for this one. */
export const FileOffset = z.strictObject({
  position: count.describe('Bytes of uncompressed content up to the end of the record.'),
  line: count.describe('Line ends passed so far.'),
  identity: z
    .union([
      z.strictObject({
        head: z.string().describe('The first 16 hex digits of the sha256 of the first `bytes` bytes.'),
        bytes: count,
        inode: count,
      }),
      z.strictObject({ etag: z.string(), size: count }).describe('An object on S3: it never changes.'),
    ])
    .describe('Which file it is: a path can come to name another one.'),
  end: z
    .strictObject({ size: count, mtimeMs: z.number().optional() })
    .optional()
    .describe(
      'The file was read to its end when it had this size as stored and this time (objects have none): unchanged, it is not opened again.',
    ),
});

export type FileOffset = z.output<typeof FileOffset>;
