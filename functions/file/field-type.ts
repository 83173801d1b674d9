import { type PrimitiveSchema, primitiveTypes } from '../../shared/connect/schema.ts';
import { compileDatePattern, type DatePattern, type PatternType } from './date-pattern.ts';

/** A declared field: `int32`, `decimal(15,2)?`, or with a date pattern `{ type: 'date', format: 'MMM d yyyy' }`. */
export type FieldTypeText = string | { readonly type: string; readonly format: string };

export interface FieldType {
  readonly schema: PrimitiveSchema;
  readonly pattern?: DatePattern;
}

const form = /^([a-z0-9]+)(?:\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?(?:\s+(local))?\s*(\?)?$/;

/** The type that a text means; a text answer says why it means none. */
export const parseFieldType = (text: FieldTypeText): FieldType | string => {
  const schema = parseType(typeof text === 'string' ? text : text.type);
  if (typeof schema === 'string' || typeof text === 'string') return typeof schema === 'string' ? schema : { schema };
  const type = schema.type === 'timestamp' && schema.local ? 'timestamp local' : schema.type;
  if (!isPatternType(type)) return `format is for date, time and timestamp, not for ${type}`;
  const pattern = compileDatePattern(text.format, type);
  return typeof pattern === 'string' ? `format "${text.format}": ${pattern}` : { schema, pattern };
};

const isPatternType = (type: string): type is PatternType =>
  type === 'date' || type === 'time' || type === 'timestamp' || type === 'timestamp local';

const parseType = (text: string): PrimitiveSchema | string => {
  const match = form.exec(text.trim());
  const [, name = '', precision, scale, local, optional] = match ?? [];
  const type = primitiveTypes.find((one) => one === name);
  if (type === undefined)
    return `"${text}" is no type; use ${primitiveTypes.join(', ')}, decimal(15,2), timestamp local, each with ? where it may be null or missing`;
  if (precision !== undefined && type !== 'decimal') return `"${text}": only decimal has a precision`;
  if (local !== undefined && type !== 'timestamp') return `"${text}": only timestamp can be local`;
  const digits = Number(precision);
  if (precision !== undefined && (digits < 1 || Number(scale ?? 0) > digits))
    return `"${text}": the precision is at least 1 and at least the scale`;
  return {
    type,
    ...(precision === undefined ? {} : { precision: digits, scale: Number(scale ?? 0) }),
    ...(local === undefined ? {} : { local: true }),
    ...(optional === undefined ? {} : { optional: true }),
  };
};
