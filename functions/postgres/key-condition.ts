import type { KeyTexts } from '../../shared/connect/verify.ts';
import { keyCondition } from '../../shared/sql/verify.ts';
import { literal, quote } from './client.ts';
import type { RowField } from './table-layout.ts';

/** The condition that finds the row of a key; undefined where none can have it. */
export const conditionOf = (fields: readonly Pick<RowField, 'name' | 'type'>[], texts: KeyTexts): string | undefined =>
  keyCondition(fields, texts, ({ name, type }, text, form) => {
    // A text in quotes is read as the column's type: a boolean needs it, and an integer would refuse what is too large for it.
    const isNumber = form === 'number' && type.schema.type !== 'boolean';
    const value = form === 'bytes' ? `\\x${Buffer.from(text, 'latin1').toString('hex')}` : text;
    return `${quote(name)} = ${isNumber ? `(${text})` : literal(value)}`;
  });
