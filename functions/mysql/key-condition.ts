import type { KeyTexts } from '../../shared/connect/verify.ts';
import { keyCondition } from '../../shared/sql/verify.ts';
import { literal, quote } from './client.ts';
import type { SourceColumn } from './row-schema.ts';

/** The condition that finds the row of a key; undefined where none can have it. */
export const conditionOf = (columns: readonly SourceColumn[], texts: KeyTexts): string | undefined =>
  keyCondition(columns, texts, ({ name }, text, form) => {
    const value =
      form === 'number' ? text : form === 'bytes' ? `x'${Buffer.from(text, 'latin1').toString('hex')}'` : literal(text);
    return `${quote(name)} = ${value}`;
  });
