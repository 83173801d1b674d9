import * as z from 'zod';
import { isGlob, parseS3, pathProblem } from './path-config.ts';

const partitionPattern = /^(?:(?:year|month|day|hour)\(([^()]*)\)|[^()]+)$/;

/** The directory name of a partition: `day(created_at)` makes `day=…`. */
const directoryName = (partition: string): string => partition.replace(/\(.*$/, '');

const prefixProblem = (path: string): string | undefined => {
  if (isGlob(path)) return `a wildcard is no place to write to; correct ${path}`;
  return path.endsWith('/') ? undefined : `end it with a slash: ${path}/ is where the objects go`;
};

export const FileSinkConfig = z
  .strictObject({
    path: z
      .string()
      .min(1)
      .superRefine((path, ctx) => {
        const wrong = pathProblem(path) ?? (parseS3(path) === undefined ? undefined : prefixProblem(path));
        if (wrong !== undefined) ctx.addIssue({ code: 'custom', message: wrong });
      })
      .describe(
        'The directory that the files go to, made when it does not exist, or `s3://bucket/prefix/`. It gets one directory per topic.',
      ),
    format: z
      .enum(['jsonl', 'csv', 'parquet', 'text'])
      .default('jsonl')
      .describe(
        'jsonl: one JSON object per line. csv: RFC 4180 (LF), with a header line. parquet: typed columns. text: values that are plain strings, one per line.',
      ),
    compression: z
      .enum(['none', 'gzip', 'snappy'])
      .optional()
      .describe('jsonl, csv and text: none or gzip, none if left out. parquet: none or snappy, snappy if left out.'),
    partitionBy: z
      .array(z.string().regex(partitionPattern, 'expected a field, or year(), month(), day() or hour() of one'))
      .default([])
      .describe(
        'Directories below the topic, in Hive style. `country` is a field: country=DE/. year(), month(), day() and hour() are parts of the record timestamp: day=2024-02-29/; day(created_at) is one of a declared date or timestamp field.',
      ),
  })
  .refine(({ format, compression }) => compression !== (format === 'parquet' ? 'gzip' : 'snappy'), {
    path: ['compression'],
    error: 'snappy goes with parquet, gzip with the other formats',
  })
  .refine(({ partitionBy }) => new Set(partitionBy.map(directoryName)).size === partitionBy.length, {
    path: ['partitionBy'],
    error: 'two partitions would have one directory name',
  });

export type FileSinkConfig = z.output<typeof FileSinkConfig>;
