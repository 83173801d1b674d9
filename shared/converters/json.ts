import type { Converter } from '../connect/converter.ts';
import { rowError } from '../connect/errors.ts';
import { isPlainObject, misfit } from '../connect/fit.ts';
import { parseJson, writeJson } from '../connect/json.ts';
import { any, type Value } from '../connect/schema.ts';
import { fromConnect, fromConnectSchema, toConnect, toConnectSchema } from './connect-json.ts';

export interface JsonConverterOptions {
  /** Kafka Connect's `schemas.enable`: each message is `{schema, payload}`. Without it, the plain value. @default false */
  readonly schemasEnable?: boolean;
}

/**
 * Kafka Connect's JsonConverter. With schemas, logical types travel under the names that Kafka Connect and Debezium give them and come
 * back as they were; without, a value is decoded as undeclared, every number exact.
 */
export const jsonConverter = ({ schemasEnable = false }: JsonConverterOptions = {}): Converter => ({
  type: 'json',
  decode(bytes) {
    if (bytes === null || bytes.length === 0) return { value: null };
    const message = parse(bytes);
    if (!schemasEnable) return { value: message };
    if (!isPlainObject(message) || !('schema' in message) || !('payload' in message))
      throw rowError('expected {"schema": …, "payload": …}: the message has no schema, set schemas.enable to false');
    if (message.schema === null) return { value: message.payload! };
    const schema = fromConnectSchema(message.schema!);
    const value = fromConnect(schema, message.payload!);
    const problem = misfit(schema, value, 'payload');
    if (problem !== undefined) throw rowError(problem);
    return { schema, value };
  },
  encode({ schema = any, value }) {
    if (value === null && !schemasEnable) return null;
    const message: Value = schemasEnable
      ? { schema: toConnectSchema(schema), payload: toConnect(schema, value) }
      : value;
    return Buffer.from(writeJson(message));
  },
});

const utf8 = new TextDecoder('utf-8', { fatal: true });

const parse = (bytes: Uint8Array): Value => {
  try {
    return parseJson(utf8.decode(bytes));
  } catch (cause) {
    throw rowError(`not JSON: ${(cause as Error).message}`, cause);
  }
};
