import { isUtf8 } from 'node:buffer';
import { hash } from 'node:crypto';
import type { Position } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { KeyTexts, Passed, RowPage, TableReader, Verification, VerifiedTable } from '../connect/verify.ts';
import { type BucketSum, createSums, type RowForm, rowForms } from './row-forms.ts';

/** One row of an answer: its key, its hash, and where asked for its values. */
export interface AnsweredRow {
  readonly key: KeyTexts;
  readonly hash: string;
  /** By column of the table: a short hash. */
  readonly columns?: readonly (string | null)[];
  /** The same columns as canonical texts, cut where they are long. */
  readonly values?: readonly (string | null)[];
}

/** What `sluice verify` asks of a connector's function: each question is one invocation, and one that does not come to its end says where it is. */
export type VerifyQuestion =
  | { readonly step: 'tables' }
  | { readonly step: 'describe'; readonly table: VerifiedTable }
  /** Counts and checksums of all buckets. */
  | { readonly step: 'sum'; readonly table: VerifiedTable; readonly after?: KeyTexts }
  /** Keys and hashes of the rows of some buckets. */
  | {
      readonly step: 'list';
      readonly table: VerifiedTable;
      readonly buckets: readonly number[];
      readonly after?: KeyTexts;
    }
  /** The rows of these keys, and a place in the log behind all that they hold. */
  | {
      readonly step: 'rows';
      readonly table: VerifiedTable;
      readonly keys: readonly KeyTexts[];
      readonly values: boolean;
    }
  | {
      readonly step: 'passed';
      readonly table: VerifiedTable;
      readonly position: unknown;
      readonly offsets: readonly Position<unknown>[];
    };

export interface VerifyAnswers {
  readonly tables: { readonly tables: readonly VerifiedTable[]; readonly ofChanges: boolean };
  readonly describe: Pick<TableReader, 'table' | 'ignored' | 'keeps'>;
  readonly sum: { readonly buckets: readonly BucketSum[]; readonly next?: KeyTexts };
  readonly list: { readonly rows: readonly AnsweredRow[]; readonly next?: KeyTexts };
  readonly rows: { readonly rows: readonly AnsweredRow[]; readonly position?: unknown };
  readonly passed: { readonly passed: Passed };
}

export type AnswerOf<Question extends VerifyQuestion> = VerifyAnswers[Question['step']];

/** An answer of Lambda is at most 6 MB of JSON. */
const maxAnswerBytes = 4 * 1024 * 1024;

/** `stop` ends a reading between two pages. */
export const answerTo = async (
  question: VerifyQuestion,
  verification: Verification,
  stop: AbortSignal,
): Promise<VerifyAnswers[VerifyQuestion['step']]> => {
  switch (question.step) {
    case 'tables':
      return { tables: await required(verification.tables)(), ofChanges: verification.ofChanges === true };
    case 'passed':
      return { passed: await required(verification.hasPassed)(question, question.offsets) };
    case 'describe': {
      const { table, ignored, keeps } = await verification.open(question.table);
      return { table, ignored, keeps };
    }
    case 'sum':
      return sum(await verification.open(question.table), question, stop);
    case 'list':
      return list(await verification.open(question.table), question, stop);
    case 'rows': {
      const forms = rowForms(question.table);
      const rows: AnsweredRow[] = [];
      const reader = await verification.open(question.table);
      for (const part of question.keys.length === 0 ? [] : await reader.lookUp(question.keys))
        for (const form of forms(part)) rows.push(rowOf(form, question.values));
      // Looked at when the rows are read: it is behind all that was visible in them.
      const position = await reader.position?.();
      return { rows, ...(position === undefined ? {} : { position }) };
    }
  }
};

const required = <T>(step: T | undefined): T => {
  if (step !== undefined) return step;
  throw new ConnectError('CONFIG_INVALID', 'this connector is no source whose rows can be compared');
};

/** Pages from a place on until the end, or until `take` has enough or the time is over; answers where to go on. */
const readPages = async (
  reader: TableReader,
  after: KeyTexts | undefined,
  stop: AbortSignal,
  take: (page: RowPage) => 'more' | 'enough',
): Promise<{ readonly next?: KeyTexts }> => {
  let at = after;
  for (;;) {
    const page = await reader.page(at);
    const taken = take(page);
    if (page.next === undefined) return {};
    at = page.next;
    if (taken === 'enough' || stop.aborted) return { next: at };
  }
};

const sum = async (
  reader: TableReader,
  { table, after }: Extract<VerifyQuestion, { step: 'sum' }>,
  stop: AbortSignal,
): Promise<VerifyAnswers['sum']> => {
  const forms = rowForms(table);
  const all = createSums();
  const next = await readPages(reader, after, stop, ({ parts }) => {
    for (const part of parts) for (const { bucket, hash } of forms(part)) all.add(bucket, hash);
    return 'more';
  });
  return { buckets: all.all(), ...next };
};

const list = async (
  reader: TableReader,
  { table, buckets, after }: Extract<VerifyQuestion, { step: 'list' }>,
  stop: AbortSignal,
): Promise<VerifyAnswers['list']> => {
  const forms = rowForms(table);
  const wanted = new Set(buckets);
  const rows: AnsweredRow[] = [];
  let bytes = 0;
  const next = await readPages(reader, after, stop, ({ parts }) => {
    for (const part of parts)
      for (const form of forms(part)) {
        if (!wanted.has(form.bucket)) continue;
        const row = { key: form.key(), hash: form.hash.toString('hex') };
        bytes += JSON.stringify(row).length;
        rows.push(row);
      }
    return bytes < maxAnswerBytes / 2 ? 'more' : 'enough';
  });
  return { rows, ...next };
};

const rowOf = (form: RowForm, withValues: boolean): AnsweredRow => {
  const values = form.values();
  const each = (read: (bytes: Buffer) => string) => values.map((bytes) => (bytes === null ? null : read(bytes)));
  return {
    key: form.key(),
    hash: form.hash.toString('hex'),
    columns: each(shortHash),
    ...(withValues ? { values: each(shown) } : {}),
  };
};

const shortHash = (bytes: Buffer): string => hash('sha256', bytes, 'hex').slice(0, 16);

/** More of one value than this helps nobody, and a thousand rows have to fit an answer. */
const shownCharacters = 200;

const shown = (bytes: Buffer): string => {
  const text = isUtf8(bytes) ? bytes.toString() : `0x${bytes.toString('hex')}`;
  return text.length <= shownCharacters ? text : `${text.slice(0, shownCharacters)}… (${bytes.length} bytes)`;
};
